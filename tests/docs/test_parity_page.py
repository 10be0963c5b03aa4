"""docs/parity.md names a test for every difference; each of them can fail, and the page knows every preset."""

import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from cytolora.config.preset import shipped_presets
from cytolora.config.run import Preprocess
from cytolora.models.backbones.registry import BACKBONES

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "parity.md"
CLIP = Preprocess(
    size_px=224,
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)


def problems(name: str, sources: Iterable[str]) -> list[str]:
    """Says why a named test cannot hold what the page says of it; empty where it can."""
    modules = [ast.parse(source) for source in sources if f"def {name}(" in source]
    found = [
        (node, module)
        for module in modules
        for scope in (module, *(one for one in module.body if isinstance(one, ast.ClassDef)))
        for node in scope.body
        if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    if len(found) != 1:
        return [f"stands in {len(found)} files"]
    ((test, module),) = found
    marks = [ast.unparse(mark) for mark in test.decorator_list]
    off = [mark for mark in marks if re.match(r"pytest\.mark\.(skip|xfail)\b", mark)]
    own = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef) and node is not test}
    return [f"is left out: {mark}" for mark in off] + ([] if _asserts(test, own) else ["asserts nothing"])


def _asserts(function: ast.AST, helpers: Mapping[str, ast.AST]) -> bool:
    """Whether a function has an assertion, or calls a helper that has."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert) and not isinstance(node.test, ast.Constant):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if "assert_" in called or called in ("pytest.raises", "prove_attached"):
                return True
            if called in helpers and _asserts(helpers[called], {}):
                return True
    return False


def test_every_test_that_the_page_names_stands_once_is_run_and_asserts_something():
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    sources = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    assert len(named) > 30
    assert {name: found for name in sorted(named) if (found := problems(name, sources))} == {}


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def test_a(): pass", "asserts nothing"),
        ("def test_a():\n    '''Words.'''\n    assert True", "asserts nothing"),
        ("def test_a():\n    print('assert')", "asserts nothing"),
        ("@pytest.mark.skip(reason='later')\ndef test_a():\n    assert f() == 1", "is left out"),
        ("@pytest.mark.xfail\ndef test_a():\n    assert f() == 1", "is left out"),
        ("def helper():\n    def test_a():\n        assert f() == 1", "stands in 0 files"),
        ("'''\ndef test_a(): assert f()\n'''", "stands in 0 files"),
        ("def test_a(x):\n    check(x)\ndef check(x):\n    assert x == 1", ""),
        ("@pytest.mark.slow\ndef test_a():\n    with pytest.raises(ValueError):\n        f()", ""),
    ],
)
def test_a_named_test_that_cannot_fail_would_be_seen(source: str, problem: str):
    found = problems("test_a", [source, "def test_b(): pass"])
    assert [one.partition(":")[0] for one in found] == ([problem] if problem else [])


def test_every_row_of_the_pages_tables_names_a_test():
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "---" not in line]
    tables = [row for row in rows if row.count("|") >= 4 and not row.endswith("held by |")]
    assert [row for row in tables if "`test_" not in row] == []


def test_the_page_knows_every_preset():
    assert all(name in PAGE.read_text() for name in shipped_presets())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip-vit-b16", CLIP),
        ("clip-vit-l14", CLIP),
        ("quiltnet-b16", CLIP),
        ("quiltnet-b32", CLIP),
        ("biomedclip", CLIP),
        (
            "uni",
            Preprocess(size_px=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bilinear"),
        ),
        (
            "vit-b16",
            Preprocess(
                size_px=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear", resize="squash"
            ),
        ),
    ],
)
def test_the_papers_models_see_the_views_of_their_owners(name: str, expected: Preprocess):
    assert BACKBONES.get(name).preprocess == expected
