"""Creation of a labelling project: cells, classes, shares, and labels made elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cytolora.core.arguments import AnyPath, as_named_paths, as_path, as_path_or_none
from cytolora.core.text import normal
from cytolora.errors import ConfigError
from cytolora.labelling.board import Board
from cytolora.labelling.cells import read_cells, read_labels
from cytolora.labelling.journal import Draft, Journal
from cytolora.labelling.place import source_of, take_place
from cytolora.labelling.project import (
    JOURNAL,
    Description,
    change_classes,
    checked_classes,
    is_project,
    order_of,
    read_project,
    write_project,
)
from cytolora.labelling.votes import Votes


def create_project(
    cells: AnyPath,
    out: AnyPath,
    *,
    classes: Sequence[str] = (),
    like: str | None = None,
    model: str = "nano",
    reader: str = "reader 1",
    test_share: float = 0.25,
    seed: int = 0,
    groups: str | None = None,
    labels: AnyPath | None = None,
    dataset: str | None = None,
    weights: Mapping[str, AnyPath] | None = None,
) -> Path:
    """Makes a project folder from cells, or opens the one that is there, and returns it.

    Whole groups are assigned to the test share before anything can be labelled.

    Example::

        folder = create_project("cells", "project", classes=["NILM", "LSIL", "HSIL"], model="uni")
        open_project = Labelling(folder)

    Args:
        cells: Folder, table with a column path (and group), or zip file.
        out: A folder that does not exist, or a project of the same cells; its classes change to those given, unless
            one is missing that was ever used, and everything else of it stays as it is. Where its cells moved, it
            takes ``cells`` for their new place, if all of them are there; images that came since are counted in a
            warning, and not taken in.
        classes: Names, two or more.
        like: Takes the classes of a shipped label map (``bethesda``) or a published dataset instead.
        model: Backbone of the features.
        reader: To whom ``labels`` belong.
        test_share: Share of the groups that is kept for testing, in (0, 1).
        seed: Of the draw of groups and cells.
        groups: As ``--groups-from``: ``folders``, ``names``, ``none`` or a pattern.
        labels: Table with columns path and label: labels made elsewhere.
        dataset: Registered reader of the cells, for their groups.
        weights: Checkpoints on disk, by backbone.

    Raises:
        CytoloraError: If something is for the user to change; nothing is written then.
    """
    place, folder = as_path(cells, "cells"), as_path(out, "out")
    if is_project(folder):
        take_place(folder, place, dataset)
        _give_classes(folder, classes, like)
    else:
        if folder.exists():
            raise ConfigError(f"{folder} exists and is no labelling project. Choose another --out.")
        names = checked_classes(classes, like)
        manifest = read_cells(place, dataset=dataset, groups_from=groups)
        if folder.resolve().is_relative_to(manifest.root.resolve()):
            raise ConfigError(f"{folder} lies among the cells in {manifest.root}. Choose an --out outside.")
        about = Description(
            **source_of(place, manifest, dataset),
            name=manifest.name,
            classes=names,
            order=order_of(names),
            model=model,
            weights={name: str(path.resolve()) for name, path in as_named_paths(weights, "weights").items()},
            reader=checked_reader(reader),
            test_share=test_share,
            seed=seed,
            group_probability=0.0,
            groups_known=manifest.has_groups,
            group_rule=manifest.group_rule,
        )
        if (table := as_path_or_none(labels, "labels")) is not None:  # before anything is written
            read_labels(table, [sample.path for sample in manifest.samples], names)
        write_project(folder, manifest, about)
    if (table := as_path_or_none(labels, "labels")) is not None:
        _import(folder, table, checked_reader(reader))
    return folder


def _give_classes(folder: Path, classes: Sequence[str], like: str | None) -> None:
    if not (classes or like):
        return
    journal = Journal(folder / JOURNAL)
    try:
        in_use = Votes(journal.entries()).values()
    finally:
        journal.close()
    change_classes(folder, checked_classes(classes, like), in_use)


def _import(folder: Path, table: Path, reader: str) -> None:
    """Stores labels made elsewhere, an entry for each class; a second import of the same labels stores nothing."""
    project = read_project(folder)
    labels = read_labels(table, project.names, project.about.classes)
    board = Board(project)
    try:
        for value in dict.fromkeys(labels.values()):
            cells = (cell for cell, label in labels.items() if label == value)
            new = tuple(cell for cell in cells if board.votes.of_reader(reader, cell) != value)
            if new:
                client_id = f"import {value} after {board.votes.last_entry}"
                draft = Draft(reader=reader, kind="label", client_id=client_id, how="import", value=value, cells=new)
                board.append(reader, client_id, lambda draft=draft: draft)
    finally:
        board.close()


def checked_reader(reader: str) -> str:
    """Returns a reader's name in normal form.

    Raises:
        ConfigError: If it is empty.
    """
    if not normal(reader):
        raise ConfigError("A reader has a name, got an empty text. Give --reader NAME.")
    return normal(reader)
