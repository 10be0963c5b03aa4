"""Cells of a new project: from a folder, a table or a registered dataset."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from posixpath import commonpath

from cytolora.core.text import normal
from cytolora.data.archive import is_archive, unpack
from cytolora.data.chosen_groups import with_chosen_groups
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.csv import TABLE
from cytolora.data.readers.paths import leaves_folder, slashed
from cytolora.data.readers.tables import read_rows
from cytolora.data.similar_names import join_groups
from cytolora.data.unlabelled import images_below
from cytolora.errors import ConfigError, DataError

FOLDERS = "folders"
"""Choice of groups beside those of ``--groups-from``: for cells without labels, whose sub-folders are no classes."""


def read_cells(path: Path, *, dataset: str | None = None, groups_from: str | None = None) -> Manifest:
    """Lists cells without labels; groups as the source, or the choice, gives them.

    Args:
        path: A folder with images at any depth, or with ``manifest.csv``; a table with columns path and, where it is
            known, group; a zip file.
        dataset: A registered dataset, for the groups that its names hold; its labels are not used.
        groups_from: ``folders``, else ``names``, ``none`` or a pattern, as of ``--groups-from``.

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
            listed = _of_table(place if place.is_file() else place / TABLE)
        else:
            listed = images_below(place)
    samples = tuple(replace(one, label="", subset=None) for one in listed.samples)
    cells = replace(listed, classes=("",), samples=samples, split_rule="", tree={})
    return _with_folders(cells) if groups_from == FOLDERS else with_chosen_groups(cells, groups_from)


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


def _of_table(table: Path) -> Manifest:
    root, samples = table.parent, []
    for line, row in read_rows(table, ("path",)):
        name = slashed(row["path"])
        if leaves_folder(name) or not (root / name).is_file():
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
