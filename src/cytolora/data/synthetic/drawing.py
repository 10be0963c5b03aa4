"""Drawing primitives of synthetic cells: soft outlines, grain, stain and focus.

Only +, -, *, / and the square root touch a pixel. IEEE 754 fixes their results, so that every machine draws the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

UNITS = 64
"""Edge of a tile in drawing units; all lengths are in units, so that a cell looks the same at any ``size_px``."""

_GRAIN_LEVELS = 8
_GRAIN_EDGE = 160
_WAVES = (2, 3, 4, 5)
"""Orders of the harmonics that an outline deviates from its ellipse by."""


def bell(rng: np.random.Generator, *shape: int) -> Floats:
    """Draws from a bell of mean 0 and deviation 1 that ends at 3.5: four dice, equal on every machine."""
    return ((rng.random((4, *shape)).sum(axis=0) - 2) * np.sqrt(3)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Outlines:
    """Closed shapes with a soft edge, one per row; an ellipse times ``1 + harmonics``."""

    image: Ints
    """Which image each shape lies in."""
    x: Floats
    y: Floats
    radius: Floats
    """Of the circle of equal area, units."""
    stretch: Floats
    """Square root of long axis over short axis; 1 is a circle."""
    turn: Floats
    """Unit vectors of the long axes, [shapes, 2]."""
    waves: Floats
    """Cosine and sine amplitudes of the orders 2 to 5, [shapes, 4, 2]."""
    softness: Floats
    """Width of the edge, units."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__.keys() - {"image"}:
            object.__setattr__(self, name, getattr(self, name).astype(np.float32))

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, rows: NDArray[np.bool_] | Ints | slice) -> "Outlines":
        return Outlines(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True, kw_only=True)
class Window:
    """Square cut-outs, one per shape, and how far each pixel is from the shape's centre."""

    image: Ints
    top: Ints
    left: Ints
    rho: Floats
    """0 at the centre, 1 on the outline, [shapes, edge, edge]."""
    cover: Floats
    """1 inside, 0 outside, between them across the soft edge."""

    def views(self, canvas: Floats) -> Iterator[Floats]:
        """Yields the part of ``canvas`` [images, size_px, size_px] under each window, to be written to."""
        edge = self.rho.shape[-1]
        for image, top, left in zip(self.image.tolist(), self.top.tolist(), self.left.tolist(), strict=True):
            yield canvas[image, top : top + edge, left : left + edge]

    def add(self, canvas: Floats, patches: Floats) -> None:
        """Adds one patch per window."""
        for view, patch in zip(self.views(canvas), patches, strict=True):
            view += patch


def windows(shapes: Outlines, reach: float, size_px: int) -> Window:
    """Rasterises shapes in square windows that hold whatever lies within ``reach`` units of their centres."""
    scale = size_px / UNITS
    edge = min(size_px, round(2 * reach * scale))
    steps = np.arange(edge)
    top = np.clip(np.rint(shapes.y * scale - edge / 2).astype(np.int64), 0, size_px - edge)
    left = np.clip(np.rint(shapes.x * scale - edge / 2).astype(np.int64), 0, size_px - edge)
    dy = ((top[:, None] + steps + 0.5) / scale - shapes.y[:, None]).astype(np.float32)[:, :, None]
    dx = ((left[:, None] + steps + 0.5) / scale - shapes.x[:, None]).astype(np.float32)[:, None, :]
    rho = _distance(shapes, dx, dy)
    steep = (shapes.radius / shapes.softness)[:, None, None]
    cover = smoothstep((1 - rho) * steep + np.float32(0.5))
    return Window(image=shapes.image, top=top, left=left, rho=rho, cover=cover)


def _distance(shapes: Outlines, dx: Floats, dy: Floats) -> Floats:
    """Distance from the centre over the outline's radius in that direction; cos k theta by recurrence, no angles."""
    cos, sin = shapes.turn[:, 0, None, None], shapes.turn[:, 1, None, None]
    long = (shapes.radius * shapes.stretch)[:, None, None]
    short = (shapes.radius / shapes.stretch)[:, None, None]
    u = dx * (cos / long) + dy * (sin / long)
    v = dy * (cos / short) - dx * (sin / short)
    rho = np.sqrt(u * u + v * v) + np.float32(1e-4)
    u /= rho
    v /= rho
    outline = np.ones_like(rho)
    real, imaginary = u, v
    for order in range(len(_WAVES)):
        real, imaginary = real * u - imaginary * v, real * v + imaginary * u
        outline += real * shapes.waves[:, order, 0, None, None]
        outline += imaginary * shapes.waves[:, order, 1, None, None]
    return rho / outline


def smoothstep(value: Floats) -> Floats:
    """Rises from 0 at 0 to 1 at 1 with level ends; written over ``value``."""
    np.clip(value, 0, 1, out=value)
    return value * value * (3 - 2 * value)


class Grain:
    """Noise of mean 0 and deviation 1, from fine to coarse; draws from a generator of its own."""

    def __init__(self, rng: np.random.Generator, size_px: int) -> None:
        self._rng = rng
        edge = max(_GRAIN_EDGE, 2 * size_px)
        self._bank = rng.random((_GRAIN_LEVELS, edge, edge), dtype=np.float32) - np.float32(0.5)
        scale = size_px / UNITS
        for level, noise in enumerate(self._bank):
            for _ in range(round((1 + 1.5 * level) * scale * scale)):
                noise[:] = _ring_blur(noise)
            noise -= np.float32(noise.mean(dtype=np.float64))
            noise /= np.float32(np.sqrt((noise * noise).mean(dtype=np.float64)))

    def cut(self, level: Floats, edge: int) -> Floats:
        """Cuts one square [edge, edge] of noise per row; ``level`` in [0, 1] goes from fine to coarse."""
        which = np.minimum((level * len(self._bank)).astype(np.int64), len(self._bank) - 1)
        corners = (self._rng.random((len(level), 2)) * (self._bank.shape[1] - edge)).astype(np.int64)
        places = zip(which.tolist(), *corners.T.tolist(), strict=True)
        return np.stack([self._bank[level, y : y + edge, x : x + edge] for level, y, x in places])


def _ring_blur(image: Floats) -> Floats:
    for axis in (0, 1):
        neighbours = np.roll(image, 1, axis) + np.roll(image, -1, axis)
        image = image * np.float32(0.5) + neighbours * np.float32(0.25)
    return image


def defocus(canvas: Floats, strength: Floats) -> Floats:
    """Blurs each image by its own strength in [0, 1], in place; edges keep their last pixel."""
    weight = (strength / 3)[:, None, None].astype(np.float32)
    for axis in (1, 2):
        change = np.zeros_like(canvas)
        along = np.moveaxis(canvas, axis, 1)
        step = np.diff(along, axis=1)
        flow = np.moveaxis(change, axis, 1)
        flow[:, :-1] += step
        flow[:, 1:] -= step
        change *= weight
        canvas += change
    return canvas


def transmit(density: Floats) -> Floats:
    """Light that passes an optical density: a rational stand-in for ``exp(-density)``, exact to 0.01 below 2.

    Overwrites ``density``, which must not be negative.
    """
    poly = density * np.float32(1 / 24) + np.float32(1 / 6)
    poly *= density
    poly += np.float32(0.5)
    poly *= density
    poly += 1
    poly *= density
    poly += 1
    return np.divide(1, poly, out=density)
