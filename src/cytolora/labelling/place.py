"""Place of a project's cells: the same as before, another one after a move, and images that came since."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cytolora.core.text import counted
from cytolora.data.archive import is_archive, unpacked_in
from cytolora.data.manifest import Manifest
from cytolora.errors import DataError
from cytolora.labelling.cells import are_there, new_at, read_cells
from cytolora.labelling.project import Description, names_of, read_description, write_description

log = logging.getLogger(__name__)

_MAX_MISSING = 0.5
"""Share of a project's cells that may be missing at a place that is theirs all the same."""


def source_of(cells: Path, manifest: Manifest, dataset: str | None) -> dict[str, Any]:
    """Returns what a project's description says of the place of its cells, which were read from ``cells``."""
    root = manifest.root.resolve()
    entry, inside = unpacked_in(root), ""
    if entry is not None and is_archive(cells) and root.is_relative_to(entry / cells.stem):
        inside = root.relative_to(entry / cells.stem).as_posix()
    return {"cells": str(root), "source": str(cells.resolve()), "inside": inside, "dataset": dataset or ""}


def take_place(folder: Path, cells: Path, dataset: str | None = None) -> None:
    """Checks that a project is one of these cells, takes their place where it moved, and says what came since.

    Args:
        cells: What was named: the place of the project's cells, another one, or the project itself.
        dataset: Registered reader of a new place; that of the project if None.

    Raises:
        DataError: If they are other cells: most names of the project are not at the new place, or still at the old one.
    """
    if cells.resolve() == folder.resolve():
        return
    about, names = read_description(folder), names_of(folder)
    if not cells.exists():
        raise DataError(
            f"{cells} does not exist, and {folder} is a project of the cells in {about.place}. Name where they are now."
        )
    if is_known(about, cells):
        if not (about.dataset or dataset):  # what a reader does not list may be masks, tables and the like
            _say_new(folder, cells, names)
        return
    manifest = read_cells(cells, dataset=dataset or about.dataset or None, is_whole=False)
    has_moved = manifest.root.resolve() != Path(about.cells)
    if has_moved:
        _check_moved(folder, about, names, cells, manifest)
        log.warning("%s: its cells are in %s from now on.", folder, cells)
    write_description(folder, **source_of(cells, manifest, dataset or about.dataset))


def is_known(about: Description, cells: Path) -> bool:
    """Whether a path is the place that a project has its cells from."""
    place, root = cells.resolve(), Path(about.cells)
    is_table = place.is_file() and not is_archive(place) and not about.dataset
    return place in (root, Path(about.source or root)) or (is_table and place.parent == root)


def _check_moved(folder: Path, about: Description, names: Sequence[str], cells: Path, manifest: Manifest) -> None:
    """Raises a DataError unless most cells of a project are gone from their place, and most of them at this one."""
    if _is_still_there(about, names):
        raise DataError(
            f"{folder} is a project of the cells in {about.place}, which are there, not of {cells}. "
            "Choose another --out; where this is a copy, move the others away first."
        )
    missing = sorted(set(names) - {one.path for one in manifest.samples})
    if len(missing) > _MAX_MISSING * len(names):
        raise DataError(
            f"{folder} is a project of other cells than those in {cells}: missing there {len(missing):,} of "
            f"{counted(len(names), 'cell')}, {missing[0]} first. Name a place that has most of them."
        )


def _is_still_there(about: Description, names: Sequence[str]) -> bool:
    if about.inside:
        return Path(about.source).exists()
    root = Path(about.cells)
    return unpacked_in(root) is None and bool(are_there(root, names).mean() > _MAX_MISSING)


def _say_new(folder: Path, cells: Path, names: Sequence[str]) -> None:
    if new := new_at(cells, names):
        what = counted(len(new), "image that is", "images that are")
        log.warning("%s: %s has %s not in the project, %s first; not taken in.", folder, cells, what, new[0])
