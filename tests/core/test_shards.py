"""Shards written by several processes at once."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytolora.core.shards import ShardStore

PROGRAM = """
import sys
from pathlib import Path
from cytolora.core.shards import ShardStore

store, worker = ShardStore(Path(sys.argv[1]), key="features"), int(sys.argv[2])
for start in range(0, 60, 10):
    store.add({f"image {n}": bytes([n]) * 100 for n in range(start + worker, start + worker + 20)})
"""


def test_processes_that_write_at_once_lose_and_damage_no_entry(tmp_path: Path):
    workers = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(number)]) for number in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0, 0]
    names = [f"image {n}" for n in range(73)]
    assert ShardStore(tmp_path, key="features").read(names) == {f"image {n}": bytes([n]) * 100 for n in range(73)}


def test_entries_of_another_key_are_absent(tmp_path: Path):
    ShardStore(tmp_path, key="features").add({"image": b"1"})
    assert ShardStore(tmp_path, key="other").read(["image"]) == {}


class Unreadable:
    """A file in which reading at some positions fails, as on a disk with a bad block."""

    def __init__(self, file, bad: set[int]) -> None:
        self._file, self._bad = file, bad

    def __enter__(self):
        return self

    def __exit__(self, *why: object) -> None:
        self._file.close()

    def __getattr__(self, name: str):
        return getattr(self._file, name)

    def read(self, size: int = -1) -> bytes:
        if self._file.tell() in self._bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(size)


CONTENTS = {f"image {n}": bytes([n]) * 100 for n in range(20)}


def filled(folder: Path) -> tuple[ShardStore, Path]:
    ShardStore(folder, key="k").add(CONTENTS)
    store = ShardStore(folder, key="k")
    assert store.present(CONTENTS) == set(CONTENTS)
    (shard,) = folder.glob("*/*.shard")
    return store, shard


@pytest.mark.parametrize("bad", [["image 0"], ["image 7"], ["image 19"], ["image 3", "image 4"], list(CONTENTS)])
def test_entries_that_cannot_be_read_are_absent_and_their_shard_stays_as_it_is(
    bad: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    store, shard = filled(tmp_path)
    before, opened = shard.read_bytes(), Path.open
    offsets = {store._entries[name].offset for name in bad}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode="r": Unreadable(opened(path, mode), offsets))
        assert store.read(CONTENTS) == {name: content for name, content in CONTENTS.items() if name not in bad}
    assert [path.read_bytes() for path in tmp_path.glob("*/*.shard")] == [before]
    assert ShardStore(tmp_path, key="k").read(CONTENTS) == CONTENTS
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOMEM, errno.ESTALE, errno.ENFILE])
def test_a_shard_that_cannot_be_opened_stays_as_it_is(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    store, shard = filled(tmp_path)
    before = shard.read_bytes()

    def refuse(path: Path, mode: str = "r") -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        assert store.read(CONTENTS) == {}
        assert ShardStore(tmp_path, key="k").read(CONTENTS) == {}
    assert shard.read_bytes() == before
    assert ShardStore(tmp_path, key="k").read(CONTENTS) == CONTENTS


def test_beside_a_damaged_entry_and_one_that_cannot_be_read_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog
):
    store, shard = filled(tmp_path)
    damaged = bytearray(shard.read_bytes())
    damaged[store._entries["image 5"].offset + 90] ^= 1
    shard.write_bytes(damaged)
    opened, offsets = Path.open, {store._entries["image 6"].offset}
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", lambda path, mode="r": Unreadable(opened(path, mode), offsets))
        assert set(CONTENTS) - store.read(CONTENTS).keys() == {"image 5", "image 6"}
    assert shard.read_bytes() == damaged
    assert len(caplog.records) == 1
    again = ShardStore(tmp_path, key="k")
    assert set(CONTENTS) - again.read(CONTENTS).keys() == {"image 5"}
    assert not shard.exists()
    assert set(CONTENTS) - again.read(CONTENTS).keys() == {"image 5"}


def test_a_shard_without_a_readable_index_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    store, shard = filled(tmp_path)
    shard.write_bytes(b"\x10\0\0\0" + bytes(200))
    store.add({"other": b"1"})
    monkeypatch.setattr(Path, "unlink", lambda path: (_ for _ in ()).throw(PermissionError()))
    again = ShardStore(tmp_path, key="k")
    assert [again.read(["other", "image 1"]) for _ in range(5)] == [{"other": b"1"}] * 5
    assert len(caplog.records) == 1
