"""Recognition of whole-slide images by name and header, without OpenSlide: they are no images of a cell."""

from pathlib import Path
from typing import BinaryIO

from PIL import TiffImagePlugin

from cytolora.data.formats import SLIDE_SUFFIXES

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TILE_WIDTH, _SUB_IFDS = 322, 330
_MIN_PYRAMID_PX = 1024
"""Longer edge from which a tiled pyramid is a slide; cells are cut 50 to 300 pixels wide."""
_MIN_TILED_PX = 10_000
"""Longer edge from which tiles alone make a slide: no camera's field is as large."""


def slide_problem(source: Path | BinaryIO, name: str = "") -> str:
    """Says why a file is a whole slide and no image of a cell; empty for every other file, readable or not.

    Args:
        source: Read from its start, and left where it was.
        name: File name, where ``source`` has none.
    """
    suffix = Path(name or (source if isinstance(source, Path) else "")).suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return f"{suffix} is a format of whole slides"
    if isinstance(source, Path):
        try:
            with source.open("rb") as file:
                return _tiff_problem(file)
        except OSError:
            return ""
    before = source.tell()
    try:
        source.seek(0)
        return _tiff_problem(source)
    finally:
        source.seek(before)


def _tiff_problem(file: BinaryIO) -> str:
    if file.read(4) not in _TIFF_STARTS:
        return ""
    file.seek(0)
    try:
        return _of_directories(file)
    except Exception:  # a damaged file: whoever decodes it says what is wrong
        return ""


def _of_directories(file: BinaryIO) -> str:
    image = TiffImagePlugin.TiffImageFile(file)  # without Image.open's limit on pixels: none is decoded
    tags, (width, height) = image.tag_v2, image.size
    longer = max(width, height)
    if _TILE_WIDTH not in tags or longer < _MIN_PYRAMID_PX:
        return ""
    if longer >= _MIN_TILED_PX:
        return f"a tiled TIFF of {width} x {height} pixels is a whole slide"
    if _SUB_IFDS in tags or any(_is_level(image, number, width, height) for number in range(1, image.n_frames)):
        return f"a tiled pyramid of {width} x {height} pixels is a whole slide"
    return ""


def _is_level(image: TiffImagePlugin.TiffImageFile, number: int, width: int, height: int) -> bool:
    """Says whether a page shows the first one, smaller."""
    image.seek(number)
    return image.width < width and abs(image.width * height - image.height * width) <= 2 * max(width, height)
