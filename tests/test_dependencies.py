"""Declared dependencies are those that are imported, and all of them are pinned."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {
    "openslide-bin": "the C library that openslide-python loads",
    "gcsfs": "fsspec loads it for gs://",
    "s3fs": "fsspec loads it for s3://",
    "onnx": "torch's exporter to ONNX loads it",
    "python-multipart": "FastAPI loads it to read uploads",
}
"""Requirements that another package loads."""
AT_HOME_ONLY = {
    "ipython": "imported only where a Jupyter kernel runs, which brings it",
    "pynvml": "NVIDIA's counters, read where they are installed",
}
"""Imports that are no requirements."""
NOT_PINNED = {
    "openvino": "a peer of the extra bench",
    "wandb": "its tests are run where it is installed: it is large",
    "trackio": "it asks for an earlier Pillow than is pinned",
}
"""Requirements that CI does not install."""


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[>=<; ]", text)[0]) for text in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, str]:
    """Distributions that the package imports anywhere, each with a module that does."""
    tops: dict[str, str] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            tops |= {str(module).partition(".")[0]: path.name for module in modules}
    of_others = tops.keys() - set(sys.stdlib_module_names) - {"cytolora"}
    owners = distributions_of(of_others)
    return {normal(name): tops[top] for top in of_others for name in owners.get(top, [top])}


def distributions_of(tops: Iterable[str]) -> dict[str, list[str]]:
    """By module, the distributions whose record names it; ``packages_distributions`` makes a path of every file."""
    found: dict[str, list[str]] = {}
    for one in distributions():
        record = "\n" + (one.read_text("RECORD") or "")
        for top in tops:
            if f"\n{top}/" in record or f"\n{top}.py" in record:
                found.setdefault(top, []).append(one.metadata["Name"])
    return found


def test_every_dependency_is_imported_and_every_import_is_a_dependency():
    extras = PROJECT["optional-dependencies"]
    of_users = [text for name, texts in extras.items() if name not in ("dev", "bench", "docs") for text in texts]
    declared = names(PROJECT["dependencies"] + of_users)
    found = imported()
    assert declared - found.keys() - NOT_IMPORTED.keys() == set()
    assert {name: by for name, by in found.items() if name not in declared | AT_HOME_ONLY.keys()} == {}


def test_constraints_pin_every_dependency():
    pinned = names((ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    everything = PROJECT["dependencies"] + [
        text for texts in PROJECT["optional-dependencies"].values() for text in texts
    ]
    assert names(everything) - {"cytolora"} - NOT_PINNED.keys() - pinned == set()


def test_the_bound_of_every_dependency_is_the_version_that_is_tested_as_lowest():
    """``make test-versions`` installs constraints-lowest.txt."""
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").split()
    lowest = {name: Version(number) for name, number in (line.split("==") for line in lines)}
    extras = [texts for name, texts in PROJECT["optional-dependencies"].items() if name not in {"bench", "dev", "docs"}]
    for text in [*PROJECT["dependencies"], *(text for texts in extras for text in texts)]:
        asked = Requirement(text)
        (bound,) = asked.specifier
        if normal(asked.name) not in NOT_PINNED:
            assert (bound.operator, Version(bound.version)) == (">=", lowest[normal(asked.name)]), text
