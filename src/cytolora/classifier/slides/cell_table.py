"""Tables of cell positions: CSV or TSV, columns in pixels or micrometres, QuPath's measurement export."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

from cytolora.classifier.slides.image_names import image_of
from cytolora.classifier.slides.objects import LEGACY_IDS, Kind, Origin, Position, SlideObject, Unit, kind_of
from cytolora.core.delimited import parse_table
from cytolora.errors import DataError

_COLUMNS: dict[tuple[str, str], tuple[Unit, Origin]] = {
    ("x", "y"): ("px", "slide"),
    ("x_px", "y_px"): ("px", "slide"),
    ("x_um", "y_um"): ("um", "slide"),
    ("Centroid X px", "Centroid Y px"): ("px", "bounds"),
    ("Centroid X µm", "Centroid Y µm"): ("um", "bounds"),
}
"""Names of the columns of a table, and what they mean; the last two are QuPath's."""
_IDS = ("id", "Object ID")
_TYPES = ("Object type", "objectType", "object_type")
_LABELS = ("Name", "Classification", "Class", "type")
"""Columns in which QuPath up to 0.3, and some scripts, write that an object is an annotation."""
_PLANES = ("z", "plane", "z_plane")

Row = tuple[int, Mapping[str, str]]
"""Line number, and values by column."""


def read_table_objects(path: Path, text: str) -> list[SlideObject]:
    """Reads the rows of a table.

    Raises:
        DataError: If it has no columns of positions, or cannot be read as a table.
    """
    table = parse_table(text, str(path))
    columns, rows = table.columns, table.rows
    by_plain = {_plain(name): name for name in reversed(columns)}
    names = [pair for pair in _COLUMNS if all(_plain(name) in by_plain for name in pair)]
    if not names:
        expected = " or ".join(",".join(pair) for pair in _COLUMNS)
        raise DataError(f"{path} has the columns {list(columns)}; expected {expected}.")
    unit, origin = _COLUMNS[names[0]]
    x, y = (by_plain[_plain(name)] for name in names[0])
    has_comma = table.delimiter != "," and not any("." in row[x] + row[y] for _, row in rows)
    return list(_objects(rows, by_plain, (x, y), unit, origin, has_comma))


def _objects(
    rows: Sequence[Row], by_plain: Mapping[str, str], columns: tuple[str, str], unit: Unit, origin: Origin, comma: bool
) -> Iterator[SlideObject]:
    def first(row: Mapping[str, str], names: Sequence[str]) -> str:
        found = (row[by_plain[_plain(name)]].strip() for name in names if _plain(name) in by_plain)
        return next((value for value in found if value), "")

    for number, (line, row) in enumerate(rows, start=1):
        at, kind = f"line {line}", _kind(first(row, _TYPES), [first(row, [name]) for name in _LABELS])
        given = [row[name].strip() for name in columns]
        try:
            x, y = (_number(text, comma) for text in given)
        except ValueError:
            problem = f"no numbers in {columns[0]} and {columns[1]}: {given[0]!r}, {given[1]!r}"
            yield SlideObject(at=at, kind=kind, image=image_of(row), problem=problem)
            continue
        identity = first(row, _IDS)
        z = first(row, _PLANES)
        position = Position(
            id=str(number) if not identity or identity in LEGACY_IDS else identity,
            x=x,
            y=y,
            unit=unit,
            origin=origin,
            z=int(z) if z.isdecimal() else None,
        )
        yield SlideObject(at=at, kind=kind, image=image_of(row), positions=(position,))


def _kind(named: str, labels: Sequence[str]) -> Kind:
    """Takes the type of an object; where no column names one, a label that only QuPath's types have."""
    if named:
        return kind_of(named)
    for label in labels:
        kind = kind_of(label)
        if label in LEGACY_IDS or kind in ("annotation", "TMA core"):
            return kind
    return ""


def _number(text: str, has_decimal_comma: bool) -> float:
    number = float(text.replace(",", ".") if has_decimal_comma else text)
    if not isfinite(number):
        raise ValueError("not a finite number")
    return number


def _plain(name: str) -> str:
    return unicodedata.normalize("NFKC", name).strip().casefold()
