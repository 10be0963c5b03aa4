"""Files of a labelling project belong together: what was changed, cut or swapped is one line, and moves no label."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from labelling_projects import CLASSES, make_project, truth_of

from cytolora.errors import DataError
from cytolora.labelling.adapt import load_adapted
from cytolora.labelling.export import read_labelled
from cytolora.labelling.project import CELLS, FILE, JOURNAL, read_project
from cytolora.labelling.session import Labelling, create_project


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight groups of three cells, all labelled as they are; read only."""
    made = make_project(tmp_path_factory.mktemp("labelled"), groups=8, each=3, with_features=False)
    opened = Labelling(made)
    for value in CLASSES:
        cells = [cell for cell, name in enumerate(opened._project.names) if truth_of(name) == value]
        opened.label("ann", cells, value, client_id=f"label {value}")
    opened.close()
    return made


@pytest.fixture
def project(labelled: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(labelled, tmp_path / "project")


def as_written_before(project: Path) -> None:
    """Takes away what binds the files, as in a project of an earlier version."""
    about = json.loads((project / FILE).read_text())
    del about["cells_sha256"]
    (project / FILE).write_text(json.dumps(about))
    with sqlite3.connect(project / JOURNAL) as journal:
        journal.execute("DROP TABLE cells")
    journal.close()


def rows_of(project: Path) -> list[str]:
    return (project / CELLS).read_text().splitlines()


def write_rows(project: Path, rows: list[str], end: str = "\n") -> None:
    (project / CELLS).write_bytes("".join(row + end for row in rows).encode())


@pytest.mark.parametrize("is_old", [False, True])
def test_another_order_of_rows_and_other_line_ends_move_no_label(project: Path, is_old: bool):
    if is_old:
        as_written_before(project)
    header, *rows = rows_of(project)
    write_rows(project, [header, *reversed(rows)], end="\r\n")
    samples = read_labelled(project).manifest.samples
    assert len(samples) == 24
    assert all(one.label == truth_of(one.path) for one in samples)


def _edited(project: Path, row: int, column: int, text: str) -> None:
    rows = [line.split(",") for line in rows_of(project)]
    rows[row][column] = text
    write_rows(project, [",".join(cells) for cells in rows])


def _first(project: Path, share: str) -> int:
    return next(at for at, row in enumerate(rows_of(project)) if row.split(",")[2] == share)


def _same_draw(project: Path) -> None:
    _edited(project, _first(project, "test"), 3, "2")
    _edited(project, [at for at, row in enumerate(rows_of(project)) if ",test," in row][-1], 3, "2")


CHANGES: dict[str, Callable[[Path], object]] = {
    r"lists other cells, groups or draws .* \(19 cells now\)|do not count": lambda p: write_rows(p, rows_of(p)[:20]),
    "has no cell": lambda p: write_rows(p, rows_of(p)[:1]),
    r"line \d+: found draw 'soon' of a test cell, expected a whole": lambda p: _edited(p, _first(p, "test"), 3, "soon"),
    r"line \d+: found draw '7' of a train cell, expected nothing": lambda p: _edited(p, _first(p, "train"), 3, "7"),
    "found share 'val', expected train or test": lambda p: _edited(p, 3, 2, "val"),
    "which is listed twice": lambda p: write_rows(p, [*rows_of(p), rows_of(p)[1]]),
    "found no path": lambda p: _edited(p, 1, 0, ""),
    "draw 2 is there twice": _same_draw,
    "lists other cells, groups or draws": lambda p: _edited(p, 1, 1, "slide 7"),
    "labels would go to other cells": lambda p: _edited(p, 1, 0, "AAA.png"),
    "is empty, expected the labels": lambda p: (p / JOURNAL).write_bytes(b""),
    r"journal.sqlite is missing: .* Restore it": lambda p: (p / JOURNAL).unlink(),
    r"Cannot read .*cells.csv": lambda p: (p / CELLS).unlink(),
}


@pytest.mark.parametrize("match", CHANGES)
def test_a_file_that_was_changed_is_one_line_for_every_way_into_the_project(project: Path, match: str):
    CHANGES[match](project)
    before = {path.name: path.read_bytes() for path in project.iterdir()}
    for enter in (Labelling, read_labelled):
        with pytest.raises(DataError, match=match) as caught:
            enter(project)
        assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in project.iterdir()} == before


@pytest.mark.parametrize(("key", "value", "found"), [
    ("cells", 5, "cells: Input should be a valid string, got 5"), ("classes", [1, 2], "classes.0: "),
    ("classes", ["NILM"], "classes are two or more"), ("seed", "soon", "seed: "), ("order", ["CIN"], "none but these"),
    ("mixture", {"doubt": 1}, "mixture has the parts"), ("sedes", 1, "unknown key 'sedes'"),
    ("version", "1", "damaged"),
])  # fmt: skip
def test_a_description_is_checked(project: Path, key: str, value: object, found: str):
    about = json.loads((project / FILE).read_text())
    (project / FILE).write_text(json.dumps({**about, key: value}))
    with pytest.raises(DataError, match=rf"{found}.*\. Restore it from a copy\.$"):
        Labelling(project)


def test_a_journal_of_other_cells_and_another_database_are_refused_untouched(project: Path, tmp_path: Path):
    other = make_project(tmp_path / "other", groups=7, each=3, with_features=False)
    own = (project / JOURNAL).read_bytes()
    (project / JOURNAL).write_bytes((other / JOURNAL).read_bytes())
    with pytest.raises(DataError, match=r"labels of other cells than .* lists"):
        Labelling(project)
    (project / JOURNAL).unlink()
    with sqlite3.connect(project / JOURNAL) as foreign:
        foreign.execute("CREATE TABLE theirs (number INTEGER)")
    foreign.close()
    before = (project / JOURNAL).read_bytes()
    with pytest.raises(DataError, match="is no journal of labels"):
        Labelling(project)
    assert (project / JOURNAL).read_bytes() == before
    (project / JOURNAL).write_bytes(own)
    assert len(read_labelled(project).manifest.samples) == 24


def test_a_project_from_before_opens_as_it_was_and_is_bound_by_the_next_command(project: Path):
    as_written_before(project)
    assert len(read_labelled(project).manifest.samples) == 24
    assert "cells_sha256" not in json.loads((project / FILE).read_text())
    for _ in range(2):
        create_project(project, project)
        assert json.loads((project / FILE).read_text())["cells_sha256"] == read_project(project).cells_sha256
    _edited(project, 1, 1, "slide 7")
    with pytest.raises(DataError, match="lists other cells"):
        Labelling(project)


def test_a_cut_table_of_a_project_from_before_is_found_by_its_labels(project: Path):
    as_written_before(project)
    header, *rows = rows_of(project)
    without = next(row for row in rows if ",train," in row)
    write_rows(project, [header, *(row for row in rows if row != without)])
    for enter in (Labelling, read_labelled, lambda folder: create_project(folder, folder)):
        with pytest.raises(DataError, match=r"label of cell 23, and cells\.csv beside it lists 23 cells, numbered"):
            enter(project)


def test_what_lora_wrote_is_checked(project: Path):
    (project / "lora").mkdir()
    about = {"model": "nano", "learning_rate": 1, "num_steps": 1, "trained_on": 5}
    (project / "lora" / "about.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"trained_on: .*Remove it, and train LoRA again\.$"):
        load_adapted(read_project(project))
