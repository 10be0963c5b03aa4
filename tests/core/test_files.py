"""Whatever is written is written whole or not at all."""

from pathlib import Path

import pytest

from cytolora.core import files
from cytolora.core.files import staged_file, write_bytes, write_json
from cytolora.core.folders import recover_folders, staged_folder
from cytolora.core.unfinished import sweep, temporary_name


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a.json", b"old")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_bytes(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"old"
    assert _names(tmp_path) == ["a.json"]


def test_a_folder_appears_whole_when_the_block_ends_and_not_before(tmp_path):
    target = tmp_path / "run"
    with staged_folder(target) as folder:
        (folder / "one").write_text("1")
        assert not target.exists()
    assert _names(target) == ["one"]
    assert _names(tmp_path) == ["run"]


def test_a_block_that_raises_leaves_the_old_folder_and_nothing_half_written(tmp_path):
    with staged_folder(tmp_path / "run") as folder:
        (folder / "old").write_text("")

    def interrupted() -> None:
        with staged_folder(tmp_path / "run") as folder:
            (folder / "new").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _names(tmp_path) == ["run"]
    assert _names(tmp_path / "run") == ["old"]


def test_an_existing_folder_is_replaced_whole(tmp_path):
    for name in ("old", "new"):
        with staged_folder(tmp_path / "run") as folder:
            (folder / name).write_text("")
    assert _names(tmp_path / "run") == ["new"]
    assert _names(tmp_path) == ["run"]


@pytest.mark.parametrize("prefix", [".cytolora-replaced-", ".replaced-"], ids=["ours", "earlier"])
@pytest.mark.parametrize("crash_after", ["stepping aside", "stepping in"])
def test_a_process_killed_while_replacing_a_folder_loses_neither_version(tmp_path, crash_after, prefix):
    """The state on disk after a kill between the two renames, and after the second one."""
    target, aside = tmp_path / "run", tmp_path / f"{prefix}run"
    aside.mkdir()
    (aside / "old").write_text("")
    if crash_after == "stepping in":
        target.mkdir()
        (target / "new").write_text("")
    recover_folders(tmp_path)
    assert _names(target) == (["old"] if crash_after == "stepping aside" else ["new"])
    assert _names(tmp_path) == ["run"]


def test_what_a_killed_process_had_begun_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    killed = temporary_name(tmp_path / "model")
    killed.mkdir()
    (killed / "half").write_text("")
    temporary_name(tmp_path / "table.csv").write_text("")
    (tmp_path / ".cytolora-staging-notes").write_text("of somebody else")
    with staged_folder(tmp_path / "model") as folder, staged_file(tmp_path / "table.csv") as table:
        (folder / "one").write_text("1")
        sweep(tmp_path)
        assert sorted(_names(tmp_path)) == sorted([folder.name, table.name, ".cytolora-staging-notes"])
    assert _names(tmp_path) == [".cytolora-staging-notes", "model", "table.csv"]


def test_nan_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_a_rename_that_the_system_forbids_fails_at_once_in_the_systems_own_words(tmp_path, monkeypatch):
    calls = []

    def forbidden(source: Path, target: Path) -> None:
        calls.append(source)
        raise PermissionError(13, "Permission denied", str(source), None, str(target))

    monkeypatch.setattr(files.time, "sleep", lambda seconds: pytest.fail("waits"))
    with pytest.raises(PermissionError) as caught:
        files.rename(forbidden, tmp_path / "a", tmp_path / "b")
    assert (caught.value.strerror, caught.value.filename) == ("Permission denied", str(tmp_path / "a"))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "name", ["a" * 255, "ä" * 127, "細" * 83 + ".csv", "b" * 240 + ".json", "🔬" * 63, "c" * 229], ids=len
)
def test_a_file_may_have_the_longest_name_that_the_system_knows(tmp_path, name):
    for content in (b"old", b"new"):
        write_bytes(tmp_path / name, content)
        assert (tmp_path / name).read_bytes() == content
    with staged_file(tmp_path / name) as path:
        path.write_bytes(b"newest")
        assert path.name.startswith(".cytolora-staging-")
        assert len(path.name.encode()) <= 143  # the limit of eCryptfs
    assert _names(tmp_path) == [name]


def test_a_folder_may_have_any_name_that_another_can_be_set_aside_under(tmp_path):
    for text in ("old", "new"):
        with staged_folder(tmp_path / ("a" * 236)) as folder:
            (folder / text).write_text("")
    assert _names(tmp_path / ("a" * 236)) == ["new"]
