"""Files that belong together, where two commands write them to one folder at the same time."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cytolora.cli import compare, learning_curve
from cytolora.models.backbones.registry import NANO
from cytolora.models.checkpoints import offline_folder


def _by(path: Path) -> str:
    return json.loads(path.read_text())["by"]


def test_a_learning_curve_written_in_the_middle_of_another_one_is_mixed_with_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    others = ["second"]

    def save(figure: Any, folder: Path) -> None:
        if others:
            write(others.pop())
        (folder / "labels.csv").write_text(figure.title)

    def write(title: str) -> None:
        learning_curve._write(None, {"by": title}, tmp_path, title)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("cytolora.display.figure.save", save)
    write("first")
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["labels.csv", "labels.json"]
    assert ((tmp_path / "labels.csv").read_text(), _by(tmp_path / "labels.json")) == ("first", "first")


def test_a_comparison_written_in_the_middle_of_another_one_is_mixed_with_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    others = ["second"]

    def rows(by: str) -> str:
        if others:
            compare._write(tmp_path, others.pop())  # pyright: ignore[reportArgumentType]
        return by

    monkeypatch.setattr(compare, "to_lines", lambda by: [[by]])
    monkeypatch.setattr(compare, "notes", lambda by: [])
    monkeypatch.setattr(compare, "to_rows", rows)
    monkeypatch.setattr(compare, "to_csv", lambda by, columns: by)
    monkeypatch.setattr(compare, "_plain", lambda by: {"by": by})
    compare._write(tmp_path, "first")  # pyright: ignore[reportArgumentType]
    assert ((tmp_path / "compare.csv").read_text(), _by(tmp_path / "compare.json")) == ("first", "first")
    assert (tmp_path / "compare.md").read_text().splitlines()[2] == "| first |"


def test_checkpoints_that_two_commands_fetch_to_one_folder_are_both_in_its_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The second begins when the first has read the list and not written it yet."""
    assert NANO.weights is not None
    checkpoint, read, others = NANO.weights, offline_folder.read_manifest, list[threading.Thread]()

    def keep(name: str) -> None:
        offline_folder.keep(replace(NANO, name=name), checkpoint, tmp_path / "weights")

    def read_slowly(folder: Path) -> Any:
        found = read(folder)
        if not others:
            others.append(threading.Thread(target=keep, args=("second",)))
            others[0].start()
            others[0].join(timeout=0.5)
        return found

    monkeypatch.setattr(offline_folder, "read_manifest", read_slowly)
    (tmp_path / "weights").mkdir()
    keep("first")
    others[0].join()
    assert [record.name for record in read(tmp_path / "weights")] == ["first", "second"]
