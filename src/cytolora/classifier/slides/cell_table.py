"""Tables of cell positions: CSV or TSV, columns in pixels or micrometres, QuPath's measurement export."""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path

from cytolora.classifier.slides.frames import check_frame, check_pairs
from cytolora.classifier.slides.image_names import image_of
from cytolora.classifier.slides.objects import LEGACY_IDS, Kind, Origin, Position, SlideObject, Unit, free_id, kind_of
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
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(,\d{3})+")
_WHOLE = re.compile(r"(\d+)(\.0+)?")

Row = tuple[int, Mapping[str, str]]
"""Line number, and values by column."""


def read_table_objects(path: Path, text: str, mpp: float | None = None) -> list[SlideObject]:
    """Reads the rows of a table.

    Args:
        mpp: Micrometres per pixel of the slide's level 0, where it is known.

    Raises:
        DataError: If it has no columns of positions, says of them that they are others, or cannot be read as a table.
    """
    table = parse_table(text, str(path))
    columns, rows = table.columns, table.rows
    by_plain = {_plain(name): name for name in reversed(columns)}
    names = [pair for pair in _COLUMNS if all(_plain(name) in by_plain for name in pair)]
    if not names:
        expected = " or ".join(",".join(pair) for pair in _COLUMNS)
        raise DataError(f"{path} has the columns {list(columns)}; expected {expected}.")
    found = [_objects_of(path, rows, by_plain, pair, has_comma=table.delimiter != ",") for pair in names]
    unit, origin = _COLUMNS[names[0]]
    if origin == "slide":  # QuPath's centroids are what they are called
        check_frame(path, columns, rows, unit, mpp)
    for pair, others in zip(names[1:], found[1:], strict=True):
        check_pairs(path, (names[0], pair), (found[0], others), mpp)
    return found[0]


def _objects_of(
    path: Path, rows: Sequence[Row], by_plain: Mapping[str, str], pair: tuple[str, str], *, has_comma: bool
) -> list[SlideObject]:
    """Reads the rows with the positions of one pair of columns."""
    x, y = (by_plain[_plain(name)] for name in pair)
    has_comma = has_comma and not any("." in row[x] + row[y] for _, row in rows)
    if has_comma:
        _check_thousands(path, rows, (x, y))
    return list(_objects(rows, by_plain, (x, y), *_COLUMNS[pair], has_comma))


def _check_thousands(path: Path, rows: Sequence[Row], columns: tuple[str, str]) -> None:
    """Refuses numbers of which nobody can tell whether a comma divides thousands or begins a fraction."""
    numbers = [row[name].strip() for _, row in rows for name in columns]
    signed = [text for text in numbers if "," in text]
    if len(signed) < len(numbers) and signed and all(map(_THOUSANDS.fullmatch, signed)):
        raise DataError(
            f"{path}: {signed[0]!r} beside whole numbers may be thousands or a fraction. Write numbers without "
            "separators of thousands, and fractions with the same number of digits in all rows."
        )


def _objects(
    rows: Sequence[Row], by_plain: Mapping[str, str], columns: tuple[str, str], unit: Unit, origin: Origin, comma: bool
) -> Iterator[SlideObject]:
    def first(row: Mapping[str, str], names: Sequence[str]) -> str:
        found = (row[by_plain[_plain(name)]].strip() for name in names if _plain(name) in by_plain)
        return next((value for value in found if value), "")

    given_ids = [first(row, _IDS) for _, row in rows]
    taken = frozenset(identity for identity in given_ids if identity not in LEGACY_IDS)
    for number, ((line, row), identity) in enumerate(zip(rows, given_ids, strict=True), start=1):
        at, kind = f"line {line}", _kind(first(row, _TYPES), [first(row, [name]) for name in _LABELS])
        given = [row[name].strip() for name in columns]
        try:
            x, y = (_number(text, comma) for text in given)
        except ValueError:
            problem = f"no numbers in {columns[0]} and {columns[1]}: {given[0]!r}, {given[1]!r}"
            yield SlideObject(at=at, kind=kind, image=image_of(row), problem=problem)
            continue
        plane = _WHOLE.fullmatch(first(row, _PLANES))  # pandas writes 2 as 2.0 where a cell is empty
        position = Position(
            id=free_id(number, taken) if not identity or identity in LEGACY_IDS else identity,
            x=x,
            y=y,
            unit=unit,
            origin=origin,
            z=int(plane[1]) if plane else None,
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
    """Returns a name without case; micrometres may be written um, as where a program knows ASCII alone."""
    return unicodedata.normalize("NFKC", name).strip().casefold().replace("\u03bcm", "um")
