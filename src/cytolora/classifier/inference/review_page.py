"""Review page: one HTML file of cells, the most suspicious and uncertain first, labels set by keyboard."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Any

from markupsafe import Markup

from cytolora.core.files import canonical_json, sha256_text, write_text
from cytolora.core.findings import Finding, few_of_each
from cytolora.data.imaging.decode import Pixels
from cytolora.display.thumbnails import thumbnail
from cytolora.errors import DataError

_EDGE_PX = 96
_WEBP_QUALITY = 70
"""With the edge above about 2 kB a cell, so that a page of 5,000 stays near 13 MB."""
_PICTURE_PX = 512
_PICTURE_QUALITY = 85
"""Chromatin stays as it is in the file: 4 kB of a cell of 128 px, 40 kB of one of 512."""
MAX_PICTURE_BYTES = 30_000_000
"""Pictures in their own pixels on one page, as text: those of the cells that are looked at first."""
_KEYS = "123456789bcdefghijklmnopqrtvwx"
"""Set the label, in the order of classes; a, s, u, y and z do something else. Classes beyond have a button only."""
MAX_CELLS = 20_000
"""Cells of one page; browsers grow slow to open more than about 50 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCell:
    """One image of the page."""

    path: str
    """Its name in the saved table; unique within a page."""
    thumbnail: str
    """A data URI, from ``review_thumbnail``; empty where the image cannot be read."""
    picture: str = ""
    """The same in the image's own pixels, from ``review_picture``; empty where the thumbnail has them."""
    probabilities: tuple[float, ...]
    """In the order of the page's classes; empty where there is no prediction."""
    label: str | None = None
    """The label it has now; None where none is known."""
    flags: tuple[str, ...] = ()
    """Labels of the filters: refer, unfamiliar, …"""
    note: str = ""
    """Text under the picture: the group, the error of an unreadable file."""


def review_thumbnail(pixels: Pixels) -> str:
    """Returns an image as the data URI of a picture for this page."""
    return thumbnail(pixels, edge_px=_EDGE_PX, quality=_WEBP_QUALITY)


def review_picture(pixels: Pixels) -> str:
    """Returns an image in its own pixels, up to 512 of them, as a data URI; empty where the thumbnail holds them."""
    if max(pixels.shape[:2]) <= _EDGE_PX:
        return ""
    return thumbnail(pixels, edge_px=_PICTURE_PX, quality=_PICTURE_QUALITY)


def suspicion(probabilities: Sequence[float], label: int) -> float:
    """How much more likely than its label another class is, in [-1, 1]; above 0 the prediction contradicts it."""
    others = [share for index, share in enumerate(probabilities) if index != label]
    return max(others, default=0.0) - probabilities[label]


def doubt(probabilities: Sequence[float]) -> float:
    """Normalised entropy of a prediction, in [0, 1]."""
    if len(probabilities) < 2:
        return 0.0
    return -sum(share * log(share) for share in probabilities if share > 0) / log(len(probabilities))


def write_page(
    cells: Iterable[ReviewCell],
    out: Path,
    *,
    classes: Sequence[str],
    title: str = "Review",
    source: str = "",
    findings: Iterable[Finding] = (),
) -> int:
    """Writes the page, whole or not at all; returns the number of cells on it.

    Cells that come first have pictures in their own pixels, others a thumbnail once these fill 30 MB. What a reader
    changes stays in the browser until it is saved as a table with columns ``path`` and ``label``, which
    ``cytolora fit --labels`` reads.

    Args:
        source: Text under the title: the bundle, the folder, the date.
        findings: Of the images and the files beside them, shown above the cells.

    Raises:
        DataError: If there is nothing to show, too much, or a path stands twice.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # not where no page is asked for

    cells = list(cells)
    rows = [_row(cell, classes) for cell in cells]
    if not rows:
        raise DataError(f"{out} would show nothing: there are no images.")
    if len(rows) > MAX_CELLS:
        raise DataError(f"{out} would hold {len(rows):,} cells, a browser opens {MAX_CELLS:,}; review a part of them.")
    if len({row[0] for row in rows}) < len(rows):
        raise DataError(f"{out}: a path stands twice among the cells to review; list every image once.")
    for row, cell in _first_pictures(rows, cells):
        row[_PICTURE:] = [cell.picture, 1]
    content = {"classes": list(classes), "keys": _KEYS[: len(classes)], "cells": rows}
    text = canonical_json(content)
    environment = Environment(
        loader=PackageLoader("cytolora.classifier.inference"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    page = environment.get_template("review.html.j2").render(
        title=title,
        source=source,
        count=len(rows),
        data=_for_script(text),
        page_id=sha256_text(text)[:16],
        findings=few_of_each(findings),
    )
    try:
        write_text(out, page)
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Choose another --page.") from error
    return len(rows)


def _row(cell: ReviewCell, classes: Sequence[str]) -> list[Any]:
    """Packs a cell as the page's script reads it; thousandths as whole numbers halve the file's text."""
    shares = cell.probabilities
    if shares and len(shares) != len(classes):
        raise ValueError(f"{cell.path} has {len(shares)} probabilities for {len(classes)} classes")
    label = classes.index(cell.label) if cell.label in classes else -1
    predicted = max(range(len(shares)), key=shares.__getitem__) if shares else -1
    suspect = round(1000 * suspicion(shares, label)) if shares and label >= 0 else None
    unsure = round(1000 * doubt(shares)) if shares else None
    thousandths = [round(1000 * share) for share in shares]
    flags = list(cell.flags)
    is_own = int(not cell.picture)
    return [cell.path, label, predicted, thousandths, suspect, unsure, flags, cell.note, cell.thumbnail, is_own]


_SUSPICION, _DOUBT, _PICTURE = 4, 5, 8
"""Places in a row; the last two are the picture, and whether it is in the image's own pixels."""


def _first_pictures(rows: Sequence[list[Any]], cells: Sequence[ReviewCell]) -> Iterator[tuple[list[Any], ReviewCell]]:
    """Yields the cells whose own pixels the page has room for: first those that it shows first."""

    def place(index: int) -> list[int]:
        return [-2000 if rows[index][at] is None else rows[index][at] for at in (_SUSPICION, _DOUBT)]

    left = MAX_PICTURE_BYTES
    for index in sorted((at for at, cell in enumerate(cells) if cell.picture), key=place, reverse=True):
        left -= len(cells[index].picture)
        if left < 0:
            return
        yield rows[index], cells[index]


def _for_script(text: str) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
