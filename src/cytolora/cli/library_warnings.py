"""Warnings of libraries during a command, folded into one counted line; our own log records are printed as ever."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

_OURS = "cytolora"
_MAX_SHOWN = 160


class LibraryWarnings(logging.Handler):
    """Counts warnings by the package that they come from, and keeps the first."""

    def __init__(self, otherwise: logging.Handler | None) -> None:
        """Takes the handler for records of our own."""
        super().__init__(logging.WARNING)
        self._otherwise = otherwise
        self._counts: Counter[str] = Counter()
        self._first = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Counts a log record of a library that has no handler of its own."""
        if record.name.partition(".")[0] == _OURS:
            if self._otherwise is not None:
                self._otherwise.handle(record)
            return
        self._add(record.name.partition(".")[0], record.getMessage())

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Counts a warning; takes the place of ``warnings.showwarning``."""
        self._add(_package(filename), str(message))

    def line(self) -> str:
        """Returns the line that tells of all; empty where there were none."""
        number = self._counts.total()
        if not number:
            return ""
        packages = ", ".join(f"{name} {count:,}" for name, count in self._counts.most_common())
        nouns = "1 warning of a library" if number == 1 else f"{number:,} warnings of libraries"
        return f"{nouns} ({packages}); the first: {self._first}"

    def _add(self, package: str, text: str) -> None:
        self._counts[package] += 1
        if not self._first:
            text = " ".join(text.split())
            self._first = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


@contextmanager
def folded() -> Iterator[LibraryWarnings]:
    """Counts what libraries warn of within, instead of printing it."""
    shown: Any = warnings.showwarning
    last = logging.lastResort
    found = LibraryWarnings(last)
    warnings.showwarning, logging.lastResort = found.show, found  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield found
    finally:
        warnings.showwarning, logging.lastResort = shown, last


def _package(filename: str) -> str:
    """Names the package that a source file belongs to: the folder below ``site-packages``, else the module."""
    parts = Path(filename).parts
    for root in ("site-packages", "dist-packages"):
        if root in parts[:-1]:
            return Path(parts[parts.index(root) + 1]).stem
    return _OURS if _OURS in parts else Path(filename).stem
