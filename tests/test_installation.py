"""How the package and its extras are installed: from a clone or a wheel, never by a name that anyone could register."""

import re
import tomllib
from pathlib import Path

import pytest

from cytolora.errors import ConfigError, missing_package

ROOT = Path(__file__).resolve().parents[1]
BY_NAME = re.compile(r"""pip3?\s+install(?:[^`\n]*?[ \t'"]|\s+)cytolora(?![\w.-]*\.whl)\b""")
SUFFIXES = {".md", ".py", ".yaml", ".toml", ".j2", ".html", ".js", ".css", ".txt", ""}


def _shipped_texts() -> list[Path]:
    folders = [ROOT / name for name in ("src", "docs", "benchmarks", "scripts")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file()]
    return [*files, *(path for path in ROOT.iterdir() if path.suffix in SUFFIXES and path.is_file())]


@pytest.mark.parametrize(
    ("text", "is_by_name"),
    [
        ("pip install cytolora", True),
        ("pip install 'cytolora[ray]'", True),
        ("pip3 install --no-deps cytolora==0.1.0", True),
        ("run pip install\ncytolora", True),
        ("pip install '.[ray]'\ncytolora run exp2", False),
        ("pip install '.[ray]'` in a clone of cytolora", False),
        ("pip install --no-deps dist/cytolora-*.whl", False),
        ("pip install fastapi uvicorn  # for `cytolora serve`", False),
    ],
)
def test_an_installation_by_name_is_told_from_one_of_a_clone_or_wheel(text: str, is_by_name: bool):
    assert bool(BY_NAME.search(text)) == is_by_name


def test_no_shipped_text_installs_the_package_by_its_unpublished_name():
    texts = _shipped_texts()
    assert {"README.md", "deploy.md", "app.py", "Makefile"} <= {path.name for path in texts}
    said = {path: BY_NAME.findall(path.read_text(encoding="utf-8")) for path in texts}
    assert {str(path.relative_to(ROOT)): lines for path, lines in said.items() if lines} == {}


def test_a_missing_package_is_said_with_its_extra_and_both_ways_to_install_it():
    error = missing_package("Slides need", "OpenSlide", extra="wsi")
    assert isinstance(error, ConfigError)
    assert str(error) == (
        "Slides need OpenSlide, which is not installed. Install the extra `wsi`: `pip install '.[wsi]'` in a clone of "
        "cytolora, or `pip install 'FILE.whl[wsi]'` with its wheel."
    )


def test_the_readme_says_what_every_extra_is_for_and_how_to_install_without_a_gpu():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]{10,} \| *(\d*) \|$", readme, re.MULTILINE))
    assert rows.keys() == extras.keys() - {"dev"}
    assert [name for name, megabytes in rows.items() if not megabytes] == ["bench"]  # OpenVINO is not installed here
    assert "https://pytorch.org/get-started/locally/" in readme
    assert "--index-url" not in readme


def test_every_extra_that_a_message_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py")]
    named = {name for text in sources for name in re.findall(r'missing_package\([^\n]*extra="(\w+)"', text)}
    assert named == {"text", "ray", "onnx", "serve", "cloud", "wsi", "exchange"}
    assert named <= extras.keys()
