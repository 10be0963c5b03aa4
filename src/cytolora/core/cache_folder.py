"""Cache folder: values that can be computed anew, each under a checksum over key and content, within a limit of bytes.

``CachedFiles`` keeps values of one kind, a file each; core/shards.py keeps many small ones in a file, and
data/imaging/cache.py maps large ones into memory. All three check what they read, count as absent what is damaged
(core/cache_damage.py tells of it), and report what they write to ``wrote``, which keeps the folder within its limit.
"""

import errno
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import platformdirs

from cytolora.core.cache_damage import note_damage
from cytolora.core.cache_entries import (
    KINDS,
    claim,
    entries,
    is_empty,
    is_marked,
    mark_used,
    remove_abandoned,
    remove_least_used,
)
from cytolora.core.checksum import add_checksum, checked, has_checksum, is_like_checksum
from cytolora.core.files import write_bytes

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 50 * 10**9
"""Bytes that a cache folder may take where nobody has said otherwise."""

_LIMIT = "limit"
"""The file in a cache folder that keeps its limit."""
_LOOKS = 20
"""How often a process looks for room while it writes as many bytes as the limit."""
_UNFIT = (ValueError, KeyError, TypeError, IndexError, AttributeError)

_Value = TypeVar("_Value")


def default_cache() -> Path:
    """Returns the user's folder of decoded images, features and adapters: ``~/.cache/cytolora`` on Linux.

    No call writes into the working directory or beside the data. Its contents can be computed anew; it may be deleted
    at any time.
    """
    return platformdirs.user_cache_path("cytolora", appauthor=False)


@dataclass(frozen=True, slots=True)
class CachedFiles:
    """Cached values of one kind, a file each under a name that says all that decides the value.

    A value that is damaged, or that was kept under another name, counts as absent; it is told of, once.
    """

    folder: Path
    """Named after the kind, in a cache folder."""

    def read(self, name: str, decode: Callable[[bytes], _Value]) -> _Value | None:
        """Returns the value of a name, or None where there is none.

        Args:
            decode: Reads and checks the content; a ValueError, KeyError or TypeError of it counts as damage.
        """
        path = self.folder / name
        try:
            kept = path.read_bytes()
        except OSError:
            return None
        content = checked(memoryview(kept), key=self._key(name))
        if content is None:
            content = checked(memoryview(kept), key=name)  # an earlier version's
        if content is not None:
            with suppress(*_UNFIT):
                value = decode(bytes(content))
                if self.folder.name in KINDS:
                    mark_used(path)
                return value
        if content is not None or not _is_without_checksum(kept, decode):
            note_damage(self.folder, path)
        return None

    def keep(self, name: str, content: bytes) -> None:
        """Writes a value, whole or not at all.

        Raises:
            OSError: If the disk is full or the folder may not be written to.
        """
        kept = add_checksum(content, key=self._key(name))
        write_bytes(self.folder / name, kept, durable=False)  # what a power cut tears, the checksum finds
        wrote(self.folder, len(kept))

    def keep_if_possible(self, name: str, content: bytes) -> None:
        """Writes a value that took long to make; where it cannot be written, a warning says so."""
        try:
            self.keep(name, content)
        except OSError as error:
            why = error.strerror or error
            log.warning("Cannot keep values in %s: %s. They are made anew next time.", self.folder, why)

    def _key(self, name: str) -> str:
        return f"{self.folder.name}/{name}"


def _is_without_checksum(kept: bytes, decode: Callable[[bytes], object]) -> bool:
    """Whether this is a whole value that another version kept without a checksum: no damage, but nothing to rely on."""
    if is_like_checksum(kept) or not kept.strip(b"\0"):
        return False
    with suppress(Exception):  # of whatever bytes, each decoder raises its own
        decode(kept)
        return True
    return False


def is_cache(root: Path) -> bool:
    """Whether a folder is a cache of this package: it bears its mark, or holds an entry, a limit, or an empty kind."""
    if is_marked(root) or any(True for _ in entries(root)) or _is_ours(root / _LIMIT):
        return True
    return any(is_empty(root / kind) for kind in KINDS)


def limit_of(root: Path) -> int | None:
    """Returns the bytes that a cache folder may take; None: without limit."""
    path = root / _LIMIT
    try:
        kept = path.read_bytes()
    except OSError:
        return DEFAULT_LIMIT
    content = checked(memoryview(kept), key=_LIMIT)
    if content is None:
        if path not in _told and (has_checksum(kept) or is_marked(root)):  # else a file of the user's
            _told.add(path)
            note_damage(root, path)
        return DEFAULT_LIMIT
    return int(bytes(content)) if bytes(content).isdigit() else None


def set_limit(root: Path, limit_bytes: int | None) -> None:
    """Keeps a limit with a cache folder, for this and later commands, and removes what is beyond it.

    Writes and removes nothing where the folder has this limit already.

    Raises:
        OSError: If the folder may not be written to.
    """
    path = root / _LIMIT
    if root.is_dir() and limit_of(root) == limit_bytes and path not in _told:
        return
    claim(root)
    if path.exists() and not is_marked(root) and not _is_ours(path):
        raise OSError(errno.EEXIST, f"its file `{_LIMIT}` is none of cytolora", str(path))
    content = b"none" if limit_bytes is None else str(limit_bytes).encode()
    write_bytes(path, add_checksum(content, key=_LIMIT))
    _told.difference_update((path, root))
    bound(root)


def _is_ours(path: Path) -> bool:
    """Whether a file begins with a checksum of this package."""
    try:
        return has_checksum(path.read_bytes())
    except OSError:
        return False


def bound(root: Path, *, spares_last: bool = False) -> None:
    """Removes the least recently used entries of a cache folder that nears its limit, and what killed writers left."""
    remove_abandoned(root)
    limit = limit_of(root)
    if limit is None:
        return
    in_use = remove_least_used(root, limit, spares_last=spares_last)
    if in_use >= limit > 0 and root not in _told:
        _told.add(root)
        log.warning(
            "The limit of %s, %s bytes, is too small for what is in use, %s bytes: little else is kept. "
            "Give a larger --cache-limit.",
            root,
            f"{limit:,}",
            f"{in_use:,}",
        )


@dataclass(slots=True)
class _Written:
    """Bytes that this process wrote to a cache folder since it looked for room, and after how many it looks again."""

    num_bytes: int = 0
    room: float = 0


def tell_unkept(what: str, folder: Path, error: OSError, then: str) -> None:
    """Warns that values cannot be kept in the folder of a kind, once a process: the work goes on without.

    Args:
        then: What becomes of them, without a full stop.
    """
    if folder not in _unkept:
        _unkept.add(folder)
        log.warning("Cannot keep %s in %s: %s. %s.", what, folder, error.strerror or error, then)


_unkept: set[Path] = set()
"""Folders that a line was written of, since nothing can be kept there."""
_told: set[Path] = set()
"""Damaged limits, and folders with one that is too small, that a line was written of."""
_written: dict[Path, _Written] = {}


def wrote(folder: Path, num_bytes: int) -> None:
    """Counts what was written to the folder of a kind, and now and then makes room in the cache that it is in.

    The first time that a process writes, and again after each twentieth of the limit: looking at every entry takes
    seconds where there are a million.
    """
    root = folder.parent
    if folder.name not in KINDS:
        return
    since = _written.setdefault(root, _Written())
    since.num_bytes += num_bytes
    if since.num_bytes > since.room:
        claim(root, is_ours=root == default_cache())
        limit = limit_of(root)
        since.num_bytes, since.room = 0, float("inf") if limit is None else limit / _LOOKS
        bound(root, spares_last=True)
