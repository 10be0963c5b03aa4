"""Positions of the cells of a slide: GeoJSON as QuPath writes it, or a table; and predictions back as GeoJSON."""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal

from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import write_bytes
from cytolora.core.strict_json import read_json
from cytolora.errors import DataError

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
_LEGACY_IDS = ("PathAnnotationObject", "PathCellObject", "PathDetectionObject", "PathTileObject", "TMACoreObject")
"""What QuPath 0.2 wrote as an id: the type of an object, equal for all cells; later versions still read it as such."""
_TYPES = ("objectType", "object_type", "type")
"""Properties that name the type of an object in QuPath 0.3 and later, in the order in which it looks."""
_PREFIX = "cytolora "


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
    feature: Mapping[str, Any] | None = None
    """The feature of a GeoJSON, as it was read; None in a table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A file of positions."""

    positions: list[Position]
    members: Mapping[str, Any] = field(default_factory=dict)
    """Of a FeatureCollection, all but its type and features."""


def read_positions(path: AnyPath) -> list[Position]:
    """Reads the positions of ``read_collection`` alone."""
    return read_collection(path).positions


def read_collection(path: AnyPath) -> Collection:
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
    features, members = _parsed(path, text) if is_json else ([], {})
    found = list(_from_features(path, features) if is_json else _from_table(path, text))
    if not found:
        raise DataError(f"{path} holds no position of a cell.")
    seen: set[str] = set()
    for position in found:
        if position.id in seen:
            raise DataError(f"{path}: the id {position.id!r} stands twice; every cell needs its own.")
        _check_text(path, f"the cell {position.id!r}", [position.id, position.feature])
        seen.add(position.id)
    _check_text(path, "the collection", members)
    return Collection(positions=found, members=members)


def _check_text(path: Path, what: str, plain: Any) -> None:
    """Raises a DataError for what can be read as JSON, and not be written: half of a character beyond 16 bits."""
    try:
        json.dumps(plain, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: {what} holds half a character; export it again.") from error
    except RecursionError as error:
        raise DataError(f"{path}: {what} is nested too deeply; export it again.") from error


def is_geojson(path: Path) -> bool:
    """Whether a file of results is to be GeoJSON, by its name."""
    return path.suffix.lower() in (".geojson", ".json")


def _parsed(path: Path, text: str) -> tuple[list[Any], dict[str, Any]]:
    """Returns the features of a FeatureCollection, a list or a single one; and the collection's other members."""
    try:
        plain = read_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}.") from error
    if isinstance(plain, dict) and "features" not in plain:
        return [plain], {}
    collection = plain if isinstance(plain, dict) else {"features": plain}
    if not isinstance(collection["features"], list):
        raise DataError(f"{path} is no GeoJSON: its `features` are no list.")
    members = {name: value for name, value in collection.items() if name not in ("type", "features")}
    return collection["features"], members


def _from_features(path: Path, features: Iterable[Any]) -> Iterator[Position]:
    for number, feature in enumerate(features, start=1):
        try:
            given, geometry = feature.get("id"), feature["geometry"]
            identity = str(number) if not given or given in _LEGACY_IDS else str(given)
            _check_properties(path, number, feature)
            yield from _of_geometry(identity, geometry["type"], geometry["coordinates"], feature)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(
                f"{path}: feature {number} has no readable geometry; expected Point, MultiPoint, Polygon or "
                "MultiPolygon, as QuPath exports."
            ) from error


def _check_properties(path: Path, number: int, feature: Mapping[str, Any]) -> None:
    """Raises a DataError where nothing could be added without a loss."""
    properties = feature.get("properties") or {}
    if not isinstance(properties, dict):
        raise DataError(f"{path}: the properties of feature {number} are no object, as GeoJSON has them.")
    if not isinstance(properties.get("measurements") or {}, dict | list):
        raise DataError(
            f"{path}: the measurements of feature {number} are neither an object nor a list, as QuPath exports them."
        )


def _of_geometry(identity: str, kind: str, coordinates: Any, feature: Mapping[str, Any]) -> Iterator[Position]:
    if kind == "Point":
        yield _position(identity, coordinates, feature=feature)
    elif kind == "MultiPoint" and len(coordinates) > 1:
        for number, point in enumerate(coordinates, start=1):
            own = f"{identity}.{number}"
            geometry = {**feature["geometry"], "type": "Point", "coordinates": point}
            yield _position(own, point, feature={**feature, "id": own, "geometry": geometry})
    elif kind == "MultiPoint":
        yield from (_position(identity, point, feature=feature) for point in coordinates)
    elif kind in ("Polygon", "MultiPolygon"):
        rings = [coordinates[0]] if kind == "Polygon" else [polygon[0] for polygon in coordinates]
        across, down = zip(*((float(x), float(y)) for ring in rings for x, y, *_ in ring), strict=True)
        middle = ((min(across) + max(across)) / 2, (min(down) + max(down)) / 2)
        yield _position(identity, middle, feature=feature)
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
    feature: Mapping[str, Any] | None = None,
) -> Position:
    x, y = float(point[0]), float(point[1])
    if not (isfinite(x) and isfinite(y)):
        raise ValueError("not a finite number")
    return Position(id=identity, x=x, y=y, unit=unit, origin=origin, feature=feature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """One cell of a slide with what was predicted."""

    feature: Mapping[str, Any]
    """GeoJSON as it was read, in pixels of level 0."""
    id: str
    """Written where the feature has none."""
    predicted: str | None
    """None where it could not be read: the feature then keeps the class that it came with, if any."""
    measurements: Mapping[str, float]
    """Added to those of the feature."""


def free_prefix(positions: Iterable[Position], names: Iterable[str]) -> str:
    """Returns what to write before our measurements so that none replaces one of the input: mostly nothing.

    One for the whole file: QuPath shows the measurements of all cells as columns of one table.
    """
    taken = {name for position in positions for name in _measurement_names(position.feature or {})}
    prefix = ""
    while any(f"{prefix}{name}" in taken for name in names):
        prefix += _PREFIX
    return prefix


def _measurement_names(feature: Mapping[str, Any]) -> list[str]:
    found = (feature.get("properties") or {}).get("measurements") or {}
    return list(found) if isinstance(found, dict) else [str(one.get("name")) for one in found if isinstance(one, dict)]


def write_geojson(
    cells: Iterable[Classified], out: Path, classes: Sequence[str], members: Mapping[str, Any] | None = None
) -> int:
    """Writes a FeatureCollection that QuPath 0.4 and later opens, by drag and drop; returns the number of its features.

    Each feature is the input's with a class and its colour in the place of its own, and our measurements beside its
    own; one that names no type becomes a detection.

    Args:
        members: Further members of the collection.
    """
    colours = {name: list(_COLOURS[index % len(_COLOURS)]) for index, name in enumerate(classes)}
    lines = [json.dumps(_feature(cell, colours), ensure_ascii=False, allow_nan=False) for cell in cells]
    named = (f", {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in (members or {}).items())
    text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]" + "".join(named) + "}\n"
    write_bytes(out, text.encode())
    return len(lines)


def _feature(cell: Classified, colours: Mapping[str, list[int]]) -> dict[str, Any]:
    given = cell.feature.get("properties") or {}
    properties = dict(given)
    if not any(name in given for name in _TYPES) and cell.feature.get("id") not in _LEGACY_IDS:
        properties["objectType"] = "detection"
    if cell.measurements:
        properties["measurements"] = _with_ours(given.get("measurements"), cell.measurements)
    if cell.predicted is not None:
        properties["classification"] = {"name": cell.predicted, "color": colours[cell.predicted]}
    return {"type": "Feature", "id": cell.id, **cell.feature, "properties": properties}


def _with_ours(given: Any, ours: Mapping[str, float]) -> Any:
    """Adds measurements in the form of those that are there: a list up to QuPath 0.3, an object from 0.4."""
    if isinstance(given, list):
        return [*given, *({"name": name, "value": value} for name, value in ours.items())]
    return {**(given or {}), **ours}
