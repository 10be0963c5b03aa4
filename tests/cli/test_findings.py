"""`check` says beforehand what `fit`, `split` and `run` refuse; findings are readable, and in every document."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from class_folders import write_classes
from rich.console import Console

from cytolora.classifier.fit.prepare import read_cells
from cytolora.cli.app import main
from cytolora.cli.print_findings import print_findings
from cytolora.core.findings import few_of_each, finding
from cytolora.errors import DataError


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


def table(folder: Path, *rows: str) -> Path:
    write_classes(folder / "cells", a=12, b=12)
    (folder / "manifest.csv").write_text("\n".join(["path,label,group,subset", *rows]) + "\n")
    return folder / "manifest.csv"


def one_image(folder: Path) -> Path:
    return write_classes(folder, a=9, b=9, rare=1)


def two_images(folder: Path) -> Path:
    return write_classes(folder, a=9, b=2)


def one_class(folder: Path) -> Path:
    return write_classes(folder, only=9)


def class_like_a_column(folder: Path) -> Path:
    return write_classes(folder, predicted=9, b=9)


def only_copies(folder: Path) -> Path:
    cells = write_classes(folder, a=9, b=2)
    for number in range(4):
        shutil.copy(cells / "b" / "000.png", cells / "b" / f"9{number}.png")
    return cells


def only_damaged(folder: Path) -> Path:
    cells = write_classes(folder, a=9, b=9)
    for path in sorted((cells / "b").iterdir())[2:]:
        path.write_bytes(path.read_bytes()[:20])
    return cells


def all_labelled_twice(folder: Path) -> Path:
    cells = write_classes(folder, a=9, b=9, c=3)
    for path in sorted((cells / "c").iterdir()):
        shutil.copy(path, cells / "b" / f"{path.stem}-c.png")
    return cells


def two_groups(folder: Path) -> Path:
    rows = [f"cells/{label}/{number:03}.png,{label},g{number % 2}{label}," for label in "ab" for number in range(12)]
    return table(folder, *rows)


def no_train(folder: Path) -> Path:
    sides = ("val", "test")
    rows = [f"cells/{label}/{number:03}.png,{label},,{sides[number % 2]}" for label in "ab" for number in range(12)]
    return table(folder, *rows)


REFUSED: list[tuple[Callable[[Path], Path], str, str]] = [
    (one_image, "L404", "class 'rare' has 1 image, too few"),
    (two_images, "L404", "class 'b' has 2 images, too few"),
    (one_class, "L405", "has one class, 'only'"),
    (class_like_a_column, "L409", "a class is named 'predicted', like a column of predictions"),
    (only_copies, "L404", "class 'b' has 2 images, too few"),
    (only_damaged, "L404", "class 'b' has 2 images, too few"),
    (all_labelled_twice, "L404", r"class 'c' has no image left .* images with equal pixels and different labels left"),
    (two_groups, "L404", "class 'a' has 12 images from 2 groups, too few"),
    (no_train, "D509", "has images for test and val but none for train"),
]


@pytest.mark.parametrize(("write", "code", "text"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_check_says_as_an_error_what_fit_refuses(write, code, text, tmp_path, capsys):
    cells = write(tmp_path / "data")
    with pytest.raises(DataError, match=text) as refusal:
        read_cells(cells)
    assert called("check", cells, "--json", "--quiet") == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    errors = {one["text"]: one["code"] for one in found if one["severity"] == "error"}
    said = [words for words in errors if str(refusal.value) in words and "`fit`" in words]
    assert [errors[words] for words in said] == [code]
    assert called("check", cells, "--quiet") == 1
    assert f"! {code} Refused by `fit`" in capsys.readouterr().out


@pytest.mark.parametrize(
    "classes", [{"a": 3, "b": 3}, {"a": 9, "b": 9, "c": 4}, {"[red]x": 5, "b": 5}, {"Label": 4, "Path ": 4}]
)
def test_check_has_no_error_on_what_fit_divides(classes, tmp_path, capsys):
    cells = write_classes(tmp_path / "cells", **classes)
    assert read_cells(cells).manifest.has_subsets
    assert called("check", cells, "--json", "--quiet") == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["code"] for one in found if one["severity"] != "note"] == []


def test_check_names_the_commands_that_refuse_and_those_alone(tmp_path, capsys):
    called("check", only_damaged(tmp_path / "cells"), "--quiet")
    said = capsys.readouterr().out
    assert "Refused by `fit`: cells: class 'b' has 2 images" in said  # split and run do not open the files
    called("check", one_image(tmp_path / "others"), "--quiet")
    assert "Refused by `fit`, `split` and `run`: others: class 'rare'" in capsys.readouterr().out


def test_run_refuses_one_class_as_fit_does(tmp_path, capsys):
    cells = one_class(tmp_path / "cells")
    grid = ("smoke", "--dataset", "folder", "--data", f"folder={cells}", "--out", tmp_path / "runs")
    assert called("run", *grid, "--shots", "1", "--seeds", "1", "--steps", "1") == 2
    assert "cells has one class, 'only'" in capsys.readouterr().err


def many():
    return [finding("F209", f"cells: class 'c{number}' has no images in test.") for number in range(9)]


def test_many_findings_of_one_kind_are_three_and_a_count_the_gravest_kind_first():
    found = [finding("D506", "Groups."), *many(), finding("L405", "One class.")]
    shown = few_of_each(found)
    assert [one.code for one in shown] == ["L405", "F209", "F209", "F209", "F209", "D506"]
    assert str(shown[4]) == "… and 6 more of this kind; --json lists all."
    assert few_of_each(many()[:4]) == many()[:4]


def printed(*, terminal: bool) -> str:
    stream = StringIO()
    console = Console(
        file=stream, width=80, force_terminal=terminal, color_system="standard" if terminal else None, markup=False
    )
    console.soft_wrap = not terminal
    text = (
        "Images with equal pixels: 12, the first are [red]normal[/red]/cell00 (1).png = normal/cell00.png; b = c; " * 2
    )
    print_findings([finding("D501", text.strip())], console)
    return stream.getvalue()


def test_a_terminal_shows_findings_in_colour_within_its_width_and_a_pipe_one_line_each():
    on_terminal, in_pipe = printed(terminal=True), printed(terminal=False)
    assert "\x1b[33m! D501" in on_terminal
    assert in_pipe.startswith("! D501 Images with equal pixels: 12, the first are [red]normal[/red]/cell00 (1).png")
    assert in_pipe.count("\n") == 1
    plain = on_terminal.replace("\x1b[33m", "").replace("\x1b[0m", "").splitlines()
    assert len(plain) > 2
    assert all(len(row) <= 80 for row in plain)
    assert all(row.startswith("       ") for row in plain[1:])
    assert " ".join(" ".join(plain).split()) == " ".join(in_pipe.split())
