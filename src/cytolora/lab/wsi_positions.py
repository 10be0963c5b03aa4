"""Where the cells of a slide are: GeoJSON as QuPath writes it, or a table; and predictions back as GeoJSON."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from cytolora.arguments import AnyPath, as_path
from cytolora.errors import DataError
from cytolora.files import write_bytes
from cytolora.lab.strict_json import read_json

_COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167),
    (230, 159, 0), (86, 180, 233), (240, 228, 66), (0, 0, 0),
)  # fmt: skip
"""One a class, repeated: told apart by colour-blind readers (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""

Unit = Literal["px", "um"]
Origin = Literal["slide", "bounds"]
"""What positions are counted from: the corner of level 0, or that of the scanned area, which MIRAX and some others name
in their properties, and which QuPath shows alone."""

_COLUMNS: dict[tuple[str, str], tuple[Unit, Origin]] = {
    ("x", "y"): ("px", "slide"),
    ("x_px", "y_px"): ("px", "slide"),
    ("x_um", "y_um"): ("um", "slide"),
    ("Centroid X px", "Centroid Y px"): ("px", "bounds"),
    ("Centroid X µm", "Centroid Y µm"): ("um", "bounds"),
}
"""Names of the columns of a table, and what they mean; the last two are QuPath's."""
_IDS = ("id", "Object ID")


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The centre of one cell."""

    id: str
    """As in the file, else the number of its row; unique."""
    x: float
    y: float
    unit: Unit = "px"
    """px: of level 0. um: micrometres."""
    origin: Origin = "slide"
    outline: Mapping[str, Any] | None = None
    """The polygon of a GeoJSON as it was; None where only a point is known."""


def read_positions(path: AnyPath) -> list[Position]:
    """Reads positions: GeoJSON (points and polygons), or a CSV or TSV with columns x,y (level 0) or x_um,y_um.

    Raises:
        DataError: If it is neither, a number is none, or an id stands twice.
    """
    path = as_path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text; expected GeoJSON, or a table with columns x,y.") from error
    is_json = path.suffix.lower() in (".json", ".geojson") or text.lstrip()[:1] in ("{", "[")
    found = list(_from_geojson(path, text) if is_json else _from_table(path, text))
    if not found:
        raise DataError(f"{path} holds no position of a cell.")
    seen: set[str] = set()
    for position in found:
        if position.id in seen:
            raise DataError(f"{path}: the id {position.id!r} stands twice; every cell needs its own.")
        _check_text(path, position)
        seen.add(position.id)
    return found


def _check_text(path: Path, position: Position) -> None:
    """Half of a character beyond 16 bits can be written in JSON, and nowhere else."""
    try:
        f"{position.id} {json.dumps(position.outline, ensure_ascii=False)}".encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: the cell {position.id!r} holds half a character; export it again.") from error


def is_geojson(path: Path) -> bool:
    """Whether a file of results is to be GeoJSON, by its name."""
    return path.suffix.lower() in (".geojson", ".json")


def _from_geojson(path: Path, text: str) -> Iterator[Position]:
    try:
        plain = read_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}.") from error
    features = plain.get("features", [plain]) if isinstance(plain, dict) else plain
    if not isinstance(features, list):
        raise DataError(f"{path} is no GeoJSON: its `features` are no list.")
    for number, feature in enumerate(features, start=1):
        try:
            identity, geometry = str(feature.get("id") or number), feature["geometry"]
            kind, coordinates = geometry["type"], geometry["coordinates"]
            yield from _of_geometry(identity, kind, coordinates, geometry)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(
                f"{path}: feature {number} has no readable geometry; expected Point, MultiPoint, Polygon or "
                "MultiPolygon, as QuPath exports."
            ) from error


def _of_geometry(identity: str, kind: str, coordinates: Any, geometry: Mapping[str, Any]) -> Iterator[Position]:
    if kind == "Point":
        yield _position(identity, coordinates)
    elif kind == "MultiPoint":
        for number, point in enumerate(coordinates, start=1):
            yield _position(f"{identity}.{number}" if len(coordinates) > 1 else identity, point)
    elif kind in ("Polygon", "MultiPolygon"):
        rings = [coordinates[0]] if kind == "Polygon" else [polygon[0] for polygon in coordinates]
        across, down = zip(*((float(x), float(y)) for ring in rings for x, y, *_ in ring), strict=True)
        middle = ((min(across) + max(across)) / 2, (min(down) + max(down)) / 2)
        yield _position(identity, middle, outline=geometry)
    else:
        raise ValueError(kind)


def _from_table(path: Path, text: str) -> Iterator[Position]:
    first_line = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in first_line else ",")
    names = [name for name in _COLUMNS if set(name) <= set(rows.fieldnames or ())]
    if not names:
        expected = " or ".join(",".join(pair) for pair in _COLUMNS)
        raise DataError(f"{path} has the columns {rows.fieldnames or []}; expected {expected}.")
    (x, y), (unit, origin) = names[0], _COLUMNS[names[0]]
    for number, row in enumerate(rows, start=1):
        identity = next((row[name] for name in _IDS if row.get(name)), str(number))
        try:
            yield _position(identity, (row[x], row[y]), unit=unit, origin=origin)
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: row {number} has no numbers in {x} and {y}: {row[x]!r}, {row[y]!r}.") from error


def _position(
    identity: str,
    point: Sequence[Any],
    *,
    unit: Unit = "px",
    origin: Origin = "bounds",
    outline: Mapping[str, Any] | None = None,
) -> Position:
    x, y = float(point[0]), float(point[1])
    if not (isfinite(x) and isfinite(y)):
        raise ValueError("not a finite number")
    return Position(id=identity, x=x, y=y, unit=unit, origin=origin, outline=outline)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """One cell of a slide with what was predicted."""

    id: str
    geometry: Mapping[str, Any]
    """GeoJSON, in pixels of level 0."""
    predicted: str | None
    """None where it could not be read: it then stands in the file without a class."""
    measurements: Mapping[str, float]


def write_geojson(cells: Iterable[Classified], out: Path, classes: Sequence[str]) -> int:
    """Writes a FeatureCollection of detections that QuPath 0.4 and later opens, by drag and drop; returns their number.

    Classes have a name and a colour, probabilities stand among the measurements.
    """
    colours = {name: list(_COLOURS[index % len(_COLOURS)]) for index, name in enumerate(classes)}
    lines = [json.dumps(_feature(cell, colours), ensure_ascii=False, allow_nan=False) for cell in cells]
    text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]}\n"
    write_bytes(out, text.encode())
    return len(lines)


def _feature(cell: Classified, colours: Mapping[str, list[int]]) -> dict[str, Any]:
    properties: dict[str, Any] = {"objectType": "detection", "measurements": dict(cell.measurements)}
    if cell.predicted is not None:
        properties["classification"] = {"name": cell.predicted, "color": colours[cell.predicted]}
    return {"type": "Feature", "id": cell.id, "geometry": dict(cell.geometry), "properties": properties}
