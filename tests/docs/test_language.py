"""Module headers open with the field's own words, so that a search for a term finds its module."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import cytolora

_SOURCE = Path(cytolora.__file__).parent
_INDIRECT = re.compile(r"(What|How|Whether|Which|Where|From|Says|Who|When)\b")

_PACKAGES = sorted(path.name for path in _SOURCE.iterdir() if (path / "__init__.py").is_file())

_TERMS = {
    "temperature scaling": "metrics/calibration.py",
    "bootstrap": "metrics/bootstrap.py",
    "group leakage": "data/grouping.py",
    "cross-validation": "classifier/fit/linear.py",
    "model card": "classifier/bundle/model_card.py",
}


@cache
def _headers() -> dict[str, str]:
    """First line of every module's docstring, by path relative to the package."""
    docs = {path: ast.get_docstring(ast.parse(path.read_text())) for path in sorted(_SOURCE.rglob("*.py"))}
    return {path.relative_to(_SOURCE).as_posix(): doc.splitlines()[0] for path, doc in docs.items() if doc}


@pytest.mark.parametrize("package", _PACKAGES)
def test_no_module_header_opens_with_an_indirect_question(package: str):
    headers = {path: line for path, line in _headers().items() if path.startswith(f"{package}/")}
    assert headers
    assert {path: line for path, line in headers.items() if _INDIRECT.match(line)} == {}


def test_no_header_of_a_module_outside_the_packages_opens_with_an_indirect_question():
    loose = {path: line for path, line in _headers().items() if "/" not in path}
    assert {path: line for path, line in loose.items() if _INDIRECT.match(line)} == {}


@pytest.mark.parametrize(("term", "module"), _TERMS.items())
def test_a_search_for_a_term_finds_its_module_by_the_first_line(term: str, module: str):
    assert term in _headers()[module].lower()
