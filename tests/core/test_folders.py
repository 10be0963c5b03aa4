"""Folders and files that several processes replace, read and sweep."""

import os
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contention import at_once, contents, leftovers

from cytolora.core import folders
from cytolora.core.files import staged_file, write_bytes
from cytolora.core.folders import (
    _aside,
    current_folder,
    folder_names,
    read_unreplaced,
    recover_folder,
    recover_folders,
    staged_folder,
    staged_together,
)
from cytolora.core.unfinished import sweep_below, temporary_name
from cytolora.data import archive
from cytolora.data.archive import unpack
from cytolora.data.readers.unpacked import unpack_once


def _write(folder: Path, text: str) -> None:
    with staged_folder(folder) as staging:
        for name in "abc":
            (staging / name).write_text(text)


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002, 0o000])
def test_files_and_folders_are_made_under_the_umask(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "file", b"1")
        with staged_file(tmp_path / "staged") as path:
            path.write_bytes(b"2")
        _write(tmp_path / "folder", "3")
        _write(tmp_path / "folder", "4")
        with staged_together(tmp_path) as staging:
            write_bytes(staging / "together", b"5")
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("file", "staged", "together", "folder/a")}
    assert set(modes.values()) == {0o666 & ~umask}, modes
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path):
    _write(tmp_path / "folder", "old")
    moments = iter([True, False])

    def read(folder: Path) -> list[str]:
        texts = [(folder / "a").read_text()]
        if next(moments):
            _write(tmp_path / "folder", "new")
        return [*texts, (folder / "b").read_text()]

    assert read_unreplaced(tmp_path / "folder", read) == ["new", "new"]


def test_a_fault_in_a_folder_that_nobody_replaced_is_told(tmp_path: Path):
    _write(tmp_path / "folder", "old")
    with pytest.raises(FileNotFoundError):
        read_unreplaced(tmp_path / "folder", lambda folder: (folder / "absent").read_text())


def test_a_folder_that_somebody_replaces_for_ever_is_no_endless_loop(tmp_path: Path):
    with pytest.raises(OSError, match="Another process is replacing it"):
        read_unreplaced(tmp_path / "folder", lambda folder: _write(tmp_path / "folder", "new"))


def test_files_written_together_are_those_of_one_process_whoever_is_killed(tmp_path: Path):
    def write_often(text: str) -> Callable[[], None]:
        def write() -> None:
            for _ in range(25):
                with staged_together(tmp_path / "out") as staging:
                    for name in "abc":
                        (staging / name).write_text(text * 100)

        return write

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("kept")
    ended = at_once([write_often(text) for text in "wxyz"], tmp_path / "logs", kills=[0.02, 0.05, None])
    assert [one.code for one in ended[2:]] == [0, 0], ended
    texts = contents(tmp_path / "out")
    assert texts.pop("mine") == b"kept"
    assert sorted(texts) == ["a", "b", "c"]
    assert len(set(texts.values())) == 1
    write_often("z")()
    assert leftovers(tmp_path / "out") == []


def test_four_processes_that_replace_one_folder_leave_one_of_theirs_whoever_is_killed(tmp_path: Path):
    def replace_often(text: str) -> Callable[[], None]:
        def replace() -> None:
            for _ in range(25):
                _write(tmp_path / "out" / "folder", text)

        return replace

    ended = at_once([replace_often(text) for text in "wxyz"], tmp_path / "logs", kills=[0.02, 0.05, None])
    assert [one.code for one in ended[2:]] == [0, 0], ended
    recover_folders(tmp_path / "out")
    assert len(set(contents(tmp_path / "out" / "folder").values())) == 1
    assert leftovers(tmp_path / "out") == []


def test_what_a_killed_process_had_begun_for_a_file_is_gone_when_the_next_one_writes_there(tmp_path: Path):
    for name in ("a.json", "b.json"):
        temporary_name(tmp_path / name).write_text("half")
    write_bytes(tmp_path / "a.json", b"{}")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_a_process_of_another_machine_writes_is_left_for_a_day(tmp_path: Path, monkeypatch: Any):
    """Its lock may not be known here."""
    monkeypatch.setattr("cytolora.core.unfinished._HOST", "else")
    paths = [temporary_name(tmp_path / name) for name in ("new", "old")]
    monkeypatch.undo()
    for path in paths:
        path.write_text("half")
    os.utime(paths[1], (0, 0))
    write_bytes(tmp_path / "a.json", b"{}")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", paths[0].name])


def test_an_error_after_the_new_folder_stands_there_takes_it_away_from_nobody(tmp_path: Path, monkeypatch: Any):
    """The flush of the parent folder fails, after the rename."""

    def fail(folder: Path) -> None:
        if folder == tmp_path:
            raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("cytolora.core.folders.sync_folder", fail)
        with pytest.raises(OSError, match="Input/output"):
            _write(tmp_path / "folder", "new")
    assert contents(tmp_path / "folder") == {"a": b"new", "b": b"new", "c": b"new"}


@pytest.mark.parametrize("kind", ["archive", "images"])
def test_what_one_process_reads_already_is_not_unpacked_over_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
):
    """The second begins while the first is at work."""
    others, found = list[threading.Thread](), dict[str, int]()
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        packed.writestr("a/1.png", b"1")

    def start_other(folder: Path) -> None:
        if not others:
            others.append(threading.Thread(target=unpacked, args=("other",)))
            others[0].start()
            others[0].join(timeout=0.3)
        (folder / "1.png").write_bytes(b"1")

    def unpacked(name: str) -> None:
        if kind == "images":
            unpack_once(tmp_path / "images", "key", start_other)
            found[name] = (tmp_path / "images").stat().st_ino
        else:
            found[name] = unpack(tmp_path / "cells.zip", cache=tmp_path / "cache").stat().st_ino

    extract = archive._extract

    def extract_slowly(packed: Any, members: Any, target: Path) -> None:
        start_other(tmp_path)
        extract(packed, members, target)

    monkeypatch.setattr(archive, "_extract", extract_slowly)
    unpacked("first")
    others[0].join()
    now = tmp_path / "images" if kind == "images" else next((tmp_path / "cache").glob("*/cells"))
    assert found == {"first": now.stat().st_ino, "other": now.stat().st_ino}


@pytest.fixture(params=["there", "dangling"])
def linked(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A link and what it leads to, on what may be another disk."""
    link, target = tmp_path / "link", tmp_path / "disk" / "target"
    target.parent.mkdir()
    if request.param == "there":
        _write(target, "first")
    link.symlink_to(Path("disk") / "target")
    return link, target


def test_a_folder_that_is_a_link_is_written_where_it_leads_again_and_again(linked: tuple[Path, Path], tmp_path: Path):
    link, target = linked
    for text in ("one", "two", "three"):
        _write(link, text)
        assert set(contents(target).values()) == {text.encode()}
        assert link.is_symlink()
        assert leftovers(tmp_path) == []


def test_a_linked_folder_that_a_killed_process_had_set_aside_is_found_and_comes_back(tmp_path: Path):
    link, target = tmp_path / "link", tmp_path / "disk" / "target"
    _write(target, "old")
    link.symlink_to(target)
    target.rename(_aside(target))
    assert (current_folder(link) / "a").read_text() == "old"
    recover_folder(link)
    assert set(contents(target).values()) == {b"old"}


def test_a_link_that_was_set_aside_is_removed_and_not_what_it_leads_to(tmp_path: Path):
    _write(tmp_path / "disk" / "target", "theirs")
    _write(tmp_path / "run", "new")
    _aside(tmp_path / "run").symlink_to(tmp_path / "disk" / "target")
    recover_folders(tmp_path)
    assert set(contents(tmp_path / "disk" / "target").values()) == {b"theirs"}
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("is_there", [True, False])
def test_a_file_that_is_a_link_is_written_where_it_leads(tmp_path: Path, is_there: bool):
    link, target = tmp_path / "link.csv", tmp_path / "disk" / "table.csv"
    target.parent.mkdir()
    if is_there:
        target.write_text("old")
    link.symlink_to(target)
    for text in ("new", "newer"):
        write_bytes(link, text.encode())
        assert target.read_text() == text
    with staged_file(link) as path:
        path.write_text("newest")
        assert path.parent == target.parent
    assert target.read_text() == "newest"
    assert link.is_symlink()


@pytest.mark.parametrize(
    "name",
    [
        ".staging-photos-20240101",
        ".staging-area-security",
        ".staging-db-deadbeef",
        ".replaced-photos",
        ".replaced-run",
        ".replaced-model.zip",
    ],
)
def test_what_others_named_like_leftovers_beside_an_output_stays(tmp_path: Path, name: str):
    (tmp_path / "photos").mkdir()
    _write(tmp_path / "run", "old")
    (tmp_path / name).mkdir()
    (tmp_path / name / "theirs").write_text("kept")
    for path in (tmp_path / name, tmp_path / name / "theirs"):
        os.utime(path, (0, 0))
    _aside(tmp_path / "run").mkdir()  # of a process that was killed
    recover_folder(tmp_path / "run")
    for text in ("new", "newer"):
        _write(tmp_path / "run", text)
        write_bytes(tmp_path / "table.csv", text.encode())
        with staged_file(tmp_path / "model.zip") as path:
            path.write_text(text)
    assert (tmp_path / name / "theirs").read_text() == "kept"
    assert set(contents(tmp_path / "run").values()) == {b"newer"}


def test_leftovers_of_earlier_versions_are_removed_in_stores_and_caches(tmp_path: Path):
    lefts = [tmp_path / ".staging-run-ab12cd_9", tmp_path / "pixels" / "aa" / ".staging-x.bin-0123abcd"]
    for left in lefts:
        left.mkdir(parents=True)
        (left / "half").write_text("")
        for path in (left / "half", left):
            os.utime(path, (0, 0))
    recover_folders(tmp_path)
    assert [left.exists() for left in lefts] == [False, True]
    sweep_below(tmp_path / "pixels")
    assert not lefts[1].exists()


def test_a_folder_that_an_earlier_version_set_aside_comes_back(tmp_path: Path):
    _write(tmp_path / ".replaced-model", "old")
    assert current_folder(tmp_path / "model") == tmp_path / ".replaced-model"
    assert folder_names(tmp_path) == ["model"]
    recover_folder(tmp_path / "model")
    assert set(contents(tmp_path / "model").values()) == {b"old"}
    assert not (tmp_path / ".replaced-model").exists()


def test_files_of_two_commands_that_write_to_one_folder_at_once_all_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second command, which began first, ends when the files of the first one are ready and not yet moved."""
    begun, may_end, rename = threading.Event(), threading.Event(), folders.rename

    def write(command: str, wait: Callable[[], object]) -> None:
        with staged_together(tmp_path / "out") as staging:
            for kind in ("json", "csv"):
                (staging / f"{command}.{kind}").write_text(command)
            wait()

    def rename_before_the_other_ends(step: Callable[[Path, Path], object], source: Path, target: Path) -> None:
        rename(step, source, target)
        if not may_end.is_set():
            may_end.set()
            other.join(timeout=0.3)

    other = threading.Thread(target=write, args=("compare", lambda: (begun.set(), may_end.wait())))
    other.start()
    begun.wait()
    monkeypatch.setattr(folders, "rename", rename_before_the_other_ends)
    write("curve", lambda: None)
    other.join()
    assert contents(tmp_path / "out") == {
        f"{command}.{kind}": command.encode() for command in ("compare", "curve") for kind in ("json", "csv")
    }
    assert leftovers(tmp_path / "out") == []


def test_what_a_killed_command_had_not_moved_is_moved_before_the_next_ones_files(tmp_path: Path):
    (tmp_path / ".together").mkdir()
    for name in ("curve.json", "both.csv"):
        (tmp_path / ".together" / name).write_text("killed")
    with staged_together(tmp_path) as staging:
        for name in ("compare.json", "both.csv"):
            (staging / name).write_text("next")
    assert contents(tmp_path) == {"curve.json": b"killed", "compare.json": b"next", "both.csv": b"next"}
    assert leftovers(tmp_path) == []
