"""Labels of a project as a table, as a dataset that ``fit`` takes, and in the formats of other programs."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from cytolora.classifier.fit.readers import Readings, kappa_in_words
from cytolora.config.method_kinds import ReaderLabels
from cytolora.core.delimited import csv_line
from cytolora.core.files import write_text
from cytolora.core.text import counted
from cytolora.data.exchange.formats import convert
from cytolora.data.manifest import Manifest
from cytolora.data.own_files import FileKind
from cytolora.data.readers.selection import CHOSEN, COLUMNS, DRAWN, SELECTION
from cytolora.data.readers.tables import has_columns
from cytolora.data.targets import check_replaceable_file
from cytolora.errors import DataError
from cytolora.labelling.board import NO_CELL, NOT_SURE, Board
from cytolora.labelling.features import load_features, usable
from cytolora.labelling.project import LABELS, Project, manifest_of, read_project
from cytolora.labelling.soft import with_soft_labels
from cytolora.metrics.intervals import MIN_GROUPS
from cytolora.metrics.readers import summary

_OWN = FileKind(name="table of a project's labels", is_own=lambda file: has_columns(file, set(COLUMNS) - {SELECTION}))
"""Of any version."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What a classifier can be fitted to."""

    manifest: Manifest
    """Training cells, and the test cells that were drawn; subsets and groups are filled in."""
    statements: tuple[str, ...]
    """How the cells were chosen and weigh, for a report."""
    model: str
    """Backbone that was labelled with."""
    weights: Mapping[str, str]
    """Checkpoints on disk, by backbone."""
    readings: Readings | None = None
    """Of the drawn test cells; None where no two readers gave one of them a class."""


def labels_of(project: Project, board: Board, reader_labels: ReaderLabels = "agreed") -> Labels:
    """Collects the labels: all of training groups, and of test groups the agreed ones of drawn cells.

    A cell that is no longer there is left out, and ``statements`` say so.

    Args:
        reader_labels: ``soft`` gives training cells on which readers differ, and nobody decided, the shares of the
            readers; those without an agreed label may be trained on, and nothing else.

    Raises:
        DataError: If no cell has a class.
    """
    drawn = set(board.drawn())
    counts = (board.codes >= 0) & project.is_there
    cells = [int(cell) for cell in np.flatnonzero(counts) if not project.is_test[cell] or int(cell) in drawn]
    classes = project.about.classes
    if not cells:
        raise DataError(
            f"{project.folder} has no labels that count yet; label some cells with `cytolora label {project.folder}`."
        )
    manifest = manifest_of(project, {cell: classes[board.codes[cell]] for cell in cells}, subsets=True)
    statements = _statements(project, board, cells, sorted(drawn))
    if reader_labels == "soft":
        manifest, of_soft = with_soft_labels(project, board, manifest)
        statements.append(of_soft)
    return Labels(
        manifest=manifest,
        statements=tuple(statements),
        model=project.about.model,
        weights=project.about.weights,
        readings=_readings(project, board, drawn),
    )


def lacking(project: Project, board: Board) -> str:
    """Says what a project lacks to become a classifier whose test is valid; empty where it lacks nothing.

    Without a drawn test cell that has a class only training cells are left, which were chosen because a label helps:
    a test set divided off from them would give figures that hold for no sample.
    """
    again = f"`cytolora label {project.folder}`"
    if not board.training():
        return f"{project.folder}: no readable cell outside of the test share has a class; label some: {again}."
    drawn, of_share = board.drawn(), project.is_test & board.is_usable
    if any(board.codes[cell] >= 0 for cell in drawn):
        return ""
    waiting = int((of_share & board.is_held).sum()) - len(drawn)
    found = f"{len(drawn)} of {counted(int(of_share.sum()), 'cell')} of the test share were labelled in the order drawn"
    found += f" ({waiting} out of turn, which do not count yet)" if waiting else ""
    advice = "Label more of them" if len(drawn) < of_share.sum() else "Give some of them a class"
    return (
        f"{project.folder}: no drawn test cell has a class, and training cells are not tested on instead, for they "
        f"were chosen; {found}. {advice}: {again}, 'of the test share'."
    )


def _readings(project: Project, board: Board, drawn: Container[int]) -> Readings | None:
    about = project.about
    of_drawn = {
        reader: {cell: about.classes[code] for cell, code in given.items() if cell in drawn}
        for reader, given in class_labels(board).items()
    }
    times = Counter(cell for given in of_drawn.values() for cell in given)
    if max(times.values(), default=0) < 2:
        return None
    names = project.names
    return Readings(
        classes=about.order or about.classes,
        is_ordered=bool(about.order),
        labels={who: {names[cell]: name for cell, name in given.items()} for who, given in of_drawn.items() if given},
        units={names[cell]: project.units[cell] for cell in times},
    )


def _statements(project: Project, board: Board, cells: Sequence[int], drawn: Sequence[int]) -> list[str]:
    about, test = project.about, [cell for cell in cells if project.is_test[cell]]
    num_groups = len({project.units[cell] for cell in np.flatnonzero(project.is_test)})
    unit = "groups" if about.groups_known else "groups or, where these are not known, images"
    found = [
        f"Test cells: {len(test)} labelled cells out of {int(project.is_test.sum())} of {num_groups} {unit}, which "
        f"were drawn before the first label (each with probability {about.group_probability:.3g}, seed {about.seed}). "
        "Cells were drawn from them by chance alone and without replacement, so each weighs the same.",
        f"Training and calibration cells: {len(cells) - len(test)}, chosen while labelling, among them doubtful ones: "
        "their classes are not as frequent as in the sample, so thresholds and prediction sets that rest on them are "
        "approximate; the test figures do not rest on them.",
    ]
    unsure, none = (int(sum(board.codes[cell] == code for cell in drawn)) for code in (NOT_SURE, NO_CELL))
    differ = sum(board.codes[cell] == -1 for cell in drawn)
    if unsure or none or differ:
        found.append(
            f"Of the drawn test cells {unsure} were marked unsure, {none} are no cells, and on {differ} readers "
            "differ: they are left out."
        )
    gone = np.flatnonzero(board.is_held & (~project.is_there | (project.is_test & ~board.is_usable))).tolist()
    if gone:
        cannot = counted(len(gone), "labelled cell is", "labelled cells are")
        found.append(f"{cannot} no longer there or cannot be read, {project.names[gone[0]]} first: left out.")
    num_out = int((project.is_test & board.is_held & board.is_usable).sum()) - len(drawn)
    if num_out:
        found.append(
            f"{counted(num_out, 'test cell')} labelled out of turn {'is' if num_out == 1 else 'are'} left out."
        )
    return found + _of_readers(project, board)


def _of_readers(project: Project, board: Board) -> list[str]:
    found = agreement_of(project, board)
    weights = ", linear weights" if found["weighted"] else ""
    return [
        f"Readers {one['a']} and {one['b']}: Cohen's kappa{weights} {kappa_in_words(one)} on "
        f"{counted(one['cells'], 'cell')} of both shares."
        for one in found["cohen"]
        if one["kappa"] is not None
    ]


def agreement_of(project: Project, board: Board) -> dict[str, Any]:
    """Compares the readers on all cells (``metrics.readers.summary``); weighted where the classes are ordered.

    ``caution`` is a sentence where intervals rest on few groups, else None.
    """
    about, labels = project.about, class_labels(board)
    found = summary(labels, project.units, classes=about.classes, order=about.order)
    numbers = [
        len({project.units[cell] for cell in set(labels[a]) & set(labels[b])}) for a, b in combinations(labels, 2)
    ]
    fewest = min((number for number in numbers if number), default=MIN_GROUPS)
    caution = (
        f"An interval of kappa rests on {counted(fewest, 'group')}; under about {MIN_GROUPS} it may be too narrow. "
        "Read cells of more groups a second time."
    )
    return {**found, "caution": caution if fewest < MIN_GROUPS else None}


def class_labels(board: Board) -> dict[str, dict[int, int]]:
    """Returns the class index that every reader gave, by reader and cell; labels that are no class are left out."""
    labels: dict[str, dict[int, int]] = {}
    for cell in np.flatnonzero(board.is_held).tolist():
        for reader, value in board.votes.by_reader(cell).items():
            code = board.code(value)
            if code >= 0:
                labels.setdefault(reader, {})[cell] = code
    return labels


def write_labels(project: Project, board: Board, path: Path | None = None) -> Path:
    """Writes path, label, subset, group and selection of every cell that ``fit`` may use.

    Paths are relative to the cells' folder; the selection is ``drawn`` of test cells, and ``chosen`` of others.

    Raises:
        ConfigError: If a file is there that is no such table; it would be lost.
        DataError: If no cell has a class.
    """
    target = project.folder / LABELS if path is None else path
    check_replaceable_file(target, _OWN, option="name for it")
    samples = labels_of(project, board).manifest.samples
    selection = {"test": DRAWN, "train": CHOSEN}
    rows = [[one.path, one.label, one.subset, one.group, selection[one.subset or "train"]] for one in samples]
    write_text(target, "".join(map(csv_line, [COLUMNS, *rows])))
    return target


def write_format(project: Project, board: Board, name: str, path: Path) -> list[Path]:
    """Writes the same in a format of another program (`cytolora ls formats`).

    Raises:
        ConfigError: If the format is unknown, or ``path`` exists.
    """
    return convert(labels_of(project, board).manifest, name, path)[1]


def read_labelled(folder: Path, reader_labels: ReaderLabels = "agreed") -> Labels:
    """Reads a project for ``fit``, with the hash of every image, and brings its ``labels.csv`` up to date.

    Args:
        reader_labels: As of ``labels_of``; ``labels.csv`` holds the agreed ones.

    Raises:
        DataError: If it is no project, or training or drawn test cells with a class are missing.
    """
    with _opened(folder) as (project, board):
        labels = labels_of(project, board, reader_labels)
        if lack := lacking(project, board):
            raise DataError(lack)
        write_labels(project, board)
    return replace(labels, manifest=labels.manifest.with_hashes())


def read_agreed(folder: Path) -> Manifest:
    """Reads the agreed labels of a project as a dataset, whether ``fit`` may use them or not; writes nothing.

    Raises:
        DataError: If it is no project, or nothing is labelled.
    """
    with _opened(folder) as (project, board):
        return labels_of(project, board).manifest.with_hashes()


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[Project, Board]]:
    project = read_project(folder)
    board, features = Board(project), load_features(project)
    try:
        if features is not None:
            board.take_readable(usable(features))
        yield project, board
    finally:
        board.close()
