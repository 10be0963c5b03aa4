"""Table of the cells of a project, ``cells.csv``: names, groups and shares, bound to the journal by their hash."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from cytolora.core.delimited import csv_line, read_table
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
        return sha256_text(json.dumps(self._rows()))

    def text(self) -> str:
        """Returns the table as it is written."""
        return "".join(map(csv_line, [_COLUMNS, *self._rows()]))

    def _rows(self) -> list[list[Any]]:
        rank = {int(cell): place for place, cell in enumerate(self.order, start=1)}
        return [
            [name, group, _SHARES[int(self.is_test[cell])], rank.get(cell)]
            for cell, (name, group) in enumerate(zip(self.names, self.groups, strict=True))
        ]


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
    drawn: dict[int, int] = {}
    for cell, (line, row) in enumerate(rows):
        where = f"{path}, line {line}"
        _check_row(where, row, rows[cell - 1][1]["path"] if cell else "")
        if row["share"] == "test":
            draw = int(row["draw"])
            if drawn.setdefault(draw, cell) != cell:
                raise DataError(f"{where}: draw {draw} is there twice, expected each number once. {_RESTORE}")
    if not rows or sorted(drawn) != list(range(1, len(drawn) + 1)):
        found = f"{len(drawn)} test cells whose draws do not count from 1 to {len(drawn)}" if rows else "no cell"
        raise DataError(f"{path} has {found}: rows are missing or were changed. {_RESTORE}")
    table = CellTable(
        names=tuple(row["path"] for _, row in rows),
        groups=tuple(row["group"] for _, row in rows),
        is_test=np.array([row["share"] == "test" for _, row in rows]),
        order=np.array([drawn[draw] for draw in sorted(drawn)], dtype=np.int64),
    )
    if sha256 not in ("", table.sha256):
        raise DataError(
            f"{path} lists other cells, groups or draws than when the project was made ({len(rows)} cells now): labels "
            f"would go to other cells. {_RESTORE}"
        )
    return table


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
