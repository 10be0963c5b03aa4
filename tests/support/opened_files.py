"""Counts how often files below a folder are opened by this process, whoever opens them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_watched: list[tuple[str, Counter[str]]] = []
"""Folders, each with the counts of its files."""


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | os.PathLike):
        path = os.fspath(arguments[0])
        for folder, counts in _watched:
            if path.startswith(folder):
                counts[Path(path).relative_to(folder).as_posix()] += 1


_hooks: list[object] = []


@contextmanager
def opened_below(folder: Path) -> Iterator[Counter[str]]:
    """Yields the number of times that each file below a folder was opened inside, by its path relative to it."""
    if not _hooks:
        sys.addaudithook(_note)  # which nothing takes away again
        _hooks.append(_note)
    watched = (f"{folder}{os.sep}", Counter[str]())
    _watched.append(watched)
    try:
        yield watched[1]
    finally:
        _watched.remove(watched)
