"""Cells of a project: from a folder, a table or a registered dataset, and where they are now."""

import os
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from posixpath import commonpath

import numpy as np
from jaxtyping import Bool

from cytolora.core.cache_entries import hold
from cytolora.core.text import normal
from cytolora.data.archive import is_archive, unpack, unpacked_in
from cytolora.data.chosen_groups import with_chosen_groups
from cytolora.data.datasets import load_manifest
from cytolora.data.formats import is_image_name
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.csv import TABLE
from cytolora.data.readers.paths import leaves_folder, slashed
from cytolora.data.readers.tables import read_rows
from cytolora.data.similar_names import join_groups
from cytolora.data.unlabelled import images_below
from cytolora.errors import ConfigError, DataError

FOLDERS = "folders"
"""Choice of groups beside those of ``--groups-from``: for cells without labels, whose sub-folders are no classes."""


def read_cells(
    path: Path, *, dataset: str | None = None, groups_from: str | None = None, is_whole: bool = True
) -> Manifest:
    """Lists cells without labels; groups as the source, or the choice, gives them.

    Args:
        path: A folder with images at any depth, or with ``manifest.csv``; a table with columns path and, where it is
            known, group; a zip file.
        dataset: A registered dataset, for the groups that its names hold; its labels are not used.
        groups_from: ``folders``, else ``names``, ``none`` or a pattern, as of ``--groups-from``.
        is_whole: Refuses a table with an image that is not there; else the image is left out.

    Raises:
        DataError: If there is no image, or one is not there; or one lies in none of the sub-folders that are groups.
        ConfigError: If the choice asks for groups that the source gives, or for sub-folders and there are none.
    """
    if not path.exists():
        raise DataError(
            f"{path} does not exist; expected a folder of cells, a table with a column path, or a zip file."
        )
    if dataset is not None:
        listed = load_manifest(path, dataset)
    else:
        place = unpack(path) if is_archive(path) else path
        if place.is_file() or (place / TABLE).is_file():
            listed = _of_table(place if place.is_file() else place / TABLE, is_whole=is_whole)
        else:
            listed = images_below(place)
    samples = tuple(replace(one, label="", subset=None) for one in listed.samples)
    cells = replace(listed, classes=("",), samples=samples, split_rule="", tree={})
    return _with_folders(cells) if groups_from == FOLDERS else with_chosen_groups(cells, groups_from)


def find_cells(
    names: Sequence[str], cells: Path, *, source: str, inside: str, dataset: str
) -> tuple[Path, Bool[np.ndarray, " cells"]]:
    """Returns the folder of the cells of a project, and which of them are there.

    What was unpacked is unpacked again where it is gone, and stays in the cache while this process lives.

    Args:
        cells: The folder that they were in.
        source: What was named when the project was made; empty where that is not known.
        inside: Of a zip file, the folder in it that holds the cells; empty of anything else.
        dataset: Registered reader that was named; empty if none.

    Raises:
        DataError: If a file that the cells were unpacked from is damaged.
    """
    root, origin = cells, Path(source)
    if inside and is_archive(origin):
        root = unpack(origin) / inside
    elif (entry := unpacked_in(cells)) is not None:
        hold(entry)
    is_there = are_there(root, names)
    if dataset and not is_there.all() and origin.is_file():  # it unpacks its images beside them, or in the archive
        root = read_cells(origin, dataset=dataset).root
        is_there = are_there(root, names)
    return root, is_there


def are_there(root: Path, names: Sequence[str]) -> Bool[np.ndarray, " cells"]:
    """Says which cells are files below a folder; lists folders, for a look at each file is slow on a network."""
    listed: dict[str, set[str]] = {}

    def is_there(name: str) -> bool:
        parent, _, file = name.rpartition("/")
        if parent not in listed:
            listed[parent] = _files_in(root / parent)
        # spelled otherwise on disk (case, Unicode form): the file system knows
        return file in listed[parent] or os.path.isfile(root / name)  # noqa: PTH113  (asked of every file)

    return np.array([is_there(name) for name in names], dtype=bool)


def _files_in(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except OSError:
        return set()


def new_at(place: Path, names: Sequence[str]) -> list[str]:
    """Returns the names of images that a folder, table or zip file has beyond those given, sorted."""
    unpacked, known = unpack(place) if is_archive(place) else place, set(names)
    table = unpacked if unpacked.is_file() else unpacked / TABLE
    if table.is_file():
        listed = [slashed(row["path"]) for _, row in read_rows(table, ("path",))]
    elif _has_other_images(unpacked, known):
        listed = [one.path for one in images_below(unpacked).samples]
    else:
        return []
    return sorted(set(listed) - known)


def _has_other_images(folder: Path, known: Container[str]) -> bool:
    """Whether there may be images that are not known, by names alone: the walk, which tells, takes 20 times as long."""
    for parent, folders, files in os.walk(folder):
        inside = parent[len(str(folder)) :].replace(os.sep, "/").strip("/")
        lead = inside and f"{inside}/"
        if any(os.path.islink(os.path.join(parent, one)) for one in folders):  # noqa: PTH114, PTH118  (asked of every one)
            return True
        if any(is_image_name(one) and lead + one not in known for one in files):
            return True
    return False


def folders_of(names: Sequence[str]) -> list[str | None]:
    """Returns the sub-folder of each cell: the first one below the deepest folder that holds all cells.

    None for a cell that lies in none. A patient's folder with folders of slides in it is one group.
    """
    if not names:
        return []
    parents = [PurePosixPath(name).parent for name in names]
    depth = len(PurePosixPath(commonpath(map(str, parents))).parts)
    return ["/".join(one.parts[: depth + 1]) if len(one.parts) > depth else None for one in parents]


def _with_folders(cells: Manifest) -> Manifest:
    if cells.has_groups:
        raise ConfigError(
            f"{cells.name} names the groups of all its images ({cells.group_rule or 'column group'}), and "
            f"--groups-from {FOLDERS} asks for others. Leave it out."
        )
    folders = folders_of([one.path for one in cells.samples])
    if not any(folders):
        raise ConfigError(
            f"--groups-from {FOLDERS}: all cells of {cells.name} lie in one folder; expected a sub-folder for each "
            "patient or slide. Leave it out, or name groups in a table (manifest.csv)."
        )
    known = [replace(one, group=one.group or folder) for one, folder in zip(cells.samples, folders, strict=True)]
    without = [one.path for one in known if one.group is None]
    if without:
        raise DataError(
            f"{cells.name}: {len(without)} of {len(known)} cells lie in no sub-folder, the first is {without[0]}. "
            f"--groups-from {FOLDERS} takes every cell in a sub-folder of its patient or slide."
        )
    joined, findings = join_groups(cells.name, known)
    rule = f"sub-folders (--groups-from {FOLDERS})"
    return replace(cells, samples=tuple(joined), group_rule=rule, findings=(*cells.findings, *findings))


def _of_table(table: Path, *, is_whole: bool) -> Manifest:
    root, samples = table.parent, []
    for line, row in read_rows(table, ("path",)):
        name = slashed(row["path"])
        if leaves_folder(name) or not (root / name).is_file():
            if not is_whole:
                continue
            raise DataError(f"{table}, line {line}: {row['path']} is no file below {root}; paths are relative to it.")
        samples.append(Sample(path=name, label="", group=normal(row.get("group", "")) or None))
    has_groups = any(one.group for one in samples)
    return Manifest(
        name=root.resolve().name if table.name == TABLE else table.stem,
        root=root,
        classes=("",),
        samples=tuple(samples),
        group_rule=f"column group of {table.name}" if has_groups else "",
    )
