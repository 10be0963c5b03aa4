"""Crops cells out of a whole slide, one at a time, in micrometres; the only module that opens a slide."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from PIL import Image

from cytolora.classifier.slides.objects import Position
from cytolora.classifier.slides.planes import Layout, PlaneReader, is_tiff, ome_mpp, sharpness
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.findings import Finding, finding, first
from cytolora.core.text import counted
from cytolora.data.imaging.decode import Pixels
from cytolora.errors import ConfigError, DataError, missing_package

_VENDOR_ONLY = {".kfb": "KFBio", ".sdpc": "Sqray", ".isyntax": "Philips", ".isx": "Philips"}
"""Formats that OpenSlide does not read (https://openslide.org/formats/)."""
_MPP_RANGE = (0.02, 20.0)
"""Micrometres per pixel of light microscopes, with room to spare; TIFF files made for print say 300."""
_MAX_CROP_PX = 4096
"""Edge of a crop on level 0; a cell is 100 to 300 pixels wide."""
SURROUNDINGS = 3
"""Edge of a cell's surroundings over that of its crop."""
_MAX_SURROUNDINGS_PX = 3072
"""Edge of surroundings on level 0: of a crop beyond a third of it none are read."""
_MAX_MPP_RATIO = 1.05
"""Between two micrometres per pixel that a file gives, above which they contradict each other."""

Plane = int | Literal["middle", "sharpest"]
"""Focal plane: its number from 0, as QuPath counts; the middle one; or the sharpest at every cell."""


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
    surroundings: Pixels | None = None
    """``SURROUNDINGS`` times as wide and as high, around the same centre; None where they were not asked for, or are
    too large."""


class Slide:
    """A whole slide, opened by OpenSlide; only its scanned area is ever read, never its label or macro picture."""

    def __init__(self, path: AnyPath, *, mpp: float | None = None, plane: Plane | None = None) -> None:
        """Opens a slide.

        Args:
            mpp: Micrometres per pixel of level 0, where the file does not say, or says wrongly.
            plane: Focal plane of cells whose position names none; without it the first.

        Raises:
            DataError: If OpenSlide cannot read it, or nothing says how large a pixel is.
            ConfigError: If OpenSlide is not installed, or ``mpp`` is none.
        """
        if mpp is not None and not _MPP_RANGE[0] <= mpp <= _MPP_RANGE[1]:
            raise ConfigError(f"--mpp is micrometres per pixel, {_MPP_RANGE[0]} to {_MPP_RANGE[1]:g}, got {mpp:g}.")
        self.path = as_path(path)
        self._openslide = _load_openslide()
        self._file = self._open()
        self.size: tuple[int, int] = self._file.dimensions
        """Width and height of level 0, pixels."""
        self.mpp = self._mpp(mpp)
        """Micrometres per pixel of level 0, across and down."""
        self._planes = _open_planes(self.path)
        self.layout = self._layout()
        """Focal planes, channels and scenes of the file."""
        self._unreadable = self._try_planes()
        self._plane: Plane | None = plane
        self._check_plane(plane)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if self._planes is not None:
            self._planes.close()

    def findings(self, positions: Sequence[Position]) -> list[Finding]:
        """Returns what is not read of the slide, or read otherwise than the positions say."""
        num_planes, found = self.layout.num_planes, []
        if num_planes > 1 and self._plane is None and any(self._own_plane(one) is None for one in positions):
            found.append(finding("S703", f"{num_planes} planes, the first is read.", count=num_planes))
        if self.layout.others():
            found.append(finding("S703", f"{self.layout.others()}, the first is read.", count=1))
        named = [one.id for one in positions if one.z and self._own_plane(one) is None]
        if named:
            why = self._unreadable or f"the slide has {num_planes}, from 0"
            cells = counted(len(named), "cell names", "cells name")
            text = f"{cells} a focal plane that is not read ({why}); {first(named)}."
            found.append(finding("S706", text, count=len(named), examples=named))
        return found

    def cells(
        self, positions: Iterable[Position], *, crop_um: float, with_surroundings: bool = False
    ) -> Iterator[SlideCell]:
        """Yields one crop for every position, in their order, each read when it is asked for.

        A crop lies on white where it reaches over the edge; a position outside the slide, or a part of the file that is
        damaged, is a cell with an error.

        Args:
            crop_um: Edge of the square crop, micrometres.
            with_surroundings: Reads those of each cell too.

        Raises:
            ConfigError: If that is not between 1 and 4096 pixels.
        """
        sizes = [crop_um / mpp for mpp in self.mpp]
        if not all(1 <= size <= _MAX_CROP_PX for size in sizes):
            raise ConfigError(
                f"A crop of {crop_um:g} µm is {sizes[0]:.0f} pixels of this slide ({self.mpp[0]:g} µm each); expected "
                f"1 to {_MAX_CROP_PX}. Check --crop-um and --mpp."
            )
        edges = (round(sizes[0]), round(sizes[1]))
        for position in positions:
            x, y = self._shown_at(position)
            own: Plane | None = self._own_plane(position)
            plane: Plane = own if own is not None else self._plane or 0
            centre = self._centre(position)
            pixels, error = self._crop(centre, edges, plane)
            feature = position.feature or {"geometry": _square(x, y, edges)}
            yield SlideCell(
                id=position.id,
                x=x,
                y=y,
                feature=feature,
                pixels=pixels,
                error=error,
                surroundings=None if error or not with_surroundings else self._surroundings(centre, edges, plane),
            )

    def check_positions(self, positions: Sequence[Position]) -> None:
        """Refuses positions of which not one lies on the slide: they are another's, or in another unit.

        Raises:
            DataError: If several are given and all lie outside.
        """
        centres = [self._centre(one) for one in positions]
        if len(centres) > 1 and not any(map(self._is_inside, centres)):
            raise DataError(
                f"All {len(centres):,} cells lie outside {self.path} ({self.size[0]} x {self.size[1]} pixels), the "
                f"first at ({centres[0][0]:.0f}, {centres[0][1]:.0f}). Name the slide that they belong to, or call "
                "columns in micrometres x_um,y_um."
            )

    def _shown_at(self, position: Position) -> tuple[float, float]:
        """Returns where a position lies in pixels, from the origin that it is counted from."""
        if position.unit == "um":
            return position.x / self.mpp[0], position.y / self.mpp[1]
        return position.x, position.y

    def _centre(self, position: Position) -> tuple[float, float]:
        """Returns where a position lies in pixels of level 0."""
        x, y = self._shown_at(position)
        left, top = self._bounds() if position.origin == "bounds" else (0, 0)
        return x + left, y + top

    def _is_inside(self, centre: tuple[float, float]) -> bool:
        return 0 <= centre[0] < self.size[0] and 0 <= centre[1] < self.size[1]

    def _crop(self, centre: tuple[float, float], edges: tuple[int, int], plane: Plane) -> tuple[Pixels | None, str]:
        if not self._is_inside(centre):
            at = f"({centre[0]:.0f}, {centre[1]:.0f})"
            return None, f"{at} lies outside the slide of {self.size[0]} x {self.size[1]} pixels"
        corner = (round(centre[0] - edges[0] / 2), round(centre[1] - edges[1] / 2))
        try:
            if plane == "sharpest":
                return max((self._region(z, corner, edges) for z in range(self.layout.num_planes)), key=sharpness), ""
            return self._region(self.layout.num_planes // 2 if plane == "middle" else plane, corner, edges), ""
        except self._openslide.OpenSlideError as error:
            self._file.close()
            self._file = self._open()  # after an error OpenSlide answers nothing more
            return None, f"the slide is damaged there: {error}"
        except DataError as error:
            return None, f"the slide is damaged there: {error}"

    def _surroundings(self, centre: tuple[float, float], edges: tuple[int, int], plane: Plane) -> Pixels | None:
        wide = (SURROUNDINGS * edges[0], SURROUNDINGS * edges[1])
        return None if max(wide) > _MAX_SURROUNDINGS_PX else self._crop(centre, wide, plane)[0]

    def _region(self, plane: int, corner: tuple[int, int], edges: tuple[int, int]) -> Pixels:
        if plane == 0 or self._planes is None:
            return _on_white(self._file.read_region(corner, 0, edges))
        return self._planes.region(plane, corner, edges)

    def _own_plane(self, position: Position) -> int | None:
        """Returns the plane that a position names, where it can be read."""
        z = position.z
        return z if z is not None and (z == 0 or (z < self.layout.num_planes and not self._unreadable)) else None

    def _layout(self) -> Layout:
        if self._planes is not None:
            return self._planes.layout
        said = self._file.properties.get("zeiss.Information.Image.SizeZ", "1")
        return Layout(axes={"Z": int(said)} if said.isdecimal() and int(said) > 1 else {})

    def _try_planes(self) -> str:
        """Says why planes but the first cannot be read; empty where they can, or there are none."""
        if self.layout.num_planes == 1:
            return ""
        if self._planes is None:
            return f"planes of {self.path.suffix} are not read"
        try:
            self._planes.region(1, (0, 0), (1, 1))
        except DataError as error:
            return str(error).rstrip(".")
        return ""

    def _check_plane(self, plane: Plane | None) -> None:
        num_planes = self.layout.num_planes
        if isinstance(plane, int) and not 0 <= plane < num_planes:
            raise ConfigError(f"--plane {plane}: {self.path} has {num_planes}, numbered from 0 to {num_planes - 1}.")
        if self._unreadable and plane not in (None, 0):
            raise DataError(f"--plane {plane}: {self._unreadable}. Without --plane the first is read.")

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
        properties = self._file.properties
        said = [properties.get(f"openslide.mpp-{axis}") for axis in "xy"]
        try:
            across, down = (float(text or "nan") for text in said)
        except ValueError:
            across = down = float("nan")
        of_ome = ome_mpp(properties.get("tiff.ImageDescription", ""), self.size)
        in_words = " and ".join(
            f"{mpp[0]:g} ({where})" for mpp, where in (((across, down), "TIFF"), (of_ome, "OME-XML")) if mpp
        )
        found = [mpp for mpp in ((across, down), of_ome) if mpp and all(map(_is_mpp, mpp))]
        if len(found) == 2 and max(found)[0] > min(found)[0] * _MAX_MPP_RATIO:
            raise DataError(f"{self.path} says {in_words} µm per pixel. Give the right one: --mpp 0.25, say.")
        if found:
            return found[0]
        what = f"says {said[0]} µm per pixel" if said[0] is not None else "does not say how large its pixels are"
        raise DataError(f"{self.path} {what}. Give micrometres per pixel: --mpp 0.25 at 40x, 0.5 at 20x, usually.")

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


def _is_mpp(value: float) -> bool:
    return _MPP_RANGE[0] <= value <= _MPP_RANGE[1]


def _open_planes(path: Path) -> PlaneReader | None:
    """Opens the planes of a TIFF; None for other files, and for those that OpenSlide alone understands."""
    if not is_tiff(path):
        return None
    try:
        return PlaneReader(path)
    except DataError:
        return None


def _load_openslide() -> Any:
    try:
        import openslide
    except (ImportError, OSError) as error:
        raise missing_package("Slides need", "OpenSlide", extra="wsi") from error
    return openslide
