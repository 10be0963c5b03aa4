"""Figures as PDF at the column widths of a paper: one column of 88 mm, two of 181 mm."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from cytolora.display.pdf_fonts import letters_only

Columns = Literal[1, 2]
WIDTHS: Mapping[Columns, float] = {1: 88 / 25.4, 2: 181 / 25.4}
"""Inches; those of Nature, Elsevier and Springer lie within 2 mm of them."""
_PAD = 0.05
"""Inches of white around a drawing."""
DPI = 200
"""Resolution of a PNG, and at which text is measured for every format: fine enough that hinting widens no letter."""
_DESIGN = 1.25
"""Width that a drawing for one column is laid out at, by that of the column: its letters of 9 points print as 7."""
_NUM_PASSES = 4
"""Rounds in which a drawing is scaled to its width: text does not shrink by exactly as much as it is told."""
_LEAST_POINTS = 6.0
"""Letters in print, which journals ask for; smaller only where those of a drawing do not fit its column so."""
_MOST_AT_ONCE = 0.25
"""Factor that a drawing is scaled by at a time, at least."""
_NARROW_HEIGHT = 0.85
"""Of the height that a panel has at full width."""

_columns: ContextVar[Columns | None] = ContextVar("columns", default=None)


@contextmanager
def for_columns(columns: Columns) -> Iterator[None]:
    """Makes whatever is drawn within for one or two columns."""
    token = _columns.set(columns)
    try:
        yield
    finally:
        _columns.reset(token)


def is_narrow() -> bool:
    """Whether a figure is being drawn for one column."""
    return _columns.get() == 1


def canvas(width: float, height: float) -> Drawing:
    """Makes a drawing of a size in inches, or of one column's width; its parts find their places by themselves."""
    if is_narrow():
        width, height = _DESIGN * WIDTHS[1], _NARROW_HEIGHT * height
    return Drawing(figsize=(width, height), layout="constrained")


def legend(drawing: Drawing, handles: list[Line2D], *, loc: Any, ncols: int = 1, **options: Any) -> None:
    """Puts a legend outside the panels: above them in one column, where there is no room beside."""
    if is_narrow():
        loc, ncols = "outside upper left", min(2, max(1, len(handles)))
        options |= {"fontsize": 8, "columnspacing": 1.0}
    drawing.legend(handles=handles, loc=loc, ncols=ncols, **options)


def lay_out(drawing: Drawing) -> Bbox:
    """Gives every part its place, and returns the box around all of them in inches."""
    drawing.set_dpi(DPI)
    if (engine := drawing.get_layout_engine()) is not None:
        engine.execute(drawing)
    return drawing.get_tightbbox()


def render(drawing: Drawing, kind: str, box: Bbox, **options: Any) -> bytes:
    """Saves what lies in a box of a drawing that is laid out, and lays nothing out again: that is most of the work."""
    sink, engine = io.BytesIO(), drawing.get_layout_engine()
    drawing.set_layout_engine(None)
    try:
        drawing.savefig(sink, format=kind, bbox_inches=box, **options)
    finally:
        drawing.set_layout_engine(engine)
    return sink.getvalue()


def to_pdf(drawing: Drawing, columns: Columns, box: Bbox | None = None) -> bytes:
    """Renders a drawing as PDF of exactly the width of its columns, a smaller one in their middle; fonts embedded.

    Args:
        box: What ``lay_out`` returned, of a drawing that is laid out already.
    """
    room, box = WIDTHS[columns] - 2 * _PAD, box or lay_out(drawing)
    for least in (_LEAST_POINTS, 0.0):
        box = _fitted(drawing, box, room, least)
    middle = (box.x0 + box.x1) / 2
    left, right = middle - WIDTHS[columns] / 2, middle + WIDTHS[columns] / 2
    page = Bbox([[left, box.y0 - _PAD], [right, box.y1 + _PAD]])
    metadata = {"CreationDate": None, "Creator": None, "Producer": None}
    with letters_only():
        return render(drawing, "pdf", page, facecolor="white", metadata=metadata)


def _fitted(drawing: Drawing, box: Bbox, room: float, least: float) -> Bbox:
    """Scales a drawing until it has a width in inches at most, and returns the box around it.

    Its width is taken for a line over its scale: proportional at first, then through the last two, since letters of
    ``least`` points and the space between parts do not shrink.
    """
    scale, growth = 1.0, box.width
    for _ in range(_NUM_PASSES):
        if box.width <= room:
            break
        factor = max(1 + (0.999 * room - box.width) / (growth * scale), _MOST_AT_ONCE)
        _scale(drawing, factor, least)
        before, box = box, lay_out(drawing)
        growth = max((before.width - box.width) / (scale * (1 - factor)), _MOST_AT_ONCE * growth)
        scale *= factor
    return box


def _scale(drawing: Drawing, factor: float, least: float) -> None:
    """Scales a drawing as a whole: its size, letters, lines and markers; those of ``least`` points keep their size."""
    drawing.set_size_inches(drawing.get_figwidth() * factor, drawing.get_figheight() * factor)
    for artist in drawing.findobj(Artist):
        if isinstance(artist, Text):
            points = float(artist.get_fontsize())
            artist.set_fontsize(max(points * factor, min(points, least)))
        elif isinstance(artist, Line2D):
            artist.set_linewidth(artist.get_linewidth() * factor)
            artist.set_markersize(artist.get_markersize() * factor)
        elif isinstance(artist, Collection):
            artist.set_linewidth([width * factor for width in np.atleast_1d(artist.get_linewidth())])
