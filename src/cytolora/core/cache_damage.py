"""Notices of damaged cache entries: one counted line a folder, however many of its entries are damaged."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Damage:
    """Damaged entries that no line was written of yet."""

    lock: Lock = field(default_factory=Lock)
    depth: int = 0
    """Of blocks of ``one_notice`` that this process is in."""
    found: dict[Path, dict[Path, int]] = field(default_factory=dict)
    """By folder: the files with damaged entries, in the order of their discovery, with the number of these."""


_damage = _Damage()


def note_damage(folder: Path, entry: Path, number: int = 1) -> None:
    """Counts damaged entries of a folder, to be told of at the end of ``one_notice``; outside of one, at once.

    Args:
        entry: The file with the first of them.
    """
    with _damage.lock:
        _damage.found.setdefault(folder, {})[entry] = number  # read again before it is made anew, it counts once
        is_told_later = _damage.depth > 0
    if not is_told_later:
        _tell()


@contextmanager
def one_notice() -> Iterator[None]:
    """Gathers notices of damage from whatever thread into one line a folder, at the end of the outermost block."""
    with _damage.lock:
        _damage.depth += 1
    try:
        yield
    finally:
        with _damage.lock:
            _damage.depth -= 1
            is_outermost = _damage.depth == 0
        if is_outermost:
            _tell()


def _tell() -> None:
    with _damage.lock:
        found, _damage.found = _damage.found, {}
    for folder, files in found.items():
        number, first = sum(files.values()), next(iter(files))
        if number == 1:
            log.warning("%s is damaged: what is damaged of it is not used but made anew.", first)
        else:
            log.warning(
                "%s entries of %s are damaged (the first: %s): they are not used but made anew.",
                f"{number:,}",
                folder,
                first.name,
            )


def _forget() -> None:
    """Starts a forked process without what its parent has to tell, or a lock that a thread of its parent holds."""
    global _damage
    _damage = _Damage()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
