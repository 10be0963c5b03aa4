"""Labels made elsewhere: a table, or a file of another program, matched with the cells of a project."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from cytolora.core.delimited import read_columns
from cytolora.core.text import matching
from cytolora.data.exchange.formats import LABEL_READERS, label_file_of
from cytolora.data.exchange.labels import folder_of_images
from cytolora.data.formats import TABLE_SUFFIXES, suffix_of
from cytolora.data.readers.paths import PathIndex, slashed
from cytolora.data.readers.tables import read_rows
from cytolora.errors import DataError, unknown_name
from cytolora.labelling.votes import NO_CLASS

_COLUMNS = ("path", "label")

_Given = tuple[str, str, str]
"""Where it stands, path as written, and label."""


def read_labels(source: Path, names: Sequence[str], classes: Sequence[str], root: Path) -> dict[int, str]:
    """Reads labels by cell: columns path and label of a table, or a file of any format that `convert` writes.

    Paths are those of the cells, or lead there from the folder of the file; FiftyOne and QuPath name an image without
    its suffix.

    Args:
        source: File, or folder of files of labels.
        names: Of the cells.
        root: Folder of the cells.

    Raises:
        DataError: If it is no file of labels, or names an image that is not among the cells, or one twice.
        ConfigError: If a label is none of the classes.
    """
    folder, given = _given(source)
    cells, known, labels = _Cells(names, root), (*classes, *NO_CLASS), dict[int, str]()
    for where, path, text in given:
        cell = cells.find(where, path, folder)
        if cell is None:
            raise DataError(
                f"{where}: {path} is none of the cells of the project; paths are relative to {root}, or to the folder "
                "of the labels."
            )
        if cell in labels:
            raise DataError(f"{where}: {path} is listed twice; keep one of them.")
        label = matching(text, known)
        if label is None:
            raise unknown_name(f"class in {where},", text, known)
        labels[cell] = label
    return labels


def _given(source: Path) -> tuple[Path, Iterator[_Given]]:
    """Returns the folder that paths may be relative to, and the labels as written."""
    if not source.exists():
        raise DataError(f"{source} does not exist; expected a file of labels.")
    is_table = source.is_file() and suffix_of(source.name) in TABLE_SUFFIXES
    if not (is_table and set(_COLUMNS) <= set(read_columns(source))):
        if (kind := label_file_of(source)) is not None:
            file, labelled = kind.labelled(source)
            return folder_of_images(file), ((f"{file}, entry {one.number}", one.path, one.label) for one in labelled)
        if not is_table:
            formats = ", ".join(spec.name for spec in LABEL_READERS)
            raise DataError(
                f"{source} is no file of labels; expected a table with columns path and label, or one of the formats "
                f"{formats} (docs/interchange.md)."
            )
    rows = read_rows(source, _COLUMNS)
    return source.parent, ((f"{source}, line {line}", row["path"], row["label"]) for line, row in rows)


class _Cells:
    """Cells of a project by path, also as other programs write it."""

    def __init__(self, names: Sequence[str], root: Path) -> None:
        self._root, self._names = root.resolve(), names
        self._number = {name: cell for cell, name in enumerate(names)}
        self._index = PathIndex(names)
        self._folders: dict[Path, Path] = {}
        self._by_stem: defaultdict[str, list[int]] = defaultdict(list)
        for cell, name in enumerate(names):
            self._by_stem[PurePosixPath(name).with_suffix("").as_posix()].append(cell)

    def find(self, where: str, path: str, folder: Path) -> int | None:
        """Returns the cell that is meant; None where there is none, or a path without suffix fits several."""
        for written in self._spellings(folder, slashed(path)):
            name = self._index.find(where, written)
            if name is not None:
                return self._number[name]
            alike = self._by_stem.get(written, [])
            if len(alike) == 1:
                return alike[0]
        return None

    def _spellings(self, folder: Path, path: str) -> Iterator[str]:
        """Yields a path as one from the folder of the cells: as it stands, from another folder, then without links."""
        yield path
        given = Path(os.path.normpath(self._resolved(folder) / path))
        for above in given.parents:  # a link to the folder of the cells is followed, and cells that are links are not
            if self._resolved(above) == self._root:
                yield given.relative_to(above).as_posix()
        leads_to = (folder / path).resolve()
        if leads_to.is_relative_to(self._root):
            yield leads_to.relative_to(self._root).as_posix()
        if leads_to.is_file() and (name := self._name_by_target.get(str(leads_to))) is not None:
            yield name

    def _resolved(self, folder: Path) -> Path:
        """Follows the links of a folder, once: a table names few folders and many files."""
        if folder not in self._folders:
            self._folders[folder] = folder.resolve()
        return self._folders[folder]

    @cached_property
    def _name_by_target(self) -> dict[str, str]:
        """Cells by the file that they are, or that a link leads to; none of those that are one file."""
        targets = {name: os.path.realpath(self._root / name) for name in self._names}
        number = Counter(targets.values())
        return {target: name for name, target in targets.items() if number[target] == 1}
