"""Scene composition of synthetic cells: attributes of cells and slides to images, layer by layer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolora.data.synthetic.drawing import (
    UNITS,
    Floats,
    Grain,
    Ints,
    Outlines,
    Window,
    bell,
    defocus,
    smoothstep,
    transmit,
    windows,
)

_REACHES = (5.0, 11.0, 20.0, UNITS / 2)
"""Windows that shapes are rasterised in, units; the last one is the whole tile."""
_PIXELS_AT_ONCE = 65536
_GOLDEN_ANGLE = complex(-0.7373688780783197, 0.6754902942615238)
"""As a unit vector; packs the cells of a cluster."""
_WAVE_SHARES = np.array([0.5, 0.4, 0.28, 0.2], np.float32)
"""Amplitudes of an outline's harmonics, from order 2 to 5."""

Cells = Mapping[str, Floats]
"""One row per image and attribute; synthetic.ATTRIBUTES says what they are."""


@dataclass(frozen=True, kw_only=True)
class Stains:
    """How slides look: optical densities of light red, green and blue, [rows, 3] each."""

    nuclear: Floats
    """Haematoxylin."""
    cyan: Floats
    """Light green, on cytoplasm."""
    pink: Floats
    """Eosin and orange G, on cytoplasm."""
    ground: Floats
    """The empty slide."""

    def __getitem__(self, rows: Ints | slice) -> "Stains":
        return Stains(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


def render(
    rng: np.random.Generator, grain: Grain, cells: Cells, stains: Stains, size_px: int
) -> tuple[NDArray[np.uint8], Floats]:
    """Draws one image per row of ``cells``, [images, size_px, size_px, 3].

    Returns:
        The images, and the densities of the three dyes that made them, [3, images, size_px, size_px].
    """
    layers = np.zeros((3, len(cells["cell_radius"]), size_px, size_px), np.float32)
    bodies = _bodies(rng, cells)
    nuclei = _nuclei(rng, cells, bodies)
    strangers = _strangers(rng, cells)
    for shapes, own in ((strangers, False), (bodies, True)):
        image = shapes.image
        colour = cells["eosinophilia"][image] if own else rng.random(len(shapes), np.float32)
        colour = smoothstep(colour * np.float32(1.6) - np.float32(0.3))  # few cells take both colours
        _cytoplasm(rng, grain, layers, shapes, colour, cells["thickness"][image] * (1 if own else 0.8))
    _halos(rng, cells, layers, nuclei)
    _nuclear_stain(rng, grain, layers[2], nuclei, cells)
    _debris(rng, cells, layers[2])
    for canvas in layers:
        defocus(canvas, np.minimum(1, 2 * cells["blur"]))
        defocus(canvas, np.maximum(0, 2 * cells["blur"] - 1))
    return _expose(rng, grain, stains, layers), layers


def _turns(rng: np.random.Generator, num: int) -> Floats:
    vectors = bell(rng, num, 2) + np.float32(1e-3)
    return vectors / np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))


def _waves(rng: np.random.Generator, amplitude: Floats) -> Floats:
    return bell(rng, len(amplitude), 4, 2) * _WAVE_SHARES[:, None] * amplitude[:, None, None]


def _repeated(count: Ints) -> tuple[Ints, Ints]:
    """Row numbers, each as often as it counts, and the number of each copy from 0."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def _bodies(rng: np.random.Generator, cells: Cells) -> Outlines:
    """Cytoplasm of the cells that an image shows: one in the middle, or a packed cluster."""
    image, rank = _repeated(np.maximum(1, np.rint(cells["num_cells"])).astype(np.int64))
    num = len(image)
    radius = cells["cell_radius"][image] * (1 + 0.1 * bell(rng, num))
    middle = (UNITS / 2 + 2.5 * bell(rng, len(cells["cell_radius"]), 2))[image]
    turned = _turns(rng, len(cells["cell_radius"]))[image]
    spiral = (turned[:, 0] + 1j * turned[:, 1]) * np.cumprod(np.full(rank.max() + 1, _GOLDEN_ANGLE))[rank]
    apart = 0.9 * np.sqrt(rank) * cells["cell_radius"][image]
    jitter = 0.12 * radius * bell(rng, 2, num) * (rank > 0)
    return Outlines(
        image=image, radius=radius, turn=_turns(rng, num),
        x=middle[:, 0] + spiral.real * apart + jitter[0],
        y=middle[:, 1] + spiral.imag * apart + jitter[1],
        stretch=np.sqrt(cells["cell_stretch"][image]), waves=_waves(rng, 0.2 * cells["angularity"][image]),
        softness=1.2 + 2.5 * cells["blur"][image],
    )  # fmt: skip


def _nuclei(rng: np.random.Generator, cells: Cells, bodies: Outlines) -> Outlines:
    """One nucleus per body, two side by side where the cells are binucleate."""
    body, side = _repeated(1 + (cells["binucleate"][bodies.image] > 0.5))
    image, num = bodies.image[body], len(body)
    paired = (cells["binucleate"][image] > 0.5).astype(np.float32)
    radius = bodies.radius[body] * cells["nc_ratio"][image] * (1 - 0.15 * paired) * (1 + 0.06 * bell(rng, num))
    shift = (paired * (2 * side - 1) * radius)[:, None] * bodies.turn[body]
    shift += ((bodies.radius[body] - radius) * 0.13)[:, None] * bell(rng, len(bodies), 2)[body]
    wild = cells["irregularity"][image]
    return Outlines(
        image=image, x=bodies.x[body] + shift[:, 0], y=bodies.y[body] + shift[:, 1], radius=radius,
        turn=_turns(rng, num), stretch=np.sqrt(1.05 + (0.2 + 0.3 * wild) * rng.random(num, np.float32)),
        waves=_waves(rng, 0.13 * wild), softness=0.8 + 2.2 * cells["blur"][image],
    )  # fmt: skip


def _strangers(rng: np.random.Generator, cells: Cells) -> Outlines:
    """Cytoplasm of other cells that reaches into the tile from outside."""
    image, _ = _repeated((cells["crowding"] * 2.5 * rng.random(len(cells["crowding"]))).astype(np.int64))
    num = len(image)
    place = UNITS / 2 + _turns(rng, num) * (32 + 14 * rng.random((num, 1), np.float32))
    wave = np.full(num, 0.1, np.float32)
    return Outlines(
        image=image, x=place[:, 0], y=place[:, 1], radius=12 + 14 * rng.random(num, np.float32), turn=_turns(rng, num),
        stretch=1 + 0.25 * rng.random(num, np.float32), waves=_waves(rng, wave),
        softness=1.5 + 2.5 * cells["blur"][image],
    )  # fmt: skip


def _rasters(shapes: Outlines, size_px: int) -> Iterator[tuple[Ints, Window]]:
    """Yields rows of ``shapes`` with their windows: small shapes in small windows, a few at a time to stay in cache."""
    extent = shapes.radius * shapes.stretch * (1 + np.abs(shapes.waves).sum(axis=(1, 2)) / 2) * 1.1 + shapes.softness
    bins = np.searchsorted(np.array(_REACHES[:-1]), extent)
    for number, reach in enumerate(_REACHES):
        chosen = np.flatnonzero(bins == number)
        few = max(1, round(_PIXELS_AT_ONCE / (2 * reach * size_px / UNITS) ** 2))
        for start in range(0, len(chosen), few):
            rows = chosen[start : start + few]
            yield rows, windows(shapes[rows], reach, size_px)


def _rim(window: Window, inner: float) -> Floats:
    """1 on the inside of the outline, falling to 0 at ``inner`` of the way from the centre."""
    return smoothstep((window.rho - np.float32(inner)) / np.float32(1 - inner)) * window.cover


def _column(values: Floats) -> Floats:
    return values.astype(np.float32)[:, None, None]


def _cytoplasm(
    rng: np.random.Generator, grain: Grain, layers: Floats, shapes: Outlines, colour: Floats, density: Floats
) -> None:
    density = density * (1 + 0.12 * bell(rng, len(shapes)))
    folds = 0.2 + 0.3 * rng.random(len(shapes), np.float32)
    for rows, window in _rasters(shapes, layers.shape[-1]):
        texture = grain.cut(0.2 + 0.7 * rng.random(len(rows), np.float32), window.rho.shape[-1])
        stain = window.cover * (1 + texture * np.float32(0.14)) + _rim(window, 0.75) * _column(folds[rows])
        stain *= _column(density[rows])
        pink = stain * _column(colour[rows])
        window.add(layers[0], stain - pink)
        window.add(layers[1], pink)


def _halos(rng: np.random.Generator, cells: Cells, layers: Floats, nuclei: Outlines) -> None:
    """Cleared cytoplasm around nuclei, with a dense border."""
    chosen = nuclei[np.flatnonzero(cells["halo"][nuclei.image] > 0.08)]
    num = len(chosen)
    room = cells["cell_radius"][chosen.image] * (0.62 + 0.2 * rng.random(num, np.float32))
    halos = Outlines(
        image=chosen.image, x=chosen.x, y=chosen.y, turn=chosen.turn, stretch=chosen.stretch,
        radius=np.maximum(np.minimum(room, chosen.radius * 2.1 + 2), chosen.radius + 1),
        waves=_waves(rng, np.full(num, 0.16, np.float32)), softness=chosen.softness + 1,
    )  # fmt: skip
    for rows, window in _rasters(halos, layers.shape[-1]):
        strength = _column(cells["halo"][halos.image[rows]])
        border = smoothstep(1 - np.abs(window.rho - np.float32(1.12)) * 5) * strength * np.float32(0.5)
        keep = 1 - window.cover * strength * np.float32(0.85) + border
        for canvas in layers[:2]:
            for view, factor in zip(window.views(canvas), keep, strict=True):
                view *= factor


def _nuclear_stain(rng: np.random.Generator, grain: Grain, canvas: Floats, nuclei: Outlines, cells: Cells) -> None:
    density = cells["nuclear_density"][nuclei.image] * (1 + 0.08 * bell(rng, len(nuclei)))
    for rows, window in _rasters(nuclei, canvas.shape[-1]):
        image = nuclei.image[rows]
        texture = grain.cut(cells["coarseness"][image], window.rho.shape[-1]) * _column(cells["chromatin"][image])
        stain = window.cover * np.maximum(1 + texture, np.float32(0.15)) + _rim(window, 0.7) * np.float32(0.25)
        stain *= _column(density[rows])
        for view, patch in zip(window.views(canvas), stain, strict=True):
            # overlapping nuclei darken each other, but not to the sum
            np.add(np.maximum(view, patch), np.minimum(view, patch) * np.float32(0.4), out=view)


def _debris(rng: np.random.Generator, cells: Cells, canvas: Floats) -> None:
    """Specks, and neutrophils as three small lobes side by side."""
    num = len(canvas)
    specks, _ = _repeated((cells["dirt"] * 8 * rng.random(num)).astype(np.int64))
    whites, _ = _repeated((cells["inflammation"] * 3 * rng.random(num)).astype(np.int64))
    white = np.repeat(np.arange(len(whites)), 3)
    image = np.concatenate([specks, whites[white]])
    speck, count = len(specks), len(image)
    place = UNITS * rng.random((speck + len(whites), 2), np.float32)
    place = np.concatenate([place[:speck], place[speck:][white] + 1.9 * bell(rng, len(white), 2)])
    radius = np.where(np.arange(count) < speck, 0.6 + rng.random(count), 1.9 + 0.4 * rng.random(count))
    order = np.argsort(image, kind="stable")
    shapes = Outlines(
        image=image, x=place[:, 0], y=place[:, 1], radius=radius, turn=_turns(rng, count),
        stretch=1 + 0.3 * rng.random(count, np.float32), waves=_waves(rng, np.full(count, 0.1, np.float32)),
        softness=0.9 + 2 * cells["blur"][image],
    )[order]  # fmt: skip
    density = 0.4 + 0.7 * rng.random(count, np.float32)
    for rows, window in _rasters(shapes, canvas.shape[-1]):
        window.add(canvas, window.cover * _column(density[rows]))


def _expose(rng: np.random.Generator, grain: Grain, stains: Stains, layers: Floats) -> NDArray[np.uint8]:
    """Sends light through the layers: red, green and blue, with an uneven lamp and a noisy sensor."""
    cyan, pink, nuclear = layers
    num, size_px = cyan.shape[:2]
    images = np.empty((num, size_px, size_px, 3), np.uint8)
    steps = (np.arange(size_px, dtype=np.float32) + np.float32(0.5)) / np.float32(size_px) - np.float32(0.5)
    slope = np.float32(0.06) * bell(rng, 2, num)
    uneven = slope[0, :, None, None] * steps[:, None] + slope[1, :, None, None] * steps
    uneven += grain.cut(np.full(num, 0.99, np.float32), size_px) * np.float32(0.015)
    for channel in range(3):
        density = nuclear * _column(stains.nuclear[:, channel])
        density += cyan * _column(stains.cyan[:, channel])
        density += pink * _column(stains.pink[:, channel])
        density += uneven
        density += _column(stains.ground[:, channel])
        light = transmit(np.maximum(density, 0, out=density)) * 255
        light += grain.cut(np.zeros(num, np.float32), size_px) * np.float32(1.3) + np.float32(0.5)
        images[..., channel] = np.clip(light, 0, 255, out=light)
    return images
