"""Review page: one HTML file of cells, the most suspicious and uncertain first, labels set by keyboard."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
"""With the edge above about 2 kB a cell."""
_PICTURE_PX = 512
_PICTURE_QUALITY = 85
"""Chromatin keeps its texture: 4 kB of a cell of 128 px, 40 kB of one of 512."""
MAX_PICTURE_BYTES = 30_000_000
"""Pictures in their own pixels on one page, as text: those of the cells that are looked at first."""
_MAX_PAGE_BYTES = 50_000_000
"""Pictures and thumbnails of one page, as text: beyond, browsers grow slow to open it."""
_KEYS = "123456789bcdefghijklmnopqrtvwx"
"""Set the label, in the order of classes; a, s, u, y and z do something else. Classes beyond have a button only."""
MAX_CELLS = 20_000
"""Cells of one page: their thumbnails alone take about 40 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewCell:
    """One image of the page."""

    path: str
    """Its name in the saved table; unique within a page."""
    thumbnail: str
    """A data URI, from ``review_thumbnail``; empty where the image cannot be read."""
    picture: str = ""
    """The same in the image's own pixels, from ``review_picture``; empty where the thumbnail has them, or it was
    dropped."""
    surroundings: str = ""
    """A wider part of its slide as a data URI, from ``review_surroundings``; empty where there is none."""
    is_dropped: bool = False
    """Whether a page has no room for its picture."""
    probabilities: tuple[float, ...]
    """In the order of the page's classes; empty where there is no prediction."""
    label: str | None = None
    """The label it has now; None where none is known."""
    flags: tuple[str, ...] = ()
    """Labels of the filters: refer, unfamiliar, …"""
    note: str = ""
    """Text under the picture: the group, the error of an unreadable file."""


class CellsOfPage:
    """The cells of a page while they are made, with few more pictures than it has room for."""

    def __init__(self, classes: Sequence[str]) -> None:
        self._classes, self._cells, self._num_bytes = classes, list[ReviewCell](), 0

    def __len__(self) -> int:
        return len(self._cells)

    def __iter__(self) -> Iterator[ReviewCell]:
        return iter(self._cells)

    def add(self, cells: Iterable[ReviewCell]) -> None:
        """Appends cells, and drops pictures once there are twice as many as fit: of those that come last."""
        for cell in cells:
            self._cells.append(cell)
            self._num_bytes += _num_bytes(cell)
        if self._num_bytes > 2 * MAX_PICTURE_BYTES:
            kept = set(_first_pictures(self._cells, self._classes))
            for index, cell in enumerate(self._cells):
                if _num_bytes(cell) and index not in kept:
                    is_dropped = bool(cell.picture)
                    self._cells[index] = replace(cell, picture="", surroundings="", is_dropped=is_dropped)
            self._num_bytes = sum(map(_num_bytes, self._cells))


def review_thumbnail(pixels: Pixels) -> str:
    """Returns an image as the data URI of a picture for this page."""
    return thumbnail(pixels, edge_px=_EDGE_PX, quality=_WEBP_QUALITY)


def review_picture(pixels: Pixels) -> str:
    """Returns an image in its own pixels, up to 512 of them, as a data URI; empty where the thumbnail holds them."""
    if max(pixels.shape[:2]) <= _EDGE_PX:
        return ""
    return thumbnail(pixels, edge_px=_PICTURE_PX, quality=_PICTURE_QUALITY)


def review_surroundings(pixels: Pixels | None) -> str:
    """Returns the surroundings of a cell, up to 512 pixels wide, as a data URI; empty where there are none."""
    return "" if pixels is None else thumbnail(pixels, edge_px=_PICTURE_PX, quality=_WEBP_QUALITY)


def _num_bytes(cell: ReviewCell) -> int:
    """Returns the size of what a page may have no room for."""
    return len(cell.picture) + len(cell.surroundings)


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
    times_wider: float = 1.0,
) -> int:
    """Writes the page, whole or not at all; returns the number of cells on it.

    Cells that come first have pictures in their own pixels, others a thumbnail once these fill 30 MB. What a reader
    changes stays in the browser until it is saved as a table with columns ``path`` and ``label``, which
    ``cytolora fit --labels`` reads.

    Args:
        source: Text under the title: the bundle, the folder, the date.
        findings: Of the images and the files beside them, shown above the cells.
        times_wider: Width of surroundings over that of the cell's picture.

    Raises:
        DataError: If there is nothing to show, too much, or a path stands twice.
    """
    from cytolora.display.page_templates import page_templates  # not where no page is asked for

    cells = list(cells)
    rows = [_row(cell, classes) for cell in cells]
    if not rows:
        raise DataError(f"{out} would show nothing: there are no images.")
    if len(rows) > MAX_CELLS:
        raise DataError(f"{out} would hold {len(rows):,} cells, a browser opens {MAX_CELLS:,}; review a part of them.")
    if len({row[0] for row in rows}) < len(rows):
        raise DataError(f"{out}: a path stands twice among the cells to review; list every image once.")
    for index in _first_pictures(cells, classes):
        cell = cells[index]
        rows[index][_PICTURE:] = [cell.picture or cell.thumbnail, 1, cell.surroundings]
    content = {"classes": list(classes), "keys": _KEYS[: len(classes)], "cells": rows}
    text = canonical_json(content)
    environment = page_templates("cytolora.classifier.inference", lstrip_blocks=False)
    page = environment.get_template("review.html.j2").render(
        title=title,
        source=source,
        count=len(rows),
        data=_for_script(canonical_json({**content, "times_wider": times_wider})),
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
    label = _label_of(cell, classes)
    predicted = max(range(len(shares)), key=shares.__getitem__) if shares else -1
    suspect, unsure = _urgency(cell, classes)
    thousandths = [round(1000 * share) for share in shares]
    flags = list(cell.flags)
    is_own = int(not (cell.picture or cell.is_dropped))
    return [cell.path, label, predicted, thousandths, suspect, unsure, flags, cell.note, cell.thumbnail, is_own, ""]


_PICTURE = 8
"""Place in a row; the last three are the picture, whether it is in the image's own pixels, and the surroundings."""


def _label_of(cell: ReviewCell, classes: Sequence[str]) -> int:
    return classes.index(cell.label) if cell.label in classes else -1


def _urgency(cell: ReviewCell, classes: Sequence[str]) -> tuple[int | None, int | None]:
    """Returns suspicion and doubt in thousandths, by which the page is ordered; None where they are not known."""
    shares, label = cell.probabilities, _label_of(cell, classes)
    suspect = round(1000 * suspicion(shares, label)) if shares and label >= 0 else None
    return suspect, round(1000 * doubt(shares)) if shares else None


def _first_pictures(cells: Sequence[ReviewCell], classes: Sequence[str]) -> Iterator[int]:
    """Yields the places of the cells whose own pixels the page has room for: first those that it shows first."""

    def place(index: int) -> list[int]:
        return [-2000 if one is None else one for one in _urgency(cells[index], classes)]

    left = min(MAX_PICTURE_BYTES, _MAX_PAGE_BYTES - sum(len(cell.thumbnail) for cell in cells))
    for index in sorted((at for at, cell in enumerate(cells) if _num_bytes(cell)), key=place, reverse=True):
        left -= _num_bytes(cells[index])
        if left < 0:
            return
        yield index


def _for_script(text: str) -> Markup:
    """JSON that cannot end the script element that it stands in."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
