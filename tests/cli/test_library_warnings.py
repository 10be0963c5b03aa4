"""Warnings of libraries are one counted line of a command, and none is lost."""

import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_bundle import write_small_bundle

from cytolora.cli import app
from cytolora.cli.library_warnings import folded


def test_a_thousand_warnings_are_one_line_with_counts_by_package(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logging.getLogger("somelibrary"), "propagate", False)  # pytest has a handler at the root
    with folded() as found:
        for number in range(1000):
            warnings.warn_explicit(f"Truncated {number}", UserWarning, "/x/site-packages/PIL/TiffImagePlugin.py", 7)
        for number in range(44):
            logging.getLogger("somelibrary.reader").warning("strip %d is\nempty", number)
    assert found.line() == "1,044 warnings of libraries (PIL 1,000, somelibrary 44); the first: Truncated 0"


def test_what_was_before_is_there_again():
    before = warnings.showwarning, logging.lastResort
    with pytest.raises(ValueError, match="stop"), folded():
        raise ValueError("stop")
    assert (warnings.showwarning, logging.lastResort) == before


def test_records_of_our_own_are_printed_as_ever(capsys: pytest.CaptureFixture[str]):
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "lastResort", handler)
        with folded() as found:
            logging.lastResort.handle(  # pyright: ignore[reportOptionalMemberAccess]
                logging.LogRecord("cytolora.core.checksum", logging.WARNING, "", 0, "2 entries made again", None, None)
            )
    assert seen == ["2 entries made again"]
    assert found.line() == ""


def test_a_command_prints_the_line_last_and_keeps_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def command(*_: object, **__: object) -> int:
        warnings.warn_explicit("one", UserWarning, "/x/site-packages/tifffile/tifffile.py", 7)
        return 1

    monkeypatch.setattr(app, "app", command)
    with pytest.raises(SystemExit) as stop:
        app.main(["check"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "cytolora: 1 warning of a library (tifffile 1); the first: one\n"


@pytest.mark.slow
def test_damaged_images_make_few_lines(tmp_path: Path):
    bundle, cells = write_small_bundle(tmp_path / "model"), tmp_path / "cells"
    cells.mkdir()
    for number in range(30):
        path = cells / f"{number}.tif"
        Image.fromarray(np.full((30, 30, 3), number, np.uint8)).save(path, compression="tiff_lzw")
        content = bytearray(path.read_bytes())
        content[20 + number] ^= 0xFF
        path.write_bytes(content[: len(content) - number])
    arguments = ["predict", str(bundle), str(cells), "--out", str(tmp_path / "p.csv"), "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", "from cytolora.cli.app import main; main()", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False,
    )  # fmt: skip
    assert len((tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()) == 31
    assert len(done.stderr.decode().splitlines()) <= 10, done.stderr.decode()[:2000]
