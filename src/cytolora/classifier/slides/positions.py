"""Positions of the cells of a slide: read from GeoJSON or a table, with a finding for every object that is left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cytolora.classifier.slides.cell_table import read_table_objects
from cytolora.classifier.slides.geojson import PassedOver, read_geojson_objects
from cytolora.classifier.slides.image_names import image_parts, is_same_image, names_of_slides
from cytolora.classifier.slides.objects import Position, SlideObject, Target
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.delimited import read_text
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted
from cytolora.errors import DataError

_NUM_IMAGES = 5
"""Names of images that an error shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """A file of positions."""

    positions: list[Position]
    members: Mapping[str, Any] = field(default_factory=dict)
    """Of a FeatureCollection, all but its type and features."""
    passed_over: tuple[PassedOver, ...] = ()
    """Features of a GeoJSON that are no cells; they go into the predictions as they are."""
    findings: tuple[Finding, ...] = ()


def read_positions(path: AnyPath) -> list[Position]:
    """Reads the positions of ``read_collection`` alone."""
    return read_collection(path).positions


def read_collection(path: AnyPath, target: Target | None = None) -> Collection:
    """Reads positions: GeoJSON (points and polygons), or a CSV or TSV with columns x,y (level 0) or x_um,y_um.

    Annotations, tiles and TMA cores are no cells. Where a file holds no cell, small annotations are taken for them.

    Args:
        target: The slide that they are read for: rows that name another image are left out, and so are outlines too
            wide for a cell, where the file does not say that they are cells.

    Raises:
        DataError: If it is neither, most of it has no position, an id stands twice, or no cell is left.
    """
    path = as_path(path)
    text = read_text(path)
    members: dict[str, Any] | None = None  # a table has neither members nor features to come back
    if path.suffix.lower() in (".json", ".geojson") or text.lstrip()[:1] in ("{", "["):
        objects, members = read_geojson_objects(path, text)
    else:
        objects = read_table_objects(path, text, mpp=None if target is None else target.mpp)
    if not objects:
        raise DataError(f"{path} holds no position of a cell.")
    return _collection(path, objects, members, target)


def _collection(
    path: Path, objects: Sequence[SlideObject], members: Mapping[str, Any] | None, target: Target | None
) -> Collection:
    of_slide, others = _of_slide(path, objects, target)
    cells, no_cells, drawn = _cells(path, of_slide, target)
    odd = [one for one in cells if not one.positions]
    if 2 * len(odd) > len(cells):
        raise DataError(
            f"{path}: {len(odd)} of {len(cells)} objects have no readable position; {odd[0].at} has {odd[0].problem}."
        )
    kept, copies = _without_copies(path, [one for one in cells if one.positions])
    _check_pixels(path, [position for one in kept for position in one.positions])
    findings = [*_unnamed_slide(of_slide, target), *_other_slide(others, target)]
    findings += [*_not_cells(no_cells), *drawn, *_odd(odd), *_copies(copies), *_nested(objects, kept)]
    taken = {id(one) for one in kept}
    positions: list[Position] = []
    passed_over: list[PassedOver] = []
    for one in objects:
        if id(one) in taken:
            positions += one.positions
        elif members is not None:
            passed_over.append(PassedOver(before=len(positions), feature=one.feature))
    return Collection(
        positions=positions, members=members or {}, passed_over=tuple(passed_over), findings=tuple(findings)
    )


def _of_slide(
    path: Path, objects: Sequence[SlideObject], target: Target | None
) -> tuple[list[SlideObject], list[SlideObject]]:
    """Divides objects into those of the slide, which names no image or this one, and those of other images."""
    named = [one for one in objects if one.image]
    if target is None or not names_of_slides([one.image for one in named], target.image):
        return list(objects), []
    others = [one for one in named if not is_same_image(one.image, target.image)]
    gone = {id(one) for one in others}
    kept = [one for one in objects if id(one) not in gone]
    if not kept:
        raise DataError(
            f"{path} has no cell of {target.image}: its rows name {_names(others)}. Name the slide that they belong "
            "to, or correct the names."
        )
    series = {image_parts(one.image)[1] for one in kept if one.image}
    if len(series - {""}) > 1:
        raise DataError(
            f"{path} has cells of {len(series)} images of {target.image}: {_names(kept)}. Keep the rows of the image "
            "that is predicted."
        )
    return kept, others


def _names(objects: Sequence[SlideObject]) -> str:
    numbers = Counter(one.image for one in objects if one.image)
    shown = [f"{name!r} ({number})" for name, number in sorted(numbers.items())[:_NUM_IMAGES]]
    return ", ".join(shown) + (f" and {len(numbers) - _NUM_IMAGES} more" if len(numbers) > _NUM_IMAGES else "")


def _cells(
    path: Path, objects: Sequence[SlideObject], target: Target | None
) -> tuple[list[SlideObject], list[SlideObject], list[Finding]]:
    """Divides objects into cells and what is none: by what the file says, else by size.

    Annotations are the cells where there is nothing else: somebody has marked them by hand.
    """
    is_wide = {id(one): target is not None and target.is_region(one) for one in objects}
    cells = [one for one in objects if one.kind == "cell" or (one.kind == "" and not is_wide[id(one)])]
    findings: list[Finding] = []
    if not any(one.positions for one in cells):
        drawn = [one for one in objects if one.kind == "annotation" and one.positions and not is_wide[id(one)]]
        if drawn:
            text = f"{_number(drawn, 'annotation')} taken as cells: the file holds no detections."
            findings = [finding("S705", text, count=len(drawn), examples=[one.at for one in drawn])]
            cells += drawn
    taken = {id(one) for one in cells}
    rest = [one for one in objects if id(one) not in taken]
    if not cells:
        raise DataError(
            f"{path} holds {_kinds(rest)} and no cell. Export the detections: in QuPath, Objects > Select > Select "
            "detections, then File > Export objects as GeoJSON, selected objects."
        )
    return cells, rest, findings


def _without_copies(path: Path, cells: Sequence[SlideObject]) -> tuple[list[SlideObject], list[SlideObject]]:
    """Leaves out objects that repeat id and position of another.

    Raises:
        DataError: If an id stands at two positions.
    """
    places: dict[str, tuple[float, float, int | None]] = {}
    kept: list[SlideObject] = []
    copies: list[SlideObject] = []
    for one in cells:
        own = {position.id: (position.x, position.y, position.z) for position in one.positions}
        if all(places.get(name) == place for name, place in own.items()):
            copies.append(one)
            continue
        twice = next((name for name in own if name in places), None)
        if twice is not None:
            raise DataError(f"{path}: the id {twice!r} stands twice; every cell needs its own ({one.at}).")
        places |= own
        kept.append(one)
    return kept, copies


def _check_pixels(path: Path, positions: Sequence[Position]) -> None:
    """Refuses positions that are shares of the slide's width and height."""
    numbers = [number for one in positions for number in (one.x, one.y)]
    is_share = len(positions) > 1 and all(0 <= number <= 1 for number in numbers)
    if is_share and len({number for number in numbers if number % 1}) > 1:
        raise DataError(
            f"{path}: all positions lie in 0 to 1, shares of the slide it seems; expected pixels of level 0, or "
            "micrometres. Multiply them by its width and height."
        )


def _unnamed_slide(objects: Sequence[SlideObject], target: Target | None) -> list[Finding]:
    """Says where rows name images in a way that no slide's name can be compared with, and may be of several slides."""
    names = Counter(one.image for one in objects if one.image)
    if target is None or len(names) < 2 or names_of_slides(list(names.elements()), target.image):
        return []
    text = (
        f"All rows taken for {target.image}: the images that they name ({_names(objects)}) are none that a slide's "
        "name can be compared with."
    )
    return [finding("S708", text, count=names.total(), examples=sorted(names))]


def _other_slide(others: Sequence[SlideObject], target: Target | None) -> list[Finding]:
    if not others or target is None:
        return []
    text = f"{_number(others, 'row')} of other images than {target.image} left out: {_names(others)}."
    return [finding("S702", text, count=len(others), examples=[one.at for one in others])]


def _not_cells(objects: Sequence[SlideObject]) -> list[Finding]:
    if not objects:
        return []
    places = [f"{one.at} ({_kind(one)})" for one in objects]
    said = "which is no cell" if len(objects) == 1 else "which are no cells"
    text = f"{_kinds(objects)} left out, {said}; {first(places)}."
    return [finding("S701", text, count=len(objects), examples=places)]


def _odd(objects: Sequence[SlideObject]) -> list[Finding]:
    if not objects:
        return []
    places = [f"{one.at} ({one.problem})" for one in objects]
    text = f"{_number(objects, 'object')} without a readable position left out; {first(places)}."
    return [finding("S704", text, count=len(objects), examples=places)]


def _copies(objects: Sequence[SlideObject]) -> list[Finding]:
    if not objects:
        return []
    text = f"{_number(objects, 'object')} left out that repeat id and position; {first([one.at for one in objects])}."
    return [finding("S707", text, count=len(objects), examples=[one.at for one in objects])]


def _nested(objects: Sequence[SlideObject], cells: Sequence[SlideObject]) -> list[Finding]:
    """Says which objects were nested in others, and whether they are predicted."""
    findings: list[Finding] = []
    holding = [one for one in cells if one.num_inside]
    if holding:
        number, places = sum(one.num_inside for one in holding), [one.at for one in holding]
        text = counted(number, "object inside a cell is not predicted", "objects inside cells are not predicted")
        line = f"{text} (childObjects): they are taken for its parts, and stay there; {first(places)}."
        findings.append(finding("S709", line, count=number, examples=places))
    lifted = [one.at for one in objects if one.is_nested]
    if lifted:
        text = counted(len(lifted), "object nested in another is", "objects nested in others are")
        line = f"{text} read as if beside it (childObjects), and written so; {first(lifted)}."
        findings.append(finding("S710", line, count=len(lifted), examples=lifted))
    return findings


def _kinds(objects: Sequence[SlideObject]) -> str:
    numbers = Counter(_kind(one) for one in objects)
    return ", ".join(counted(number, kind) for kind, number in numbers.items())


def _kind(one: SlideObject) -> str:
    return one.kind or "region"


def _number(objects: Sequence[SlideObject], noun: str) -> str:
    return counted(len(objects), noun)
