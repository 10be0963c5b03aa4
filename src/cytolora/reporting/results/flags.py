"""Flags: remarks grave enough to stand beside a number in tables, files and figures."""

from collections.abc import Iterable

from cytolora.data.grouping import GROUPS_UNKNOWN, SPLIT_BY_IMAGE
from cytolora.display import format as words
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import Setting

GRAVE = ("wrong attention", "cut", SPLIT_BY_IMAGE, GROUPS_UNKNOWN, "repeated", "preset", "incomplete")
"""Tags of ``marks`` that make a number another experiment than its neighbours, or than it is taken for."""

_SAID = {
    "wrong attention": "wrong attention on purpose",
    "cut": "budget cut: a dry run",
    SPLIT_BY_IMAGE: "split by image, patients may be on both sides (group leakage)",
    GROUPS_UNKNOWN: "groups unknown, patients may be on both sides (group leakage)",
    "repeated": "images repeated in small classes",
    "preset": "another preset than the paper's text",
    "incomplete": "some seeds only",
}


def flags(setting: Setting) -> tuple[str, ...]:
    """Returns the grave tags of a setting."""
    tags = {mark.tag for mark in marks(setting)}
    return tuple(tag for tag in GRAVE if tag in tags)


def suffix(setting: Setting) -> str:
    """`` [cut, repeated]`` to put behind a number; empty where nothing is grave."""
    found = flags(setting)
    return f" [{', '.join(found)}]" if found else ""


def in_file(setting: Setting) -> str:
    """``cut; repeated`` for the column ``flags`` of a file; empty where nothing is grave."""
    return "; ".join(flags(setting))


def caution(settings: Iterable[Setting]) -> str:
    """Says how many of the drawn settings bear which grave tag; empty where none does."""
    drawn = list(settings)
    found = [[tag in flags(setting) for setting in drawn] for tag in GRAVE]
    parts = [
        f"{sum(column)} of {words.count(len(drawn), 'setting')}: {_SAID[tag]}"
        for tag, column in zip(GRAVE, found, strict=True)
        if any(column)
    ]
    return "; ".join(parts)


def in_caption(settings: Iterable[Setting]) -> str:
    """Says the same as a sentence behind a caption; empty where there is nothing to say."""
    text = caution(settings)
    return f" Caution: {text}." if text else ""
