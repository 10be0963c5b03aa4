"""Append-only shards of checksummed entries: a cache that several processes read and write without a lock.

A shard is a file of up to ``MAX_ENTRIES`` entries behind an index of their names and sizes. It is written whole, under
a name made from its content, and never changed; a reader merges the indexes of whatever shards there are. The time of
change of a shard's file is that of its last use, so that whole shards can be dropped by age.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

from cytolora.core.cache_damage import note_damage
from cytolora.core.cache_entries import mark_used
from cytolora.core.cache_folder import wrote
from cytolora.core.checksum import add_checksum, checked
from cytolora.core.files import canonical_json, sha256_text, write_bytes
from cytolora.core.strict_json import read_json

MAX_ENTRIES = 1024
"""Per shard."""
_SUFFIX = ".shard"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    shard: Path
    offset: int
    num_bytes: int


@dataclass(slots=True, kw_only=True)
class _Read:
    whole: dict[str, bytes] = field(default_factory=dict)
    num_damaged: int = 0
    """With a checksum that was read, and is wrong."""
    num_unread: int = 0


class ShardStore:
    """Cached bytes by name, all computed in the same way; memory holds the index alone.

    A damaged entry counts as absent: it is told of by a warning, and its shard replaced by one of the entries that are
    whole.
    """

    def __init__(self, folder: Path, *, key: str) -> None:
        """Opens the part of ``folder`` that belongs to ``key``, which says all that decides an entry but its name."""
        self._key = sha256_text(key)
        self._kind = folder
        self._folder = folder / self._key[:32]
        self._indexes: dict[Path, dict[str, _Entry]] = {}
        self._entries: dict[str, _Entry] = {}
        self._used: set[Path] = set()

    def present(self, names: Iterable[str]) -> set[str]:
        """Returns those names that have an entry, by the index alone: nothing is read or checked."""
        return set(names) & self._merged().keys()

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Returns the entries that are there and whole; every one is checked against its checksum, name and key."""
        index, by_shard = self._merged(), defaultdict[Path, list[str]](list)
        for name in dict.fromkeys(names):
            if name in index:
                by_shard[index[name].shard].append(name)
        entries: dict[str, bytes] = {}
        for shard, wanted in by_shard.items():
            read = self._read(shard, wanted)
            entries |= read.whole
            if read.num_damaged:
                self._replace(shard, read.num_damaged)
            elif shard not in self._used:
                self._used.add(shard)
                mark_used(shard)
        return entries

    def add(self, entries: Mapping[str, bytes]) -> None:
        """Writes entries as new shards.

        Raises:
            OSError: If the disk is full or the folder may not be written to; nothing half-written stays.
        """
        left = iter(entries.items())
        while some := list(islice(left, MAX_ENTRIES)):
            whole = {name: add_checksum(content, key=self._entry_key(name)) for name, content in some}
            index = canonical_json([[name, len(entry)] for name, entry in whole.items()]).encode()
            head = add_checksum(index, key=self._key)
            content = b"".join([len(head).to_bytes(4, "little"), head, *whole.values()])
            write_bytes(self._folder / f"{sha256(content).hexdigest()[:32]}{_SUFFIX}", content)
            wrote(self._kind, len(content))

    def _entry_key(self, name: str) -> str:
        return f"{self._key}/{name}"

    def _merged(self) -> dict[str, _Entry]:
        """Merges the indexes of today's shards; those of shards seen before are not looked at again."""
        try:
            shards = sorted(path for path in self._folder.iterdir() if path.suffix == _SUFFIX)
        except OSError:  # not there yet, or of somebody else: then nothing can be kept either, which is told
            shards = []
        if shards != list(self._indexes):
            self._indexes = {shard: self._index(shard) for shard in shards}
            self._entries = {name: entry for index in self._indexes.values() for name, entry in index.items()}
        return self._entries

    def _index(self, shard: Path) -> dict[str, _Entry]:
        """Reads the index of a shard; empty where it cannot be read, or is damaged."""
        if shard in self._indexes:
            return self._indexes[shard]
        try:
            with shard.open("rb") as file:
                num_bytes = int.from_bytes(file.read(4), "little")
                head = file.read(min(num_bytes, shard.stat().st_size))
        except OSError:  # dropped by another process, or a disk at fault
            return {}
        content = checked(memoryview(head), key=self._key)
        if content is None:
            note_damage(self._kind, shard)
            with suppress(OSError):
                shard.unlink()
            return {}
        index, offset = {}, 4 + num_bytes
        for name, size in read_json(bytes(content).decode()):
            index[name] = _Entry(shard=shard, offset=offset, num_bytes=size)
            offset += size
        return index

    def _read(self, shard: Path, names: Iterable[str]) -> _Read:
        """Reads entries of a shard, and tells those that are damaged from those that could not be read."""
        names, read = list(names), _Read()
        try:
            file = shard.open("rb")
        except OSError:
            return _Read(num_unread=len(names))
        with file:
            for name in names:
                entry = self._indexes[shard][name]
                try:
                    file.seek(entry.offset)
                    kept = file.read(entry.num_bytes)
                except OSError:  # of a disk or a network at fault: it may be read another time
                    read.num_unread += 1
                    continue
                content = checked(memoryview(kept), key=self._entry_key(name))
                if content is None:
                    read.num_damaged += 1
                else:
                    read.whole[name] = bytes(content)
        return read

    def _replace(self, shard: Path, num_damaged: int) -> None:
        """Writes the whole entries of a damaged shard to a new one and removes it, if all of it can be read."""
        if not shard.exists():  # another process has done it, or made room
            return
        note_damage(self._kind, shard, num_damaged)
        read = self._read(shard, self._indexes[shard])
        if read.num_unread or not read.num_damaged:
            return
        with suppress(OSError):
            self.add(read.whole)
            shard.unlink()
