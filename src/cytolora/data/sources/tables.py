"""What readers ask of a table before they read it."""

import csv
from collections.abc import Iterable
from pathlib import Path

_MAX_HEADER = 4096


def has_columns(table: Path, columns: Iterable[str]) -> bool:
    """Says whether a file is there and its first line names these columns; reads no more than that."""
    try:
        with table.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            header = next(csv.reader([file.readline(_MAX_HEADER)]), [])
    except (OSError, csv.Error):
        return False
    return {name.strip() for name in header} >= set(columns)
