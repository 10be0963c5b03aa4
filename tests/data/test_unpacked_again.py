"""Unpacked images that were changed after they were unpacked are unpacked again, whatever was done to them."""

import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cytolora.core.cache_entries import entries, remove
from cytolora.data.archive import unpack
from cytolora.data.readers.unpacked import unpack_once

CONTENTS = {"a/1.png": b"first image", "a/2.png": b"second image", "b/3.png": bytes(3000)}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def linked(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.with_name("2.png"))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "bit": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "copied": lambda path: shutil.copy(path.with_name("2.png"), path),
    "link": linked,
}


def packed(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "cells.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    return folder / "cells.zip"


def read(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in CONTENTS}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_of_an_archive_is_unpacked_again_with_one_line(damage, tmp_path: Path, caplog):
    archive = packed(tmp_path)
    folder = unpack(archive, tmp_path / "archives")
    assert read(folder) == CONTENTS
    damage(folder / "a" / "1.png")
    assert read(unpack(archive, tmp_path / "archives")) == CONTENTS
    assert not (folder / "a" / "1.png").is_symlink()
    assert len(caplog.records) == 1
    unpack(archive, tmp_path / "archives")
    assert len(caplog.records) == 1


def test_files_that_others_laid_beside_the_images_stay(tmp_path: Path, caplog):
    folder = unpack(packed(tmp_path), tmp_path / "archives")
    (folder / "notes.txt").write_text("mine")
    unpack(tmp_path / "cells.zip", tmp_path / "archives")
    assert (folder / "notes.txt").read_text() == "mine"
    assert not caplog.records


def test_an_archive_that_this_process_reads_is_not_removed(tmp_path: Path):
    folder = unpack(packed(tmp_path), tmp_path / "archives")
    (entry,) = entries(tmp_path)
    assert entry.num_bytes == sum(map(len, CONTENTS.values()))
    assert not remove(entry)
    assert read(folder) == CONTENTS


def write(folder: Path) -> None:
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damaged_images_cut_from_a_download_are_written_again_with_one_line(damage, tmp_path: Path, caplog):
    target = tmp_path / "cut"
    unpack_once(target, "key", write)
    damage(target / "a" / "1.png")
    unpack_once(target, "key", write)
    assert read(target) == CONTENTS
    assert len(caplog.records) == 1


def test_an_image_added_to_those_cut_from_a_download_is_taken_away(tmp_path: Path):
    target = tmp_path / "cut"
    unpack_once(target, "key", write)
    (target / "a" / "4.png").write_bytes(b"of another")
    unpack_once(target, "key", write)
    assert not (target / "a" / "4.png").exists()


def test_whole_images_are_not_written_again(tmp_path: Path):
    target = tmp_path / "cut"
    unpack_once(target, "key", write)
    unpack_once(target, "key", lambda folder: pytest.fail("written again"))


def test_thousands_of_missing_files_are_unpacked_again_in_one_listing_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    names, listed, flushed = [f"{number}.png" for number in range(300)], list[Path](), list[int]()
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        for name in names:
            archive.writestr(name, name)
    folder = unpack(tmp_path / "cells.zip", tmp_path / "archives")
    for name in names:
        (folder / name).unlink()
    list_folder, flush = Path.iterdir, os.fsync
    monkeypatch.setattr(Path, "iterdir", lambda path: (listed.append(path), list_folder(path))[1])
    monkeypatch.setattr(os, "fsync", lambda descriptor: (flushed.append(descriptor), flush(descriptor))[1])
    unpack(tmp_path / "cells.zip", tmp_path / "archives")
    assert [(folder / name).read_text() for name in names] == names
    assert listed.count(folder) <= 1
    assert len(flushed) <= 5
    assert [record.message for record in caplog.records] == [f"{folder}: 300 missing files are unpacked again."]


def test_damaged_files_of_an_archive_are_told_in_one_line_and_not_counted_as_missing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    folder = unpack(packed(tmp_path), tmp_path / "archives")
    for name in list(CONTENTS)[:2]:
        flip(folder / name)
    (folder / "b" / "3.png").unlink()
    unpack(tmp_path / "cells.zip", tmp_path / "archives")
    assert read(folder) == CONTENTS
    assert sorted(record.message.split(": ", 1)[1] for record in caplog.records) == [
        "1 missing file is unpacked again.",
        "1.png): they are not used but made anew.",
    ]
