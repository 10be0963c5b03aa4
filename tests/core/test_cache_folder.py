"""Cache folders: what is damaged or under another name is made anew, the least recently used goes beyond the limit."""

import errno
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from cytolora.core import cache_entries, cache_folder, locks
from cytolora.core.cache_damage import note_damage, one_notice
from cytolora.core.cache_entries import KINDS, claim, entries, hold, remove
from cytolora.core.cache_folder import DEFAULT_LIMIT, CachedFiles, is_cache, limit_of, set_limit
from cytolora.core.checksum import add_checksum
from cytolora.core.shards import ShardStore
from cytolora.core.strict_json import read_json
from cytolora.core.unfinished import temporary_name

CONTENT = b'{"accuracy":0.5}'
DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda kept: b"",
    "cut in the checksum": lambda kept: kept[:40],
    "cut in the content": lambda kept: kept[:-1],
    "longer": lambda kept: kept + b" ",
    "first bit": lambda kept: bytes([kept[0] ^ 1]) + kept[1:],
    "a digit of the checksum": lambda kept: kept[:20] + bytes([kept[20] ^ 1]) + kept[21:],
    "last bit": lambda kept: kept[:-1] + bytes([kept[-1] ^ 1]),
    "zeros": lambda kept: bytes(len(kept)),
}


def name_of(number: int) -> str:
    return f"{number:016x}.json"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_value_is_absent_told_of_once_and_can_be_kept_again(damage, tmp_path: Path, caplog):
    kept = CachedFiles(tmp_path / "intervals")
    kept.keep(name_of(1), CONTENT)
    path = tmp_path / "intervals" / name_of(1)
    path.write_bytes(damage(path.read_bytes()))
    assert kept.read(name_of(1), read_json) is None
    assert [record.getMessage() for record in caplog.records] == [
        f"{path} is damaged: what is damaged of it is not used but made anew."
    ]
    kept.keep(name_of(1), CONTENT)
    assert kept.read(name_of(1), read_json) == {"accuracy": 0.5}
    assert len(caplog.records) == 1


@settings(max_examples=60)
@given(content=st.binary(max_size=40), data=st.data())
def test_no_flipped_bit_is_taken_for_a_value(content: bytes, data: st.DataObject, tmp_path: Path):
    kept = CachedFiles(tmp_path / "text")
    kept.keep("a", content)
    path = tmp_path / "text" / "a"
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[place // 8] ^= 1 << place % 8
    path.write_bytes(whole)
    assert kept.read("a", bytes) is None


@pytest.mark.parametrize("elsewhere", ["intervals", "metadata"])
def test_a_value_copied_to_another_name_or_kind_is_not_taken(elsewhere: str, tmp_path: Path):
    CachedFiles(tmp_path / "intervals").keep(name_of(1), CONTENT)
    (tmp_path / elsewhere).mkdir(exist_ok=True)
    name = name_of(2) if elsewhere == "intervals" else name_of(1)
    (tmp_path / elsewhere / name).write_bytes((tmp_path / "intervals" / name_of(1)).read_bytes())
    assert CachedFiles(tmp_path / elsewhere).read(name, read_json) is None
    assert CachedFiles(tmp_path / "intervals").read(name_of(1), read_json) == {"accuracy": 0.5}


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, IndexError, AttributeError])
def test_a_value_of_another_shape_counts_as_damaged(error: type[Exception], tmp_path: Path, caplog):
    def decode(content: bytes) -> None:
        raise error("another shape")

    kept = CachedFiles(tmp_path / "metadata")
    kept.keep(name_of(1), CONTENT)
    assert kept.read(name_of(1), decode) is None
    assert len(caplog.records) == 1


def test_what_was_never_kept_is_absent_without_a_word(tmp_path: Path, caplog):
    assert CachedFiles(tmp_path / "intervals").read(name_of(1), read_json) is None
    assert not caplog.records


def test_many_damaged_entries_are_one_line_a_folder_with_their_number(tmp_path: Path, caplog):
    with one_notice():
        for number in range(1200):
            with one_notice():
                note_damage(tmp_path / "pixels", tmp_path / "pixels" / str(number))
        note_damage(tmp_path / "features", tmp_path / "features" / "x.shard", 1024)
        assert not caplog.records
    assert [record.getMessage() for record in caplog.records] == [
        f"1,200 entries of {tmp_path / 'pixels'} are damaged (the first: 0): they are not used but made anew.",
        f"1,024 entries of {tmp_path / 'features'} are damaged (the first: x.shard): they are not used but made anew.",
    ]


def test_a_line_is_written_also_where_the_command_fails(caplog):
    @one_notice()
    def failing() -> None:
        note_damage(Path("pixels"), Path("pixels/a"))
        raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert len(caplog.records) == 1


def write_each(root: Path, numbers: range, num_bytes: int) -> None:
    for number in numbers:
        CachedFiles(root / "intervals").keep(name_of(number), bytes(num_bytes))
        os.utime(root / "intervals" / name_of(number), (number, number))


def numbers(root: Path) -> list[int]:
    return sorted(int(entry.path.stem, 16) for entry in entries(root))


def test_beyond_the_limit_the_least_recently_used_goes_first(tmp_path: Path):
    write_each(tmp_path, range(10), 1000 - 81)  # 81: the line of the checksum
    CachedFiles(tmp_path / "intervals").read(name_of(0), bytes)
    set_limit(tmp_path, 6000)
    assert numbers(tmp_path) == [0, 6, 7, 8, 9]
    assert sum(entry.num_bytes for entry in entries(tmp_path)) <= 6000


def test_a_command_that_writes_on_and_on_stays_within_the_limit(tmp_path: Path):
    set_limit(tmp_path, 20_000)
    most = 0
    for number in range(200):
        CachedFiles(tmp_path / "metadata").keep(name_of(number), bytes(300))
        most = max(most, sum(entry.num_bytes for entry in entries(tmp_path)))
    assert 15_000 < most <= 20_000
    assert {0, 199} & set(numbers(tmp_path)) == {199}


def test_features_that_were_removed_are_absent_and_a_reader_at_work_goes_on(tmp_path: Path, caplog):
    store = ShardStore(tmp_path / "features", key="k")
    store.add({"a": bytes(100)})
    store.add({"b": bytes(100)})
    assert store.present(["a", "b"]) == {"a", "b"}
    set_limit(tmp_path, 10)
    assert store.read(["a", "b"]) == {}
    store.add({"a": b"1"})
    set_limit(tmp_path, None)
    store.add({"a": b"1"})
    assert store.read(["a", "b"]) == {"a": b"1"}
    assert not caplog.records


def _write(root: Path, worker: int) -> None:
    kept = CachedFiles(root / "intervals")
    for number in range(150):
        kept.keep(name_of(number), bytes([number]) * 100)
        for other in range(0, number, 10):
            value = kept.read(name_of(other), bytes)
            if value not in (None, bytes([other]) * 100):
                sys.exit(1)
    sys.exit(0)


@pytest.mark.slow
def test_two_processes_may_make_room_at_once(tmp_path: Path):
    set_limit(tmp_path, 3000)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_write, args=(tmp_path, worker)) for worker in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert 0 < sum(entry.num_bytes for entry in entries(tmp_path)) <= 3300


def test_files_that_are_none_of_ours_are_neither_counted_nor_removed(tmp_path: Path):
    strange = [
        *("intervals/notes.txt", "pixels/cell.png", "text/thesis.tex", "figures/drawing.svg", "runs/metrics.json"),
        *("features/a/b.shard", "archives/my_data/cell.png", f"adapters/deep/{'0' * 32}.safetensors"),
    ]
    for name in strange:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"mine")
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / ("0" * 16 + ".json")).write_bytes(b"mine")
    (tmp_path / "metadata").symlink_to(outside)
    assert not is_cache(tmp_path)
    assert list(entries(tmp_path)) == []
    set_limit(tmp_path, 0)
    assert all((tmp_path / name).read_bytes() == b"mine" for name in strange)
    assert (outside / ("0" * 16 + ".json")).read_bytes() == b"mine"


def test_the_limit_stays_with_the_folder_and_a_damaged_one_is_the_default(tmp_path: Path, caplog):
    assert limit_of(tmp_path) == DEFAULT_LIMIT
    set_limit(tmp_path, 12_345)
    assert limit_of(tmp_path) == 12_345
    file = tmp_path / cache_folder._LIMIT
    file.write_bytes(file.read_bytes().replace(b"12345", b"12344"))
    assert limit_of(tmp_path) == DEFAULT_LIMIT
    assert len(caplog.records) == 1
    set_limit(tmp_path, None)
    assert limit_of(tmp_path) is None


def test_what_killed_writers_left_is_removed_and_a_living_ones_is_not(tmp_path: Path):
    folder = tmp_path / "pixels" / "pillow-1" / "native" / "00"
    folder.mkdir(parents=True)
    abandoned = temporary_name(folder / ("0" * 64))
    abandoned.write_bytes(b"half")
    set_limit(tmp_path, 100)
    assert not abandoned.exists()


def test_an_archive_in_use_is_not_removed(tmp_path: Path):
    archive = tmp_path / "archives" / ("0" * 16)
    (archive / "cells").mkdir(parents=True)
    (archive / "cells" / "a.png").write_bytes(bytes(100))
    claim(tmp_path, is_ours=True)
    (unused,) = entries(tmp_path)
    assert (unused.kind, unused.num_bytes) == ("archives", 100)
    assert hold(archive)
    assert not remove(unused)
    assert (archive / "cells" / "a.png").is_file()


def test_an_archive_that_nobody_uses_is_removed_whole(tmp_path: Path):
    archive = tmp_path / "archives" / ("1" * 16)
    (archive / "cells").mkdir(parents=True)
    (archive / "cells" / "a.png").write_bytes(bytes(100))
    claim(tmp_path, is_ours=True)
    assert remove(next(entries(tmp_path)))
    assert list((tmp_path / "archives").iterdir()) == []
    assert not hold(archive)


def test_every_kind_says_what_it_holds():
    assert all(KINDS.values())


FOREIGN_LIMITS = [
    b"50 km/h\n",
    b"",
    b"none",
    b"20000000000",
    bytes(100),
    b"\x89PNG limit",
    "Geschwindigkeit".encode("utf-16"),
]


@pytest.mark.parametrize("content", FOREIGN_LIMITS)
def test_a_file_of_the_users_named_limit_makes_no_cache_and_stays_as_it_is(content: bytes, tmp_path: Path, caplog):
    (tmp_path / "limit").write_bytes(content)
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / f"{'a' * 32}.json").write_bytes(b"mine")
    assert not is_cache(tmp_path)
    assert limit_of(tmp_path) == DEFAULT_LIMIT
    with pytest.raises(OSError, match="none of cytolora"):
        set_limit(tmp_path, 0)
    assert (tmp_path / "limit").read_bytes() == content
    assert not caplog.records


def test_a_damaged_limit_is_left_where_it_is_and_told_of_once(tmp_path: Path, caplog):
    set_limit(tmp_path, 12_345)
    file = tmp_path / cache_folder._LIMIT
    file.write_bytes(damaged := file.read_bytes()[:-1])
    assert [limit_of(tmp_path) for _ in range(3)] == [DEFAULT_LIMIT] * 3
    assert file.read_bytes() == damaged
    assert len(caplog.records) == 1


FOREIGN = {
    f"archives/{'20240131' * 2}/scan.tif": "time stamps",
    f"archives/{'deadbeef' * 2}/a/b.txt": "hashes",
    f"metadata/{'d41d8cd98f00b204e9800998ecf8427e'}.json": "MD5",
    f"intervals/{'0' * 64}.json": "SHA-256",
    f"text/{'a' * 32}.safetensors": "weights",
    f"adapters/{'b' * 32}.safetensors": "adapters of others",
    f"features/{'c' * 32}.safetensors": "features of others",
    f"figures/{'e' * 64}/drawing.svg": "drawings",
}


@pytest.mark.parametrize("name", FOREIGN, ids=FOREIGN.values())
def test_a_folder_of_the_users_with_names_like_entries_is_no_cache_and_loses_nothing(name: str, tmp_path: Path):
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"mine")
    assert not is_cache(tmp_path)
    assert list(entries(tmp_path)) == []
    CachedFiles(tmp_path / "intervals").keep(name_of(1), CONTENT)  # it was named as the --cache
    assert [entry.path.name for entry in entries(tmp_path)] == [name_of(1)]
    set_limit(tmp_path, 0)
    assert list(entries(tmp_path)) == []
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_cache_of_an_earlier_version_is_known_by_the_checksums_of_its_entries(tmp_path: Path):
    store = ShardStore(tmp_path / "features", key="k")
    store.add({"a": bytes(100)})
    (tmp_path / cache_entries._MARK).unlink()
    assert is_cache(tmp_path)
    assert len(list(entries(tmp_path))) == 1
    set_limit(tmp_path, 0)
    assert list(entries(tmp_path)) == []


def test_a_cache_is_known_once_its_first_entry_was_written(tmp_path: Path):
    CachedFiles(tmp_path / "intervals").keep(name_of(1), CONTENT)
    assert cache_entries.is_marked(tmp_path)
    assert remove(next(entries(tmp_path)))
    assert is_cache(tmp_path)


def test_an_archive_that_is_unpacked_makes_a_cache_of_a_new_folder_alone(tmp_path: Path):
    for name, others in {"new": [], "old": ["archives/2024013120240131"]}.items():
        for folder in [*others, f"archives/{'0' * 16}"]:
            (tmp_path / name / folder).mkdir(parents=True)
        assert hold(tmp_path / name / "archives" / ("0" * 16))
        assert cache_entries.is_marked(tmp_path / name) == (name == "new")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"archives"}))
def test_a_value_of_an_earlier_version_under_its_name_alone_is_read_without_a_word(kind: str, tmp_path: Path, caplog):
    (tmp_path / kind).mkdir()
    (tmp_path / kind / name_of(1)).write_bytes(add_checksum(CONTENT, key=name_of(1)))
    kept = CachedFiles(tmp_path / kind)
    assert kept.read(name_of(1), read_json) == {"accuracy": 0.5}
    assert not caplog.records
    (tmp_path / kind / name_of(2)).write_bytes(add_checksum(CONTENT, key=name_of(1)))  # copied to another name
    assert kept.read(name_of(2), read_json) is None
    assert len(caplog.records) == 1


WITHOUT_SUM = [CONTENT, b"[]", b"1", b'{"a": "cyto"}', b'"Met\xc3\xa9"', b'{\n  "accuracy": 0.5\n}\n', b"null"]


@pytest.mark.parametrize("content", WITHOUT_SUM)
def test_a_value_without_a_checksum_is_another_versions_and_made_anew_silently(content: bytes, tmp_path: Path, caplog):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / name_of(1)).write_bytes(content)
    assert CachedFiles(tmp_path / "metadata").read(name_of(1), read_json) is None
    assert not caplog.records


@pytest.mark.parametrize("place", range(16))
def test_a_flipped_bit_in_the_mark_of_a_checksum_is_told_of_whatever_is_decoded(place: int, tmp_path: Path, caplog):
    kept = CachedFiles(tmp_path / "figures")
    kept.keep("a", CONTENT)
    whole = bytearray((tmp_path / "figures" / "a").read_bytes())
    whole[place] ^= 4
    (tmp_path / "figures" / "a").write_bytes(whole)
    assert kept.read("a", bytes) is None
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\x10" + bytes(7) + b"{}", bytes(300), b"weights", CONTENT, bytes([255]) * 20]
)
def test_whatever_stands_where_tensors_were_kept_is_absent_and_stops_nothing(content: bytes, tmp_path: Path, caplog):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.safetensors").write_bytes(content)
    assert CachedFiles(tmp_path / "text").read("a.safetensors", load) is None
    assert len(caplog.records) == 1


def archive_of(root: Path, number: int, num_bytes: int) -> Path:
    archive = root / "archives" / f"{number:016x}"
    archive.mkdir(parents=True)
    (archive / "a.png").write_bytes(bytes(num_bytes))
    return archive


def replaced(archive: Path) -> None:
    archive.rename(archive.with_name("aside"))
    archive.mkdir()


@pytest.mark.parametrize("again", [1, 2])
def test_an_archive_that_was_replaced_is_held_again(again: int, tmp_path: Path):
    archive = archive_of(tmp_path, 1, 100)
    assert hold(archive)
    for _ in range(again):
        shutil.rmtree(tmp_path / "archives" / "aside", ignore_errors=True)
        replaced(archive)
        assert hold(archive)
    (entry,) = entries(tmp_path)
    assert not remove(entry)
    assert archive.is_dir()


def test_an_archive_that_is_replaced_while_it_is_locked_is_held_as_it_is_then(tmp_path: Path, monkeypatch):
    archive, share = archive_of(tmp_path, 2, 100), locks.share

    def replacing(descriptor: int) -> None:
        if not archive.with_name("aside").exists():
            replaced(archive)
        share(descriptor)

    monkeypatch.setattr(locks, "share", replacing)
    assert hold(archive)
    (entry,) = entries(tmp_path)
    assert not remove(entry)
    assert archive.is_dir()


def test_an_archive_that_was_removed_is_not_held(tmp_path: Path):
    archive = archive_of(tmp_path, 3, 100)
    assert hold(archive)
    shutil.rmtree(archive)
    assert not hold(archive)


@pytest.mark.parametrize("held", [7_000, 8_900, 9_200, 9_900])
def test_beside_a_large_archive_in_use_a_cache_keeps_what_the_rest_of_the_limit_allows(held: int, tmp_path: Path):
    set_limit(tmp_path, 10_000)
    assert hold(archive_of(tmp_path, 4, held))
    most = 0
    for number in range(60):
        CachedFiles(tmp_path / "metadata").keep(name_of(number), bytes(9))
        most = max(most, sum(entry.num_bytes for entry in entries(tmp_path)))
        assert CachedFiles(tmp_path / "metadata").read(name_of(number), bytes) == bytes(9)
    left = sum(entry.kind == "metadata" for entry in entries(tmp_path))
    assert left >= max(1, 0.8 * (10_000 - held) // 90)
    assert most <= max(10_000, held) + 10_000 / 20 + 90


@pytest.mark.parametrize("held", [10_000, 12_000, 50_000])
def test_where_what_is_in_use_fills_the_limit_the_last_value_stays_and_one_line_says_so(
    held: int, tmp_path: Path, caplog
):
    set_limit(tmp_path, 10_000)
    assert hold(archive_of(tmp_path, 5, held))
    for number in range(30):
        CachedFiles(tmp_path / "metadata").keep(name_of(number), bytes(900))
        assert CachedFiles(tmp_path / "metadata").read(name_of(number), bytes) == bytes(900)
    assert [record.getMessage() for record in caplog.records] == [
        f"The limit of {tmp_path}, 10,000 bytes, is too small for what is in use, {held:,} bytes: little else is kept. "
        "Give a larger --cache-limit."
    ]


def test_an_archive_that_cannot_be_removed_whole_is_an_entry_as_before(tmp_path: Path, monkeypatch):
    archive = archive_of(tmp_path, 6, 100)
    claim(tmp_path, is_ours=True)
    (entry,) = entries(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", refuse)
        assert not remove(entry)
    assert [found.path for found in entries(tmp_path)] == [archive]
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]
    assert remove(entry)
    assert list(archive.parent.iterdir()) == []
