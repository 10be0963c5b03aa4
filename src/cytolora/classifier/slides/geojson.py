"""GeoJSON of cells, as QuPath 0.2 to 0.5 and other programs write it: features to objects, and predictions back."""

import json
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from cytolora.classifier.slides.image_names import image_of
from cytolora.classifier.slides.nesting import kind_of_feature, num_nested, without_nesting
from cytolora.classifier.slides.objects import LEGACY_IDS, TYPES, Position, SlideObject, free_id
from cytolora.core.files import write_bytes
from cytolora.core.strict_json import check_depth, whole
from cytolora.data.own_files import GEOJSON_SUFFIXES
from cytolora.errors import DataError

_COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167),
    (230, 159, 0), (86, 180, 233), (240, 228, 66), (0, 0, 0),
)  # fmt: skip
"""One a class, repeated: told apart by colour-blind readers (Okabe and Ito 2008, https://jfly.uni-koeln.de/color/)."""
_PREFIX = "cytolora "
_NUM_KEYS = 5
"""Of another JSON file, that an error names."""
_UNREADABLE = "no readable geometry; expected Point, MultiPoint, Polygon or MultiPolygon, as QuPath exports"


def is_geojson(path: Path) -> bool:
    """Whether a file of results is to be GeoJSON, by its name."""
    return path.suffix.lower() in GEOJSON_SUFFIXES


def read_geojson_objects(path: Path, text: str) -> tuple[list[SlideObject], dict[str, Any]]:
    """Reads the features of a FeatureCollection, a list or a single one; and the collection's other members.

    Raises:
        DataError: If it is no JSON, or its features are no list.
    """
    try:
        plain = json.loads(text, parse_constant=str, parse_float=_finite_or_text, parse_int=whole)
        check_depth(plain)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}. Export the cells as one GeoJSON FeatureCollection.") from error
    if not isinstance(plain, dict | list):
        raise DataError(f"{path} is no GeoJSON: it holds one {type(plain).__name__}, expected a FeatureCollection.")
    if isinstance(plain, dict) and not plain.keys() & {"features", "geometry"}:
        keys = ", ".join(map(repr, list(plain)[:_NUM_KEYS]))
        raise DataError(
            f"{path} is no GeoJSON: it holds {keys or 'nothing'}, expected a FeatureCollection, a Feature or a list of "
            "them. Export the cells as GeoJSON, or as a table with columns x,y."
        )
    if isinstance(plain, dict) and "features" not in plain:
        plain = [plain]
    collection = plain if isinstance(plain, dict) else {"features": plain}
    if not isinstance(collection["features"], list):
        raise DataError(f"{path} is no GeoJSON: its `features` are no list.")
    members = {name: value for name, value in collection.items() if name not in ("type", "features")}
    features = list(without_nesting(collection["features"]))
    taken = frozenset(identity for _, feature in features if (identity := _given_id(feature)))
    objects = [_object(number, at, feature, taken) for number, (at, feature) in enumerate(features, start=1)]
    return objects, members


def _given_id(feature: Any) -> str:
    """Returns the id of a feature as text; empty where it has none, or the type of an object, as in QuPath 0.2."""
    given = feature.get("id") if isinstance(feature, dict) else None
    return "" if given is None or given in LEGACY_IDS else str(given)


def _finite_or_text(text: str) -> float | str:
    """Keeps a number beyond float as its text, like NaN and Infinity.

    QuPath 0.4.0 to 0.4.3 writes NaN as such and cannot read it; later versions write and read the text "NaN"
    (https://github.com/qupath/qupath/pull/1296).
    """
    number = float(text)
    return number if isfinite(number) else text


def _object(number: int, at: str, feature: Any, taken: Collection[str]) -> SlideObject:
    if not isinstance(feature, dict):
        return SlideObject(at=at, problem="no GeoJSON feature", feature=feature)
    properties = feature.get("properties") or {}
    problem = _problem(feature, properties)
    if problem:
        return SlideObject(at=at, problem=problem, feature=feature)
    kind, image = kind_of_feature(feature), image_of(properties)
    num_inside, is_nested = num_nested(feature), "." in at
    identity = _given_id(feature) or free_id(number, taken)
    try:
        positions, edge_px = _positions(identity, feature)
    except (AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError):
        return SlideObject(at=at, kind=kind, image=image, problem=_UNREADABLE, feature=feature)
    return SlideObject(
        at=at,
        kind=kind,
        image=image,
        positions=positions,
        edge_px=edge_px,
        feature=feature,
        num_inside=num_inside,
        is_nested=is_nested,
    )


def _problem(feature: Mapping[str, Any], properties: Any) -> str:
    """Says why nothing can be added to a feature without a loss; empty where it can."""
    if not isinstance(properties, dict):
        return "properties that are no object, as GeoJSON has them"
    if not isinstance(properties.get("measurements") or {}, dict | list):
        return "measurements that are neither an object nor a list, as QuPath exports them"
    try:
        json.dumps(feature, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "half a character in a text"
    return ""


def _positions(identity: str, feature: Mapping[str, Any]) -> tuple[tuple[Position, ...], float]:
    """Returns the centres of a feature, and the longer edge of its outline."""
    geometry = feature["geometry"]
    kind, coordinates, z = geometry["type"], geometry["coordinates"], _plane(geometry)
    if kind == "Point":
        return (_position(identity, _point(coordinates), z, feature),), 0
    if kind == "MultiPoint":
        points = [_point(point) for point in coordinates]
        if len(points) == 1:
            return (_position(identity, points[0], z, feature),), 0
        return tuple(_parted(identity, feature, coordinates, points, z)), 0
    if kind not in ("Polygon", "MultiPolygon"):
        raise ValueError(kind)
    rings = [coordinates[0]] if kind == "Polygon" else [polygon[0] for polygon in coordinates]
    across, down = zip(*(_point(point) for ring in rings for point in ring), strict=True)
    middle = ((min(across) + max(across)) / 2, (min(down) + max(down)) / 2)
    edge_px = max(max(across) - min(across), max(down) - min(down))
    return (_position(identity, middle, z, feature),), edge_px


def _parted(
    identity: str, feature: Mapping[str, Any], coordinates: Sequence[Any], points: Sequence[Any], z: int | None
) -> Iterator[Position]:
    if not points:
        raise ValueError("no point")
    for number, (given, point) in enumerate(zip(coordinates, points, strict=True), start=1):
        own = f"{identity}.{number}"
        geometry = {**feature["geometry"], "type": "Point", "coordinates": given}
        yield _position(own, point, z, {**feature, "id": own, "geometry": geometry})


def _position(identity: str, point: tuple[float, float], z: int | None, feature: Mapping[str, Any]) -> Position:
    return Position(id=identity, x=point[0], y=point[1], z=z, origin="bounds", feature=feature)


def _point(given: Sequence[Any]) -> tuple[float, float]:
    if isinstance(given, str) or isinstance(given[0], bool) or isinstance(given[1], bool):
        raise ValueError("no numbers")
    x, y = float(given[0]), float(given[1])
    if not (isfinite(x) and isfinite(y)):
        raise ValueError("not a finite number")
    return x, y


def _plane(geometry: Mapping[str, Any]) -> int | None:
    """Returns the focal plane of QuPath's ``plane``; it is written for other planes than the first alone."""
    plane = geometry.get("plane")
    z = plane.get("z") if isinstance(plane, dict) else None
    if isinstance(z, bool) or not isinstance(z, int | float) or z < 0 or z != int(z):
        return None
    return int(z)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PassedOver:
    """A feature that is not predicted, and comes back as it was."""

    before: int
    """Number of cells that stand before it."""
    feature: Any


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
    cells: Iterable[Classified],
    out: Path,
    classes: Sequence[str],
    members: Mapping[str, Any] | None = None,
    passed_over: Sequence[PassedOver] = (),
) -> int:
    """Writes a FeatureCollection that QuPath 0.4 and later opens, by drag and drop; returns the number of its features.

    Each feature is the input's with a class and its colour in the place of its own, and our measurements beside its
    own; one that names no type becomes a detection.

    Args:
        members: Further members of the collection.
        passed_over: Features that are written as they are, in their places between the cells.
    """
    colours = {name: list(_COLOURS[index % len(_COLOURS)]) for index, name in enumerate(classes)}
    lines: list[str] = []
    others = deque(sorted(passed_over, key=lambda other: other.before))
    for number, cell in enumerate(cells):
        while others and others[0].before <= number:
            lines.append(_text(others.popleft().feature))
        lines.append(_text(_feature(cell, colours)))
    lines += [_text(other.feature) for other in others]
    named = (f", {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in (members or {}).items())
    text = '{"type": "FeatureCollection", "features": [\n' + ",\n".join(lines) + "\n]" + "".join(named) + "}\n"
    write_bytes(out, text.encode())
    return len(lines)


def _text(feature: Any) -> str:
    text = json.dumps(feature, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character: only an escape can say it
        return json.dumps(feature, allow_nan=False)
    return text


def _feature(cell: Classified, colours: Mapping[str, list[int]]) -> dict[str, Any]:
    given = cell.feature.get("properties") or {}
    properties = dict(given)
    if not any(name in given for name in TYPES) and cell.feature.get("id") not in LEGACY_IDS:
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
