"""Focal planes of a slide: how many a file holds, and regions of planes that OpenSlide does not read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.ome import check_planes, parse_ome
from cytolora.data.imaging.pixels import MAX_BYTES
from cytolora.data.imaging.stated_sizes import Picture, check_embedded
from cytolora.errors import DataError, missing_package

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_AXES = {"Z": "focal planes", "I": "pages", "Q": "pages", "C": "channels", "T": "times"}
"""Axes of tifffile beside width, height and samples; pages of equal size of which the file says nothing are planes."""
_DEPTH = "ZIQ"
_SIDE_IMAGES = ("label", "macro", "thumbnail", "overview", "map")
_MICROMETRES: Mapping[str, float] = {
    "m": 1e6, "cm": 1e4, "mm": 1e3, "µm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "pm": 1e-6, "å": 1e-4,
    "in": 25400.0,
}  # fmt: skip
"""Micrometres of the units of OME-XML (https://docs.openmicroscopy.org/ome-model/), in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What one file holds beside the image that is read."""

    axes: Mapping[str, int]
    """Length by axis, of axes longer than 1: Z, C, T, …"""
    num_images: int = 1
    """Scenes or series; labels, macros and thumbnails are none."""

    @property
    def num_planes(self) -> int:
        """Focal planes, at least 1."""
        return next((self.axes[axis] for axis in _DEPTH if axis in self.axes), 1)

    def others(self) -> str:
        """Names what is not read, but for focal planes: 3 channels, 2 images; empty where there is nothing."""
        words = [f"{number} {_AXES.get(axis, axis)}" for axis, number in self.axes.items() if axis not in _DEPTH]
        return ", ".join([*words, *([f"{self.num_images} images"] if self.num_images > 1 else [])])


class PlaneReader:
    """Planes of a TIFF file, read tile by tile with tifffile."""

    def __init__(self, path: Path) -> None:
        """Reads the directories of a file.

        Raises:
            DataError: If tifffile cannot read them.
            ConfigError: If tifffile is not installed.
        """
        self._path = path
        tifffile = _load_tifffile()
        try:
            self._file = tifffile.TiffFile(path)
            check_planes(self._file.pages.first.description)
            self._series = self._file.series[0]
            self.layout = _layout(self._file.series)
        except (tifffile.TiffFileError, ValueError, IndexError, KeyError, OSError) as error:
            raise DataError(f"{path}: its pages cannot be read: {error}.") from error

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def region(self, plane: int, corner: tuple[int, int], size: tuple[int, int]) -> Pixels:
        """Reads a region of a plane at full resolution; what lies outside of it is white.

        Raises:
            DataError: If the plane is no tiled 8-bit RGB, or its compression needs another package.
        """
        page = self._page(plane)
        if not page.is_tiled or page.dtype != np.uint8 or page.samplesperpixel != 3 or page.planarconfig != 1:
            raise DataError(f"{self._path}: plane {plane} is no tiled 8-bit RGB image.")
        if page.tilewidth * page.tilelength * 3 > MAX_BYTES:
            raise DataError(f"{self._path}: plane {plane} has tiles of {page.tilewidth} x {page.tilelength} pixels.")
        out = np.full((size[1], size[0], 3), 255, np.uint8)
        try:
            self._fill(page, out, corner)
        except (ValueError, RuntimeError, OSError) as error:
            hint = " Install imagecodecs." if "imagecodecs" in str(error) else ""
            raise DataError(f"{self._path}: plane {plane} cannot be read: {error}.{hint}") from error
        return out

    def _page(self, plane: int) -> Any:
        lengths = [
            number for axis, number in zip(self._series.axes, self._series.shape, strict=True) if axis not in "YXS"
        ]
        axes = [axis for axis in self._series.axes if axis not in "YXS"]
        depth = next((axis for axis in _DEPTH if axis in axes), None)
        index = np.ravel_multi_index([plane if axis == depth else 0 for axis in axes], lengths) if axes else 0
        page = self._series.pages[int(index)]
        if page is None:
            raise DataError(f"{self._path}: plane {plane} is not in this file.")
        return page.aspage()

    def _fill(self, page: Any, out: Pixels, corner: tuple[int, int]) -> None:
        (left, top), (height, width) = corner, out.shape[:2]
        right, bottom = min(left + width, page.imagewidth), min(top + height, page.imagelength)
        per_row = -(-page.imagewidth // page.tilewidth)
        for row in range(max(top, 0) // page.tilelength, -(-max(bottom, 0) // page.tilelength)):
            for column in range(max(left, 0) // page.tilewidth, -(-max(right, 0) // page.tilewidth)):
                index = row * per_row + column
                if not page.databytecounts[index]:
                    continue  # left out of the file
                self._file.filehandle.seek(page.dataoffsets[index])
                data = self._file.filehandle.read(page.databytecounts[index])
                picture = Picture(str(self._path), page.imagewidth, page.imagelength)
                check_embedded(picture, int(page.compression), data, page.tilewidth * page.tilelength)
                tile = page.decode(data, index, jpegtables=page.jpegtables)[0]
                if tile is None:
                    continue
                y, x = row * page.tilelength, column * page.tilewidth
                tile = tile[0, : page.imagelength - y, : page.imagewidth - x]
                y0, y1 = max(y, top), min(y + tile.shape[0], bottom)
                x0, x1 = max(x, left), min(x + tile.shape[1], right)
                out[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0 - y : y1 - y, x0 - x : x1 - x]


def is_tiff(path: Path) -> bool:
    """Says by its first bytes whether a file is a TIFF."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in _TIFF_STARTS


def sharpness(pixels: Pixels) -> float:
    """Returns the variance of the Laplacian of an image in gray: the higher, the sharper (Pech-Pacheco et al. 2000)."""
    gray = pixels.mean(axis=2)
    inner = gray[1:-1, 1:-1]
    laplacian = gray[:-2, 1:-1] + gray[2:, 1:-1] + gray[1:-1, :-2] + gray[1:-1, 2:] - 4 * inner
    return float(laplacian.var()) if laplacian.size else 0.0


def ome_mpp(description: str, size: tuple[int, int]) -> tuple[float, float] | None:
    """Returns micrometres per pixel, across and down, that OME-XML gives for an image of a size, if any."""
    try:
        root = parse_ome(description)
    except ValueError:
        return None
    if root is None:
        return None
    for pixels in root.iterfind(".//{*}Pixels"):
        if (pixels.get("SizeX"), pixels.get("SizeY")) != tuple(map(str, size)):
            continue
        across = _micrometres(pixels, "PhysicalSizeX")
        down = _micrometres(pixels, "PhysicalSizeY") or across
        if across and down:
            return across, down
    return None


def _micrometres(pixels: ElementTree.Element, name: str) -> float | None:
    factor = _MICROMETRES.get(pixels.get(f"{name}Unit", "µm").casefold().replace("μ", "µ"))
    size = pixels.get(name)
    try:
        return float(size) * factor if size and factor else None
    except ValueError:
        return None


def _layout(series: Any) -> Layout:
    main = series[0]
    lengths = zip(main.axes, main.shape, strict=True)
    axes = {axis: number for axis, number in lengths if axis not in "YXS" and number > 1}
    num_images = 1
    if main.kind == "ome":
        num_images += sum(not any(word in one.name.lower() for word in _SIDE_IMAGES) for one in series[1:])
    return Layout(axes=axes, num_images=num_images)


def _load_tifffile() -> Any:
    try:
        import tifffile
    except ImportError as error:
        raise missing_package("Slides need", "tifffile", extra="wsi", error=error) from error
    return tifffile
