"""Marks grave enough to stand beside a number wherever it goes: in tables, files and pictures."""

from collections.abc import Iterable

from matplotlib.figure import Figure as Drawing

from cytolora.report import words
from cytolora.report.cells import Cell
from cytolora.report.marks import marks

GRAVE = ("wrong attention", "cut", "repeated", "preset", "incomplete")
"""Tags of ``marks`` that make a number another experiment than its neighbours."""

_SAID = {
    "wrong attention": "wrong attention on purpose",
    "cut": "budget cut: a rehearsal",
    "repeated": "images repeated in small classes",
    "preset": "another preset than the paper's text",
    "incomplete": "some seeds only",
}


def flags(cell: Cell) -> tuple[str, ...]:
    """Returns the grave tags of a cell."""
    tags = {mark.tag for mark in marks(cell)}
    return tuple(tag for tag in GRAVE if tag in tags)


def suffix(cell: Cell) -> str:
    """`` [cut, repeated]`` to put behind a number; empty where nothing is grave."""
    found = flags(cell)
    return f" [{', '.join(found)}]" if found else ""


def caution(cells: Iterable[Cell]) -> str:
    """Says how many of the drawn cells bear which grave tag; empty where none does."""
    drawn = list(cells)
    found = [[tag in flags(cell) for cell in drawn] for tag in GRAVE]
    parts = [
        f"{sum(column)} of {words.count(len(drawn), 'cell')}: {_SAID[tag]}"
        for tag, column in zip(GRAVE, found, strict=True)
        if any(column)
    ]
    return "; ".join(parts)


def stamp(drawing: Drawing, text: str) -> None:
    """Writes a caution below a drawing, so that it goes wherever the picture goes."""
    if text:
        drawing.text(0.5, -0.01, f"Read with care: {text}.", ha="center", va="top", fontsize=7.5, color="#7a3500")
