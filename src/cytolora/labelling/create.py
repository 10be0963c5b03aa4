"""Creation of a labelling project: cells, classes, shares, and labels made elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cytolora.core.arguments import AnyPath, as_named_paths, as_path, as_path_or_none
from cytolora.core.text import normal
from cytolora.errors import ConfigError
from cytolora.labelling.board import Board
from cytolora.labelling.cells import read_cells
from cytolora.labelling.journal import Draft, Journal
from cytolora.labelling.labels_elsewhere import read_labels
from cytolora.labelling.place import is_known, source_of, take_place
from cytolora.labelling.project import (
    JOURNAL,
    Description,
    change_classes,
    checked_classes,
    is_project,
    order_of,
    read_description,
    read_project,
    write_description,
    write_project,
)
from cytolora.labelling.settled import changed_model, check_model, check_settled, with_carried
from cytolora.labelling.votes import MAX_READER, Votes

MODEL, TEST_SHARE = "nano", 0.25
"""Of a project where nothing else is asked for."""


def create_project(
    cells: AnyPath,
    out: AnyPath,
    *,
    classes: Sequence[str] = (),
    like: str | None = None,
    model: str | None = None,
    reader: str = "reader 1",
    test_share: float | None = None,
    seed: int | None = None,
    groups: str | None = None,
    labels: AnyPath | None = None,
    dataset: str | None = None,
    weights: Mapping[str, AnyPath] | None = None,
    weights_dir: AnyPath | None = None,
) -> Path:
    """Makes a project folder from cells, or opens the one that is there, and returns it.

    Whole groups are assigned to the test share before anything can be labelled.

    Example::

        folder = create_project("cells", "project", classes=["NILM", "LSIL", "HSIL"], model="uni")
        open_project = Labelling(folder)

    Args:
        cells: Folder, table with a column path (and group), or zip file.
        out: A folder that does not exist, or a project of the same cells; its classes change to those given, unless
            one is missing that was ever used, and its model while it has no features; other options that differ are
            refused. Where its cells moved, it takes ``cells`` for their new place, if most of them are there; images
            that came since are counted in a warning, and not taken in.
        classes: Names, two or more.
        like: Takes the classes of a shipped label map (``bethesda``) or a published dataset instead.
        model: Backbone of the features; ``nano`` if None.
        reader: To whom ``labels`` belong.
        test_share: Share of the groups that is kept for testing, in (0, 1); 0.25 if None.
        seed: Of the draw of groups and cells; 0 if None.
        groups: As ``--groups-from``: ``folders``, ``names``, ``none`` or a pattern.
        labels: Labels made elsewhere: a table with columns path and label, or a file of an exchange format.
        dataset: Registered reader of the cells, for their groups.
        weights: Checkpoints on disk, by backbone.
        weights_dir: Folder written by `cytolora weights fetch`; looked into before the hub's cache.

    Raises:
        CytoloraError: If something is for the user to change; nothing is written then, but for a new
            place of the cells.
    """
    place, folder, reader = as_path(cells, "cells"), as_path(out, "out"), checked_reader(reader)
    checkpoints, carried = as_named_paths(weights, "weights"), as_path_or_none(weights_dir, "weights_dir")
    if is_project(folder):
        asked = {"test_share": test_share, "seed": seed, "groups": groups, "dataset": dataset}
        _reopen(folder, place, asked, choices=(classes, like), encoder=(model, checkpoints, carried), labels=labels)
    else:
        if folder.exists():
            raise ConfigError(f"{folder} exists and is no labelling project. Choose another --out.")
        names, model = checked_classes(classes, like), model or MODEL
        checkpoints = with_carried(model, checkpoints, carried, {})
        check_model(model, checkpoints)
        manifest = read_cells(place, dataset=dataset, groups_from=groups)
        if folder.resolve().is_relative_to(manifest.root.resolve()):
            raise ConfigError(f"{folder} lies among the cells in {manifest.root}. Choose an --out outside.")
        about = Description(
            **source_of(place, manifest, dataset),
            name=manifest.name,
            classes=names,
            order=order_of(names),
            model=model,
            weights={name: str(path.resolve()) for name, path in checkpoints.items()},
            reader=reader,
            test_share=TEST_SHARE if test_share is None else test_share,
            seed=0 if seed is None else seed,
            group_probability=0.0,
            groups_known=manifest.has_groups,
            group_rule=manifest.group_rule,
            groups_from=groups or "",
        )
        if (table := as_path_or_none(labels, "labels")) is not None:  # before anything is written
            read_labels(table, [sample.path for sample in manifest.samples], names, manifest.root)
        write_project(folder, manifest, about)
    if (table := as_path_or_none(labels, "labels")) is not None:
        _import(folder, table, reader)
    return folder


def _reopen(
    folder: Path,
    cells: Path,
    asked: dict[str, Any],
    *,
    choices: tuple[Sequence[str], str | None],
    encoder: tuple[str | None, Mapping[str, Path], Path | None],
    labels: AnyPath | None,
) -> None:
    """Changes of a project what may change, after all that was asked for was looked at, and binds its files.

    Args:
        asked: Options that it has settled.
        choices: Classes, and whose to take instead.
        encoder: Model, checkpoints, and folder of checkpoints.
    """
    about = read_description(folder)
    is_moved = not (cells.resolve() == folder.resolve() or is_known(about, cells))
    dataset = asked["dataset"]
    check_settled(folder, about, **{**asked, "dataset": None if is_moved else dataset})
    model, checkpoints, carried = encoder
    checkpoints = with_carried(model or about.model, checkpoints, carried, about.weights)
    changes = changed_model(folder, about, model, checkpoints)
    take_place(folder, cells, dataset)
    if (table := as_path_or_none(labels, "labels")) is not None:
        project = read_project(folder)
        read_labels(table, project.names, checked_classes(*choices) if any(choices) else about.classes, project.root)
    _give_classes(folder, *choices)
    if changes:
        write_description(folder, **changes)
    _bind(folder)


def _give_classes(folder: Path, classes: Sequence[str], like: str | None) -> None:
    if not (classes or like):
        return
    journal = Journal(folder / JOURNAL, read_description(folder).cells_sha256)
    try:
        in_use = Votes(journal.entries()).values()
    finally:
        journal.close()
    change_classes(folder, checked_classes(classes, like), in_use)


def _bind(folder: Path) -> None:
    """Binds journal, description and table of cells of a project from before they were, where they fit together."""
    if read_description(folder).cells_sha256:
        return
    project = read_project(folder)
    board = Board(project)
    try:
        board.journal.bind(project.cells_sha256)
    finally:
        board.close()
    write_description(folder, cells_sha256=project.cells_sha256)  # last: with it the journal must have it too


def _import(folder: Path, table: Path, reader: str) -> None:
    """Stores labels made elsewhere, an entry for each class; a second import of the same labels stores nothing."""
    project = read_project(folder)
    labels = read_labels(table, project.names, project.about.classes, project.root)
    board = Board(project)
    try:
        reader = board.votes.reader_named(reader)
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
        ConfigError: If it is empty, or too long.
    """
    name = normal(reader)
    if not name:
        raise ConfigError("A reader has a name, got an empty text. Give --reader NAME.")
    if len(name) > MAX_READER:
        raise ConfigError(f"A reader's name has at most {MAX_READER} characters, got {len(name)}. Shorten it.")
    return name
