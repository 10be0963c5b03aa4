"""Folder of a labelling project: its description, its cells with their shares, and its journal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.config.components import CLOSED
from cytolora.config.yaml import parse_spec
from cytolora.core.files import write_json, write_text
from cytolora.core.folders import staged_folder
from cytolora.core.strict_json import read_json
from cytolora.core.text import counted, folded, normal
from cytolora.data.datasets import DATASETS, find_dataset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.pool_maps import read_pool_map, shipped_maps
from cytolora.data.readers.selection import NAME
from cytolora.errors import ConfigError, DataError, unknown_name
from cytolora.labelling.cell_table import cell_table, read_cell_table
from cytolora.labelling.cells import find_cells, folders_of
from cytolora.labelling.journal import make_journal
from cytolora.labelling.shares import assign_shares
from cytolora.labelling.votes import MAX_CLASS, NO_CLASS

FILE, CELLS, JOURNAL, LABELS, FEATURES = "project.json", "cells.csv", "journal.sqlite", NAME, "features.npy"
VERSION = 1
"""Of the layout; a newer one is refused."""
MIXTURE: Mapping[str, float] = {"doubt": 0.5, "diversity": 0.5, "mistakes": 0.1, "rare": 0.15, "test": 0.25}
"""Shares of the queue, and within its part by doubt the weight of doubt against diversity; a start, not a rule."""


@dataclass(frozen=True, kw_only=True)
class Description:
    """Content of ``project.json``."""

    version: int = VERSION
    cells: str
    """Folder that the paths of the cells are relative to."""
    source: str = ""
    """Folder, table or zip file that was named; empty in projects of earlier versions."""
    inside: str = ""
    """Of a zip file, the folder in it that paths are relative to; ``cells`` lies in the cache, and may go."""
    dataset: str = ""
    """Registered reader of the cells; empty if none was named."""
    name: str
    classes: tuple[str, ...]
    model: str
    weights: Mapping[str, str] = field(default_factory=dict)
    """Checkpoints on disk, by backbone."""
    reader: str
    """Who made it."""
    test_share: float
    seed: int
    group_probability: float
    """Of a group to come into the test share, drawn before the first label."""
    order: tuple[str, ...] = ()
    """The classes from the least to the most severe, where their system orders them; empty: they are not ordered."""
    groups_known: bool
    """Whether every cell names its patient, slide or field; else those without count as a group each."""
    group_rule: str = ""
    groups_from: str | None = None
    """As it was asked for, empty where it was not; None: not known, of a project of an earlier version."""
    mixture: Mapping[str, float] = field(default_factory=lambda: dict(MIXTURE))
    cells_sha256: str = ""
    """Of the table of cells (``CellTable.sha256``), which the journal has too; empty: written before there was one."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.version != VERSION:
            return  # for read_description, which says what to do
        if len(self.classes) < 2 or set(self.order) - set(self.classes):
            raise ConfigError("classes are two or more, and order holds none but these")
        if set(self.mixture) != set(MIXTURE) or not all(0 <= share <= 1 for share in self.mixture.values()):
            raise ConfigError(f"mixture has the parts {', '.join(MIXTURE)}, each in [0, 1]")

    @property
    def place(self) -> str:
        """Where the cells come from, for a message: the zip file, else their folder."""
        return self.source if self.inside else self.cells


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project as its files say, without the journal."""

    folder: Path
    about: Description
    root: Path
    """Folder of the cells."""
    names: tuple[str, ...]
    """Paths of the cells, in the order that numbers them."""
    is_there: Bool[np.ndarray, " cells"]
    """Whether the file of a cell was there when the project was read."""
    groups: tuple[str, ...]
    """Group of each cell; empty where it is unknown."""
    is_test: Bool[np.ndarray, " cells"]
    order: Int64[np.ndarray, " test_cells"]
    """Test cells in the order in which they are drawn."""
    cells_sha256: str
    """Of the table of cells, also where the description has none yet."""

    @cached_property
    def units(self) -> list[str]:
        """The group of each cell, or the cell itself where it is unknown."""
        return _units(self.names, self.groups)

    @cached_property
    def unit_index(self) -> Int64[np.ndarray, " cells"]:
        """The same as numbers without gaps."""
        return np.unique(self.units, return_inverse=True)[1].astype(np.int64)


def is_project(path: Path) -> bool:
    """Whether a path is the folder of a project, also of one that lost its table of cells or its journal."""
    return (path / FILE).is_file() and ((path / CELLS).is_file() or (path / JOURNAL).is_file())


def write_project(folder: Path, manifest: Manifest, about: Description) -> None:
    """Draws the shares and writes a new project with an empty journal, whole or not at all.

    ``group_probability`` and ``cells_sha256`` are filled in.
    """
    names = [sample.path for sample in manifest.samples]
    groups = [sample.group or "" for sample in manifest.samples]
    shares = assign_shares(_units(names, groups), names, share=about.test_share, seed=about.seed)
    table = cell_table(names, groups, shares)
    with staged_folder(folder) as staging:
        filled = replace(about, group_probability=shares.probability, cells_sha256=table.sha256)
        write_json(staging / FILE, asdict(filled))
        write_text(staging / CELLS, table.text())
        make_journal(staging / JOURNAL, table.sha256)


def _units(names: Sequence[str], groups: Sequence[str]) -> list[str]:
    return [f"group {group}" if group else f"image {name}" for name, group in zip(names, groups, strict=True)]


def read_project(folder: Path) -> Project:
    """Reads a project.

    Raises:
        DataError: If the folder is none, is damaged, or was written by a newer version; or no cell is where it was.
    """
    about = read_description(folder)
    table = read_cell_table(folder / CELLS, about.cells_sha256)
    names = table.names
    root, is_there = find_cells(
        names, Path(about.cells), source=about.source, inside=about.inside, dataset=about.dataset
    )
    if not is_there.any():
        raise DataError(
            f"None of the {counted(len(names), 'cell')} of {folder} is in {about.place}, {names[0]} for example. "
            "Where they moved, name the new place, or the zip file that they came from: "
            f"`cytolora label NEW_PLACE --out {folder}`."
        )
    return Project(
        folder=folder,
        about=about,
        root=root,
        names=names,
        is_there=is_there,
        groups=table.groups,
        is_test=table.is_test,
        order=table.order,
        cells_sha256=about.cells_sha256 or table.sha256,
    )


def names_of(folder: Path) -> tuple[str, ...]:
    """Reads the paths of the cells alone, wherever they are."""
    return read_cell_table(folder / CELLS, read_description(folder).cells_sha256).names


def read_description(folder: Path) -> Description:
    """Reads ``project.json`` alone: quick, whatever the number of cells.

    Raises:
        DataError: If the folder is no project, is damaged, or was written by a newer version.
    """
    if not is_project(folder):
        raise DataError(
            f"{folder} is no labelling project (no {FILE}); `cytolora label CELLS --out {folder}` makes one."
        )
    path = folder / FILE
    try:
        plain = read_json(path.read_bytes())
        version = plain["version"] if isinstance(plain, dict) else None
        about = parse_spec(plain, Description, str(path)) if version == VERSION else None
    except ConfigError as error:  # names the file, and what is wrong in it
        raise DataError(f"{error} Restore it from a copy.") from error
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path} is damaged: {error}. Restore it from a copy.") from error
    if about is None:
        if not isinstance(version, int):
            raise DataError(f"{path} is damaged: no whole number as version. Restore it from a copy.")
        raise DataError(
            f"{folder} is a project of version {version}, and this cytolora reads version {VERSION}. Update cytolora."
        )
    return about


def groups_in_words(project: Project) -> str:
    """Says what counts as a group; where groups are unknown, also how to have sub-folders for groups."""
    if project.about.groups_known:
        return f"Groups: {counted(len(set(project.groups)), 'group')} ({project.about.group_rule or 'column group'})."
    folders = set(folders_of(project.names)) - {None}
    advice = (
        f" The cells lie in {len(folders)} sub-folders: where these are patients or slides, make the project anew with "
        "--groups-from folders, before anything is labelled."
    )
    return "Groups are not known: each image counts as a group of its own." + (advice if len(folders) > 1 else "")


def missing_in_words(project: Project) -> str:
    """Says how many cells are no longer there; empty where all are."""
    gone = np.flatnonzero(~project.is_there)
    if not len(gone):
        return ""
    return (
        f"{project.folder}: {len(gone):,} of {counted(len(project.names), 'cell')} missing in {project.about.place}, "
        f"{project.names[gone[0]]} first: left out; labels stay."
    )


def write_description(folder: Path, **changes: Any) -> None:
    """Changes the description on disk; what other processes wrote there meanwhile stays."""
    write_json(folder / FILE, asdict(replace(read_description(folder), **changes)))


def checked_classes(classes: Sequence[str], like: str | None) -> tuple[str, ...]:
    """Returns the class names, as given or as those of a shipped label map or dataset.

    Raises:
        ConfigError: If they are fewer than two, two of them are one name, or one means no class or is too long.
    """
    if like is not None:
        if classes:
            raise ConfigError("--classes and --like exclude each other; give one of them.")
        classes = _classes_like(like)
    names = tuple(normal(name) for name in classes)
    if len(names) < 2:
        raise ConfigError(
            f"A classifier tells two or more classes apart, got {counted(len(names), 'class', 'classes')}. Name them: "
            "--classes NILM LSIL HSIL, or --like bethesda."
        )
    seen: dict[str, str] = {}
    for name in names:
        if not name or folded(name) in map(folded, NO_CLASS):
            raise ConfigError(f"{name!r} is no name of a class; {' and '.join(map(repr, NO_CLASS))} mean none.")
        if len(name) > MAX_CLASS:
            raise ConfigError(
                f"A class has a name of at most {MAX_CLASS} characters, got {len(name)}: {name[:20]}…. Shorten it."
            )
        if (other := seen.get(folded(name))) is not None:
            raise ConfigError(
                f"Two classes have one name, {other!r} and {name!r}. Rename one of them, or leave it out."
            )
        seen[folded(name)] = name
    return names


def _classes_like(name: str) -> tuple[str, ...]:
    if name in shipped_maps():
        return tuple(read_pool_map(name).categories)
    known = [spec.name for spec in DATASETS if spec.classes or spec.label_sets]
    if name.partition(":")[0] not in known:
        raise unknown_name("label map or published dataset", name, (*shipped_maps(), *known))
    return find_dataset(name).classes


def order_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Returns the classes by severity where a published dataset orders all of them, else nothing."""
    for spec in DATASETS:
        if spec.order and set(classes) <= set(spec.order):
            return tuple(name for name in spec.order if name in classes)
    return ()


def change_classes(folder: Path, classes: tuple[str, ...], in_use: Mapping[str, int]) -> None:
    """Gives a project other classes, in the order given.

    Args:
        in_use: Labels that were ever given, by value.

    Raises:
        DataError: If a class that has labels is missing.
    """
    lost = [name for name in in_use if name not in (*classes, *NO_CLASS)]
    if lost:
        raise DataError(
            f"Class {lost[0]!r} has {counted(in_use[lost[0]], 'label')} in {folder} and is not among "
            f"{', '.join(classes)}. Keep it: replaced and undone labels count too, for they can come back."
        )
    if classes != read_description(folder).classes:
        write_description(folder, classes=classes, order=order_of(classes))


def manifest_of(project: Project, labels: Mapping[int, str], subsets: bool = False) -> Manifest:
    """Returns cells as a dataset, in the project's order of names.

    Args:
        labels: By cell; the others are left out.
        subsets: Puts each cell into train or test by its share.
    """
    samples = tuple(
        Sample(
            path=project.names[cell],
            label=label,
            group=project.groups[cell] or None,
            subset=("test" if project.is_test[cell] else "train") if subsets else None,
        )
        for cell, label in labels.items()
    )
    present = {sample.label for sample in samples}
    classes = tuple(name for name in project.about.classes if name in present) or ("",)
    return Manifest(
        name=project.about.name,
        root=project.root,
        classes=classes,
        samples=samples,
        group_rule=project.about.group_rule,
        split_rule="test: whole groups drawn before the first label" if subsets else "",
        has_given_test=subsets,
    )
