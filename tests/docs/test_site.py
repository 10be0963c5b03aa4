"""The documentation site: every page in its contents, every link alive, every public name with a page."""

import os
import re
import subprocess
import sys
from html import unescape
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import pytest

import cytolora

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "scripts" / "docs_site"
INDEX = ROOT / "docs" / "index.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "report" not in page.relative_to(ROOT).parts]  # tables of an example
LINK = re.compile(r"\]\(([^()\s]*(?:\([^()\s]*\)[^()\s]*)*)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_MOST_SECONDS = 60


def links(page: Path) -> list[str]:
    """Targets of links to other places of this repository."""
    return [found for found in LINK.findall(CODE.sub("", page.read_text("utf-8"))) if not re.match(r"\w+:", found)]


def anchors(page: Path) -> set[str]:
    """Anchors of headings, as forges and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    found = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_a_heading_that_exist(page: Path):
    assert dead_links(page) == []


def test_a_dead_link_and_a_dead_anchor_would_be_seen(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[a](#a-title) [b](#b) [c](page.md#a-title) [d](no.md) [e](https://e.org) `[f](no.md)`\n"
    )
    assert dead_links(page) == ["#b", "no.md"]


def test_every_page_and_notebook_is_in_the_contents():
    indices = [INDEX, *ROOT.glob("docs/*/README.md")]
    listed = {(index.parent / link).resolve() for index in indices for link in links(index)}
    pages = [page for page in (*PAGES, *sorted((ROOT / "docs").rglob("*.ipynb"))) if page != INDEX]
    assert [str(page.relative_to(ROOT)) for page in pages if page not in listed] == []


def test_the_readme_leads_to_the_contents():
    assert "docs/index.md" in links(ROOT / "README.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make site` builds it."""
    for package in ("sphinx", "myst_parser", "pydata_sphinx_theme"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed (extra `docs`)")
    out = tmp_path_factory.mktemp("site")
    source = str(Path(cytolora.__file__ or "").parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(SITE), "--out", str(out)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=5 * _MOST_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.mark.slow
def test_every_public_name_command_and_backbone_has_a_page(site: Path):
    from cytolora.cli.app import _COMMANDS
    from cytolora.models.backbones.registry import SHIPPED

    reference = site / "docs" / "reference"
    for name in set(cytolora.__all__) - {"__version__"}:
        assert f'id="cytolora.{name}"' in (reference / "python" / f"{name}.html").read_text("utf-8")
    for name in _COMMANDS:
        assert f"<h1>cytolora {name}<" in (reference / "commands" / f"{name}.html").read_text("utf-8")
    for one in SHIPPED:
        assert one.architecture in (reference / "backbones" / f"{one.name}.html").read_text("utf-8")


@pytest.mark.slow
def test_the_built_pages_fetch_nothing_name_no_folder_and_link_to_what_is_there(site: Path):
    pages, problems = sorted(site.rglob("*.html")), []
    assert len(pages) > 100
    texts = {page: page.read_text("utf-8") for page in pages}
    for page, text in texts.items():
        if "report" in page.parts:
            continue
        problems += [(page.name, place) for place in (str(ROOT), str(Path.home())) if place in text and len(place) > 1]
        fetched = re.findall(r'<(?:script|img|source)[^>]*\ssrc="([^"]*)|<link[^>]*\shref="([^"]*)', text)
        problems += [(page.name, one) for pair in fetched for one in pair if re.match(r"(https?:)?//", one)]
        for link in re.findall(r'<a[^>]*\shref="([^"]+)"', text):
            path, _, anchor = unquote(unescape(link)).partition("#")
            target = (page.parent / path).resolve() if path else page
            if re.match(r"\w+:", link):
                continue
            if not target.is_file() or (anchor and target in texts and f'id="{anchor}"' not in texts[target]):
                problems.append((page.name, link))
    assert problems == []
