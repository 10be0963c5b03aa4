"""Table of the cells of a project, ``cells.csv``: names, groups and shares, bound to the journal by their hash."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.core.delimited import Row, csv_line, read_table
from cytolora.core.files import sha256_text
from cytolora.errors import DataError
from cytolora.labelling.shares import Shares

_COLUMNS = ("path", "group", "share", "draw")
_SHARES = ("train", "test")
_RESTORE = "Cells are not edited in a project: restore the file from a copy."


@dataclass(frozen=True, kw_only=True)
class CellTable:
    """The cells in the order that numbers them: by name, whatever the order of the rows."""

    names: tuple[str, ...]
    """Paths, sorted."""
    groups: tuple[str, ...]
    """Of each cell; empty where it is unknown."""
    is_test: Bool[np.ndarray, " cells"]
    order: Int64[np.ndarray, " test_cells"]
    """Test cells in the order in which they are drawn."""

    @cached_property
    def sha256(self) -> str:
        """Hash of what the table says, not of how it is written; numbers of cells mean something beside it alone."""
        return _hash(self._rows())

    def text(self) -> str:
        """Returns the table as it is written."""
        return "".join(map(csv_line, [_COLUMNS, *self._rows()]))

    def _rows(self) -> list[list[str]]:
        draws = dict(zip(self.order.tolist(), map(str, range(1, len(self.order) + 1)), strict=True))
        shares = (_SHARES[is_test] for is_test in self.is_test.tolist())
        cells = enumerate(zip(self.names, self.groups, shares, strict=True))
        return [[name, group, share, draws.get(cell, "")] for cell, (name, group, share) in cells]


def _hash(rows: Iterable[Iterable[str]]) -> str:
    """Hashes rows of a table; none of its texts holds a NUL (``core.delimited``)."""
    return sha256_text("\0".join(chain.from_iterable(rows)))


def cell_table(names: Sequence[str], groups: Sequence[str], shares: Shares) -> CellTable:
    """Returns the table of a new project; names come sorted, as a manifest has them."""
    return CellTable(names=tuple(names), groups=tuple(groups), is_test=shares.is_test, order=shares.order)


def read_cell_table(path: Path, sha256: str) -> CellTable:
    """Reads the table of a project.

    Args:
        sha256: That it must have; empty for a project that was made before there was one.

    Raises:
        DataError: If it is damaged, or says something else than when the project was made.
    """
    rows = sorted(read_table(path, _COLUMNS, keep_blanks=True).rows, key=lambda row: row[1]["path"])
    is_as_made = bool(sha256) and sha256 == _hash([row[column] for column in _COLUMNS] for _, row in rows)
    if not is_as_made:
        _check_rows(path, rows)
        if sha256:
            raise DataError(
                f"{path} lists other cells, groups or draws than when the project was made ({len(rows)} cells now): "
                f"labels would go to other cells. {_RESTORE}"
            )
    drawn = sorted((int(row["draw"]), cell) for cell, (_, row) in enumerate(rows) if row["draw"])
    return CellTable(
        names=tuple(row["path"] for _, row in rows),
        groups=tuple(row["group"] for _, row in rows),
        is_test=np.array([row["share"] == "test" for _, row in rows]),
        order=np.array([cell for _, cell in drawn], dtype=np.int64),
    )


def _check_rows(path: Path, rows: Sequence[Row]) -> None:
    """Raises a DataError for rows, sorted by path, that no table of a project has; with the line."""
    draws, before = set[int](), ""
    for line, row in rows:
        where = f"{path}, line {line}"
        _check_row(where, row, before)
        before = row["path"]
        if row["share"] == "test":
            if int(row["draw"]) in draws:
                raise DataError(f"{where}: draw {row['draw']} is there twice, expected each number once. {_RESTORE}")
            draws.add(int(row["draw"]))
    if not rows or draws != set(range(1, len(draws) + 1)):
        found = f"{len(draws)} test cells whose draws do not count from 1 to {len(draws)}" if rows else "no cell"
        raise DataError(f"{path} has {found}: rows are missing or were changed. {_RESTORE}")


def _check_row(where: str, row: Mapping[str, str], before: str) -> None:
    name, share, draw = row["path"], row["share"], row["draw"]
    if not name or name == before:
        found = "no path" if not name else f"{name!r}, which is listed twice"
        raise DataError(f"{where}: found {found}; expected each cell once. {_RESTORE}")
    if share not in _SHARES:
        raise DataError(f"{where}: found share {share!r}, expected train or test. {_RESTORE}")
    is_number = draw.isascii() and draw.isdecimal() and len(draw) < 10
    if is_number != (share == "test") or (draw and not is_number):
        expected = "a whole number" if share == "test" else "nothing"
        raise DataError(f"{where}: found draw {draw!r} of a {share} cell, expected {expected}. {_RESTORE}")
