"""Zip files are unpacked whole or refused by the name of the hostile entry; nothing leaves the cache."""

import re
import shutil
import stat
import zipfile
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cytolora.data import archive as archive_module
from cytolora.data.archive import unpack
from cytolora.data.datasets import load_manifest
from cytolora.data.readers.herlev import HERLEV
from cytolora.errors import DataError


def _zip(path: Path, entries: dict[str, bytes], prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in entries.items():
            packed.writestr(prefix + name, content)
    return path


@pytest.fixture
def images(tmp_path: Path) -> dict[str, bytes]:
    entries = {}
    for number in range(4):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / "image.png")
        entries[f"{'ab'[number % 2]}/{number} (1).png"] = (tmp_path / "image.png").read_bytes()
    return entries


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("prefix", ["", "cells/", "download/cells/"])
def test_a_zip_reads_like_its_folder_however_deeply_it_is_wrapped(
    tmp_path: Path, images: dict[str, bytes], prefix: str
):
    packed = _zip(tmp_path / "cells.zip", {**images, "._junk": b"mac"} if prefix else images, prefix)
    manifest = load_manifest(packed, cache=tmp_path / "cache")
    assert manifest.name == "cells"
    assert [sample.path for sample in manifest.samples] == sorted(images)


def test_a_second_call_finds_the_folder(tmp_path: Path, images: dict[str, bytes]):
    packed = _zip(tmp_path / "cells.zip", images)
    folder = unpack(packed, tmp_path / "cache")
    time = folder.stat().st_mtime_ns
    assert unpack(packed, tmp_path / "cache") == folder
    assert folder.stat().st_mtime_ns == time


def test_another_content_under_the_same_name_is_unpacked_anew(tmp_path: Path, images: dict[str, bytes]):
    first = unpack(_zip(tmp_path / "cells.zip", images), tmp_path / "cache")
    assert unpack(_zip(tmp_path / "cells.zip", {"c.png": b"x"}), tmp_path / "cache") != first


def test_a_published_dataset_is_recognised_inside_a_zip(tmp_path: Path, images: dict[str, bytes]):
    image = next(iter(images.values()))
    entries = {f"herlev/smear2005/New database pictures/{label}/1-2-3.BMP": image for label in HERLEV.classes}
    packed = _zip(tmp_path / "download.zip", {**entries, "herlev/manifest.csv": b"path,class\n", "__MACOSX/._x": b""})
    manifest = load_manifest(packed, cache=tmp_path / "cache")
    assert manifest.name == "herlev"
    assert load_manifest(packed, "herlev", cache=tmp_path / "cache").fingerprint == manifest.fingerprint


def _link(name: str, kind: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = (kind | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../out.png", "leaves the folder with '..'"),
        ("a/../../out.png", "leaves the folder with '..'"),
        ("a\\..\\..\\out.png", "leaves the folder with '..'"),
        ("./", "has no name"),
        ("/tmp/out.png", "has an absolute path"),
        ("\\\\server\\out.png", "has an absolute path"),
        ("C:\\out.png", "has an absolute path"),
        ("c:out.png", "has an absolute path"),
        (_link("link.png", stat.S_IFLNK), "is a symbolic link"),
        (_link("pipe.png", stat.S_IFIFO), "is a device or another special file"),
        (_link("device.png", stat.S_IFBLK), "is a device or another special file"),
        ("a/0 (1).png", "stands in the archive twice"),
        ("a//./0 (1).png", "stands in the archive twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_entry_is_refused_by_name_and_nothing_is_written(
    tmp_path: Path, images: dict[str, bytes], name: str | zipfile.ZipInfo, why: str
):
    packed = _zip(tmp_path / "evil.zip", images)
    with zipfile.ZipFile(packed, "a") as more:
        more.writestr(name, b"/etc/passwd")
    before = _files(tmp_path)
    shown = name if isinstance(name, str) else name.filename
    with pytest.raises(DataError, match=re.escape(f"entry {shown!r} {why}; nothing was unpacked")):
        unpack(packed, tmp_path / "cache")
    assert _files(tmp_path) == before
    assert not (tmp_path / "cache").exists()


def test_a_ratio_bomb_is_refused_before_it_is_unpacked(tmp_path: Path):
    with pytest.raises(DataError, match=r"entry 'bomb.png' would unpack to 100,000,000 bytes"):
        unpack(_zip(tmp_path / "bomb.zip", {"bomb.png": bytes(100_000_000)}), tmp_path / "cache")


def test_many_small_bombs_are_refused_together(tmp_path: Path):
    packed = _zip(tmp_path / "bomb.zip", {f"{number}.png": bytes(10_000_000) for number in range(10)})
    with pytest.raises(DataError, match=r"would unpack to 100,000,000 bytes, more than 200 times its size"):
        unpack(packed, tmp_path / "cache")


def test_an_entry_that_lies_about_its_size_is_cut_off_and_refused(tmp_path: Path):
    packed = _zip(tmp_path / "lie.zip", {"lie.png": bytes(range(256)) * 400})
    content = packed.read_bytes().replace((102_400).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    packed.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        unpack(packed, tmp_path / "cache")
    assert not [path for path in _files(tmp_path / "cache") if path.endswith(".png")]


def test_a_damaged_zip_leaves_nothing(tmp_path: Path, images: dict[str, bytes]):
    packed = _zip(tmp_path / "cells.zip", {name: content * 50 for name, content in images.items()})
    content = bytearray(packed.read_bytes())
    content[60:90] = bytes(30)
    packed.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        unpack(packed, tmp_path / "cache")
    assert not [path for path in _files(tmp_path / "cache") if path.endswith(".png")]


def test_too_many_entries_are_refused(tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive_module, "_MAX_MEMBERS", 3)
    with pytest.raises(DataError, match="more than 3 entries"):
        unpack(_zip(tmp_path / "cells.zip", images), tmp_path / "cache")


@pytest.mark.parametrize("name", ["cells.tar", "cells.tar.gz", "cells.tgz", "cells.tar.xz", "cells.7z", "cells.rar"])
def test_other_archives_are_refused_with_the_reason(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(
        DataError, match=r"is not a zip file\. Other archives are not unpacked, for they may hold links"
    ):
        load_manifest(tmp_path / name)


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    usage = type("Usage", (), {"free": 10})
    monkeypatch.setattr(archive_module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="bytes are needed and the disk has less; free some space"):
        unpack(_zip(tmp_path / "cells.zip", images), tmp_path / "cache")
    assert [Path(name).name for name in _files(tmp_path / "cache")] in ([], [".unpack.lock"])


@pytest.mark.slow
@given(noise=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=20))
@settings(
    max_examples=300, suppress_health_check=(*settings().suppress_health_check, HealthCheck.function_scoped_fixture)
)
def test_a_mutated_zip_is_unpacked_inside_the_cache_or_refused(tmp_path: Path, images: dict[str, bytes], noise: list):
    packed = _zip(tmp_path / "cells.zip", images)
    content = bytearray(packed.read_bytes())
    for place, value in noise:
        content[place % len(content)] = value
    packed.write_bytes(content)
    try:
        folder = unpack(packed, tmp_path / "cache")
    except DataError:
        pass
    else:
        assert folder.is_relative_to(tmp_path / "cache")
    outside = [path for path in _files(tmp_path) if not path.startswith("cache/")]
    assert outside == ["cells.zip", "image.png"]


def test_another_archive_is_unpacked_while_a_large_one_is(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    extract, folders = archive_module._extract, list[Path]()
    small = _zip(tmp_path / "small.zip", {"a/1.png": b"1"})

    def slowly(packed: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], target: Path) -> None:
        if target.name == "large":
            other = Thread(target=lambda: folders.append(unpack(small, tmp_path / "cache")), daemon=True)
            other.start()
            other.join(timeout=5)
        extract(packed, members, target)

    monkeypatch.setattr(archive_module, "_extract", slowly)
    large = unpack(_zip(tmp_path / "large.zip", images), tmp_path / "cache")
    assert [_files(folder) for folder in folders] == [["a/1.png"]]
    assert _files(large) == sorted(images)


def test_another_process_need_not_wait_until_the_cache_is_bounded(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    packed, is_done = _zip(tmp_path / "cells.zip", images), list[bool]()

    def bound(cache: Path, num_bytes: int) -> None:
        if not is_done:
            is_done.append(False)
            shutil.rmtree(next(cache.glob("*/cells")))
            other = Thread(target=unpack, args=(packed, tmp_path / "cache"), daemon=True)
            other.start()
            other.join(timeout=5)
            is_done[0] = not other.is_alive()

    monkeypatch.setattr(archive_module, "wrote", bound)
    assert _files(unpack(packed, tmp_path / "cache")) == sorted(images)
    assert is_done == [True]


def test_an_archive_whose_folder_is_removed_again_and_again_is_refused(
    tmp_path: Path, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(archive_module, "hold", lambda folder: False)
    with pytest.raises(DataError, match=r"Cannot unpack .*cells\.zip .*another process removes its folder again"):
        unpack(_zip(tmp_path / "cells.zip", images), tmp_path / "cache")
    assert _files(tmp_path / "cache") == []
