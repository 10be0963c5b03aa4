"""A full disk, wherever a command meets it, is one line and exit code 2."""

import errno
import os
from pathlib import Path

import pytest
from faulty_files import FaultyFiles

from cytolora.cli import app as command_line


@pytest.mark.parametrize("at", range(4))
def test_a_full_disk_in_split_is_one_line_and_leaves_nothing(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], at: int
):
    (tmp_path / "out").mkdir()
    with FaultyFiles(tmp_path / "out", at=at, fault="full").installed(), pytest.raises(SystemExit, match="2"):
        command_line.main(["split", str(drawn_cells), "--out", str(tmp_path / "out" / "split.csv"), "--quiet"])
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith("cytolora: Cannot write")
    assert "No space left on device" in told
    assert [path.name for path in (tmp_path / "out").iterdir()] in ([], ["split.csv"])


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room, and run the same command again."),
        (errno.EDQUOT, "Make room, and run the same command again."),
        (errno.EROFS, "Name a folder on a disk that may be written, or make this one writable."),
    ],
)
def test_a_full_disk_that_no_command_expects_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, advice: str
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "/disk/file")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["ls"])
    told = " ".join(capsys.readouterr().err.split())
    assert told == f"cytolora: Cannot write /disk/file: {os.strerror(number)}. {advice}"


def test_other_faults_of_the_system_are_not_taken_for_a_full_disk(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTCONN, "not connected")

    monkeypatch.setattr(command_line, "app", fail)
    with pytest.raises(OSError, match="not connected"):
        command_line.main(["ls"])
