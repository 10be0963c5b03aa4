"""Declared dependencies are those that are imported; the wheel holds what the package reads."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOT_IMPORTED = {
    "openslide-bin": "the C library that openslide-python loads",
    "onnx": "torch's exporter to ONNX loads it",
    "python-multipart": "FastAPI loads it to read uploads",
}
"""Requirements that another package loads."""
AT_HOME_ONLY = {"ipython": "imported only where a Jupyter kernel runs, which brings it"}
"""Imports that are no requirements."""
BENCHMARKS_ONLY = {"openvino"}
"""Peers of the extra ``bench``: not imported by the package, and not installed by CI."""


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[\[>=<; ]", text)[0]) for text in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported() -> dict[str, str]:
    """Distributions that the package imports anywhere, each with a module that does."""
    owners = packages_distributions()
    found: dict[str, str] = {}
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for top in {str(module).partition(".")[0] for module in modules} - set(sys.stdlib_module_names):
                if top != "cytolora":
                    found |= {normal(name): path.name for name in owners.get(top, [top])}
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
    assert names(everything) - {"cytolora"} - BENCHMARKS_ONLY - pinned == set()


@pytest.mark.slow
def test_an_unpacked_wheel_lists_plans_and_writes_a_page(tmp_path: Path, drawn_cells: Path):
    """Needs pip and, where hatchling is not installed, a package index."""
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir", str(tmp_path), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False, timeout=300)
    if built.returncode != 0 and "hatchling" in built.stderr:
        pytest.skip("hatchling is neither installed nor to be fetched")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("cytolora-*.whl")
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if name.startswith("cytolora/")}
        packed.extractall(tmp_path / "site")
    sources = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()]
    assert {path.as_posix() for path in sources if "__pycache__" not in path.parts} == held
    program = """
import cytolora, sys
assert cytolora.__file__.startswith(sys.argv[1]), cytolora.__file__
from cytolora.cli.app import main
for command in (["ls", "models"], ["ls", "presets"], ["plan", "exp1"], ["check", sys.argv[2], "--page", "check.html"]):
    try:
        main(command)
    except SystemExit as stop:
        assert stop.code in (None, 0, 1), command  # 1: duplicates among drawn cells
"""
    site = str(tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": site, "OMP_NUM_THREADS": "1"}
    used = [sys.executable, "-c", program, site, str(drawn_cells)]
    done = subprocess.run(used, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "check.html").is_file()
