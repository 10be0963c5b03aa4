"""Sources of the site in one folder: the pages as they stand, those made from the code, tables of contents."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from reference import pages

ROOT = Path(__file__).resolve().parents[2]
LOOSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINKED = ("src", "examples", "scripts")
"""Folders that pages link to."""
FOLDERS = ("docs/datasets", "docs/examples")
"""Folders whose README.md heads the pages in them."""
_LINK = re.compile(r"\[([^\[\]]+)\]\(([^)#:]+)\.(?:md|ipynb)\)")
_REFERENCE = {
    "Python": "reference/python/index.md",
    "Commands": "reference/commands/index.md",
    "Backbones": "reference/backbones/index.md",
    "Datasets": "reference/datasets.md",
    "Methods": "reference/methods.md",
    "Grids": "reference/grids.md",
    "Presets": "reference/presets.md",
    "Engines": "reference/engines.md",
}


def sections() -> dict[str, str]:
    """Sections of docs/index.md by their titles."""
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, _, body in (part.partition("\n") for part in parts)}


def linked_pages(text: str) -> dict[str, str]:
    """Pages that a text links to, in order, without suffix, each with the words of its first link."""
    found: dict[str, str] = {}
    for words, page in _LINK.findall(text):
        found.setdefault(page, words)
    return found


def assemble(target: Path) -> None:
    """Writes all sources of the site to an empty folder."""
    target.mkdir(parents=True)
    for name in LOOSE:
        shutil.copy(ROOT / name, target / name)
    for name in LINKED:
        (target / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "docs", target / "docs")
    for name, text in pages().items():
        path = target / "docs" / "reference" / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    parts = sections()
    parts["Reference"] += "\n\n" + "\n".join(f"* [{title}]({page})" for title, page in _REFERENCE.items())
    for title, body in parts.items():
        contents = _toctree(linked_pages(body))
        (target / "docs" / f"{_slug(title)}.md").write_text(f"# {title}\n\n{body}\n\n{contents}", encoding="utf-8")
    _append(target / "docs" / "index.md", {_slug(title): title for title in parts})
    for folder in FOLDERS:
        index = target / folder / "README.md"
        linked = linked_pages(index.read_text(encoding="utf-8"))
        _append(index, {page: words for page, words in linked.items() if not page.startswith("..")})


def _slug(title: str) -> str:
    return re.sub(r"\W+", "-", title.lower())


def _append(page: Path, entries: Mapping[str, str]) -> None:
    page.write_text(f"{page.read_text(encoding='utf-8')}\n{_toctree(entries)}", encoding="utf-8")


def _toctree(entries: Mapping[str, str]) -> str:
    lines = [f"{words} <{page}>" for page, words in entries.items()]
    return "```{toctree}\n:hidden:\n\n" + "\n".join(lines) + "\n```\n"
