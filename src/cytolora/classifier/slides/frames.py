"""Frames of reference of cell positions: columns of a table that say that x and y are no pixels of level 0."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from cytolora.classifier.slides.objects import Position, SlideObject, Unit
from cytolora.errors import DataError

_BOXES = (
    *(("w", "h"), ("width", "height"), ("boxwidth", "boxheight"), ("bboxw", "bboxh"), ("bboxwidth", "bboxheight")),
    *(("x2", "y2"), ("x1", "y1"), ("xmax", "ymax"), ("maxx", "maxy"), ("xend", "yend"), ("right", "bottom")),
)
"""Columns of the sizes or other corners of boxes, as ``_bare`` writes them."""
_SCALES = {"level": 0, "pyramidlevel": 0, "downsample": 1, "downsamplefactor": 1}
"""Columns that name another frame of x and y, and their values for level 0."""
_UNITS = ("unit", "units", "xunit", "yunit", "xyunit", "coordinateunit", "coordinatesunit", "positionunit")
_PIXELS = frozenset(("px", "pixel", "pixels"))
_MICROMETRES = frozenset(("um", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"))
_OTHER_UNITS = frozenset(
    ("nm", "mm", "cm", "m", "inch", "in", "millimeter", "millimetre", "millimeters", "millimetres", "percent")
)
_MPP = ("mpp", "mppx", "umperpx", "umperpixel", "micronsperpixel", "pixelsize", "pixelsizeum")
_SAME_MPP = 0.05
"""Relative difference up to which two sizes of a pixel are one that was rounded."""
_SAME_PX, _SAME_SHARE = 2.0, 0.02
"""Difference of two positions that are one in two units: pixels, or a share, where the size of a pixel was rounded."""

Row = tuple[int, Mapping[str, str]]


def check_frame(path: Path, columns: Sequence[str], rows: Sequence[Row], unit: Unit, mpp: float | None) -> None:
    """Refuses columns that say that x and y are no centres in pixels of level 0, or micrometres.

    Args:
        mpp: Micrometres per pixel of the slide, where it is known.
    """
    bare = {_bare(name): name for name in reversed(columns)}
    box = next((pair for pair in _BOXES if all(name in bare for name in pair)), None)
    if box is not None:
        raise DataError(
            f"{path} has the columns {bare[box[0]]!r} and {bare[box[1]]!r} beside x and y: boxes, of which nobody "
            "can tell whether x,y is the corner or the centre. Write the centres as x,y, and remove the other two."
        )
    for name, neutral in _SCALES.items():
        other = sorted(_values(rows, bare.get(name)) - {str(neutral), f"{neutral}.0"})
        if other:
            raise DataError(
                f"{path}: column {bare[name]!r} holds {other[0]!r}, expected {neutral}: positions are of level 0, in "
                "full resolution. Multiply x and y by the downsampling of their level, and remove the column."
            )
    for name in (name for name in _UNITS if name in bare):
        _check_unit(path, bare[name], _values(rows, bare[name]), unit)
    if unit == "px" and mpp is not None:
        for name in (name for name in _MPP if name in bare):
            _check_mpp(path, bare[name], _values(rows, bare[name]), mpp)


def _check_unit(path: Path, column: str, values: set[str], unit: Unit) -> None:
    own = _PIXELS if unit == "px" else _MICROMETRES
    named = (_PIXELS | _MICROMETRES | _OTHER_UNITS) - own
    other = next((value for value in sorted(values) if _bare(value) in named), None)
    if other is None:
        return
    is_other_pair = _bare(other) in (_MICROMETRES if unit == "px" else _PIXELS)
    pair = "x_um,y_um" if unit == "px" else "x,y"
    cure = f"Name the columns {pair}" if is_other_pair else "Write the positions in pixels, or as x_um,y_um"
    raise DataError(
        f"{path}: column {column!r} holds {other!r}, and the columns of the positions are for "
        f"{'pixels of level 0' if unit == 'px' else 'micrometres'}. {cure}, and remove {column!r}."
    )


def _check_mpp(path: Path, column: str, values: set[str], mpp: float) -> None:
    for value in sorted(values):
        with suppress(ValueError):
            given = float(value.replace(",", "."))
            if given > 0 and abs(given - mpp) > _SAME_MPP * mpp:
                raise DataError(
                    f"{path}: column {column!r} holds {value}, and level 0 of the slide has {mpp:g} µm per pixel. "
                    f"Multiply x and y by {given / mpp:g}, the ratio of the two, and remove the column."
                )


def check_pairs(
    path: Path,
    names: tuple[tuple[str, str], tuple[str, str]],
    objects: tuple[Sequence[SlideObject], Sequence[SlideObject]],
    mpp: float | None,
) -> None:
    """Refuses a table of which two pairs of columns give a cell two places."""
    for one, other in zip(*objects, strict=True):
        if not (one.positions and other.positions):
            continue
        first, second = one.positions[0], other.positions[0]
        if first.origin != second.origin or (mpp is None and first.unit != second.unit):
            return
        places = _in_pixels(first, mpp), _in_pixels(second, mpp)
        if any(abs(a - b) > max(_SAME_PX, _SAME_SHARE * abs(a)) for a, b in zip(*places, strict=True)):
            written = [f"{','.join(pair)} = {at.x:g},{at.y:g}" for pair, at in zip(names, (first, second), strict=True)]
            raise DataError(
                f"{path}, {one.at}: {written[0]} and {written[1]} are two places of the slide. Remove the pair of "
                "columns that is counted from elsewhere."
            )


def _in_pixels(at: Position, mpp: float | None) -> tuple[float, float]:
    scale = 1 / mpp if at.unit == "um" and mpp else 1.0
    return at.x * scale, at.y * scale


def _values(rows: Sequence[Row], column: str | None) -> set[str]:
    """Returns the texts of a column; none where there is none."""
    return {row[column].strip() for _, row in rows} - {""} if column is not None else set()


def _bare(name: str) -> str:
    """Returns a name or unit in lower case without blanks and signs, and with u for micro."""
    return re.sub(r"[\W_]+", "", name.replace("%", "percent").casefold().replace("\u03bc", "u"))
