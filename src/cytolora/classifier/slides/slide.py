"""Crops cells out of a whole slide, one at a time, in micrometres; the only module that opens a slide."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from cytolora.classifier.slides.positions import Position
from cytolora.core.arguments import AnyPath, as_path
from cytolora.data.imaging.decode import Pixels
from cytolora.errors import ConfigError, DataError, missing_package

_VENDOR_ONLY = {".kfb": "KFBio", ".sdpc": "Sqray", ".isyntax": "Philips", ".isx": "Philips"}
"""Formats that OpenSlide does not read (https://openslide.org/formats/)."""
_MPP_RANGE = (0.02, 20.0)
"""Micrometres per pixel of light microscopes, with room to spare; TIFF files made for print say 300."""
_MAX_CROP_PX = 4096
"""Edge of a crop on level 0; a cell is 100 to 300 pixels wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlideCell:
    """One cell, cut out, or the reason why not."""

    id: str
    x: float
    y: float
    """Its centre, pixels of level 0, counted from where the position was."""
    feature: Mapping[str, Any]
    """GeoJSON as it was given, else the square that was cut; likewise."""
    pixels: Pixels | None
    error: str = ""


class Slide:
    """A whole slide, opened by OpenSlide; only its scanned area is ever read, never its label or macro picture."""

    def __init__(self, path: AnyPath, *, mpp: float | None = None) -> None:
        """Opens a slide.

        Args:
            mpp: Micrometres per pixel of level 0, where the file does not say, or says wrongly.

        Raises:
            DataError: If OpenSlide cannot read it, or nothing says how large a pixel is.
            ConfigError: If OpenSlide is not installed, or ``mpp`` is none.
        """
        if mpp is not None and not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
            raise ConfigError(f"--mpp is micrometres per pixel, {_MPP_RANGE[0]} to {_MPP_RANGE[1]:g}, got {mpp:g}.")
        self.path = as_path(path)
        self._openslide = _load_openslide()
        self._file = self._open()
        self.mpp = self._mpp(mpp)
        """Micrometres per pixel of level 0, across and down."""
        self.size: tuple[int, int] = self._file.dimensions
        """Width and height of level 0, pixels."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def cells(self, positions: Iterable[Position], *, crop_um: float) -> Iterator[SlideCell]:
        """Yields one crop for every position, in their order, each read when it is asked for.

        A crop lies on white where it reaches over the edge; a position outside the slide, or a part of the file that is
        damaged, is a cell with an error.

        Args:
            crop_um: Edge of the square crop, micrometres.

        Raises:
            ConfigError: If that is not between 1 and 4096 pixels.
        """
        sizes = [crop_um / mpp for mpp in self.mpp]
        if not all(1 <= size <= _MAX_CROP_PX for size in sizes):
            raise ConfigError(
                f"A crop of {crop_um:g} µm is {sizes[0]:.0f} pixels of this slide ({self.mpp[0]:g} µm each); expected "
                f"1 to {_MAX_CROP_PX}. Check --crop-um and --mpp."
            )
        edges = tuple(round(size) for size in sizes)
        for position in positions:
            x, y = position.x, position.y
            if position.unit == "um":
                x, y = x / self.mpp[0], y / self.mpp[1]
            left, top = self._bounds() if position.origin == "bounds" else (0, 0)
            pixels, error = self._crop((x + left, y + top), edges)
            feature = position.feature or {"geometry": _square(x, y, edges)}
            yield SlideCell(id=position.id, x=x, y=y, feature=feature, pixels=pixels, error=error)

    def _crop(self, centre: tuple[float, float], edges: tuple[int, ...]) -> tuple[Pixels | None, str]:
        if not (0 <= centre[0] < self.size[0] and 0 <= centre[1] < self.size[1]):
            at = f"({centre[0]:.0f}, {centre[1]:.0f})"
            return None, f"{at} lies outside the slide of {self.size[0]} x {self.size[1]} pixels"
        corner = tuple(round(middle - edge / 2) for middle, edge in zip(centre, edges, strict=True))
        try:
            return _on_white(self._file.read_region(corner, 0, edges)), ""
        except self._openslide.OpenSlideError as error:
            self._file.close()
            self._file = self._open()  # after an error OpenSlide answers nothing more
            return None, f"the slide is damaged there: {error}"

    def _open(self) -> Any:
        vendor = _VENDOR_ONLY.get(self.path.suffix.lower())
        if vendor:
            raise DataError(
                f"{self.path}: OpenSlide does not read {self.path.suffix}. Convert it with {vendor}'s own program to "
                "SVS or TIFF."
            )
        try:
            return self._openslide.OpenSlide(str(self.path))
        except FileNotFoundError as error:
            raise DataError(f"{self.path} does not exist.") from error
        except (self._openslide.OpenSlideError, OSError) as error:
            why = str(error).rstrip(".")
            raise DataError(
                f"{self.path} is no slide that OpenSlide reads: {why}. See openslide.org/formats."
            ) from error

    def _mpp(self, given: float | None) -> tuple[float, float]:
        if given is not None:
            return given, given
        said = [self._file.properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        try:
            across, down = (float(text or "nan") for text in said)
        except ValueError:
            across = down = float("nan")
        if all(_MPP_RANGE[0] <= value <= _MPP_RANGE[1] for value in (across, down)):
            return across, down
        found = "does not say how large its pixels are" if said[0] is None else f"says {said[0]} µm per pixel"
        raise DataError(f"{self.path} {found}. Give micrometres per pixel: --mpp 0.25 at 40x, 0.5 at 20x, usually.")

    def _bounds(self) -> tuple[int, int]:
        properties = self._file.properties
        return int(properties.get("openslide.bounds-x", 0)), int(properties.get("openslide.bounds-y", 0))


def _square(x: float, y: float, edges: tuple[int, ...]) -> dict[str, Any]:
    left, top, right, bottom = x - edges[0] / 2, y - edges[1] / 2, x + edges[0] / 2, y + edges[1] / 2
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}


def _on_white(region: Image.Image) -> Pixels:
    white = Image.new("RGBA", region.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, region.convert("RGBA")).convert("RGB"))


def _load_openslide() -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise missing_package("Slides need", "OpenSlide", extra="wsi") from error
    return openslide
