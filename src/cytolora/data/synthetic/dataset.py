"""Synthetic Pap-like cells of five made-up classes on made-up slides, for demos, tests and the built-in backbone.

No pixel comes from a real cell. The classes are named after real categories because they are drawn with the
cues that cytologists read there; what is learnt here says nothing about real cells.
"""

import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.delimited import csv_line
from cytolora.core.files import write_bytes, write_json, write_text
from cytolora.core.folders import staged_folder
from cytolora.data.synthetic.drawing import Floats, Grain, Ints, bell
from cytolora.data.synthetic.names import CLASSES, MARKER
from cytolora.data.synthetic.scene import Stains, render
from cytolora.errors import ConfigError


class Attribute(NamedTuple):
    """One cue or nuisance: the range that is drawable, and per class what is typical."""

    low: float
    high: float
    typical: tuple[float, ...]
    """In the order of CLASSES."""
    spread: float


ATTRIBUTES: Mapping[str, Attribute] = MappingProxyType(
    {
        # radius of a cell in units of 1/64 of the tile; of its nucleus as a share of that
        "cell_radius": Attribute(9, 30, (25, 24, 23, 15.5, 10.5), 1.9),
        "nc_ratio": Attribute(0.16, 0.78, (0.22, 0.29, 0.37, 0.62, 0.55), 0.034),
        # optical density of the nucleus (hyperchromasia); depth and grain size of its chromatin; outline
        "nuclear_density": Attribute(0.5, 1.5, (0.9, 0.95, 1.05, 1.2, 0.95), 0.1),
        "chromatin": Attribute(0.05, 0.5, (0.12, 0.2, 0.27, 0.36, 0.22), 0.045),
        "coarseness": Attribute(0, 1, (0.3, 0.4, 0.5, 0.65, 0.35), 0.13),
        "irregularity": Attribute(0, 1, (0.12, 0.45, 0.4, 0.7, 0.25), 0.11),
        # cleared zone around the nucleus
        "halo": Attribute(0, 1, (0.05, 0.8, 0.15, 0.05, 0.03), 0.1),
        "binucleate": Attribute(0, 1, (-0.1, 0.4, 0.15, -0.1, -0.2), 0.26),
        "num_cells": Attribute(1, 8, (0.8, 0.8, 0.9, 1.4, 5.5), 0.5),
        # cytoplasm: proportions, corners, colour (0 blue-green, 1 pink-orange), optical density
        "cell_stretch": Attribute(1, 1.7, (1.2, 1.2, 1.2, 1.2, 1.25), 0.11),
        "angularity": Attribute(0, 1, (0.75, 0.55, 0.5, 0.35, 0.35), 0.15),
        "eosinophilia": Attribute(0, 1, (0.5, 0.4, 0.35, 0.25, 0.25), 0.26),
        "thickness": Attribute(0.25, 1.1, (0.5, 0.55, 0.6, 0.75, 0.7), 0.1),
        # nuisance of the slide and the field
        "blur": Attribute(0, 1, (0.3,) * 5, 0.18),
        "dirt": Attribute(0, 1, (0.4,) * 5, 0.25),
        "inflammation": Attribute(0, 1, (0.25,) * 5, 0.25),
        "crowding": Attribute(0, 1, (0.45,) * 5, 0.25),
    }
)
SLIDE_ATTRIBUTES = ("blur", "dirt", "inflammation", "crowding")
"""Attributes that belong to the slide first and to the cell second."""

Population = Literal["classes", "any"]
POPULATIONS = ("classes", "any")
_BORDERLINE = 0.35
"""A cell stands up to this share of the way from its own class to another one."""
_CHUNK = 64
_GRID = 8


class DrawnCells(NamedTuple):
    """Images with everything that is known about them, one row each."""

    images: NDArray[np.uint8]
    """[num, size_px, size_px, 3]."""
    labels: Ints
    """Index into CLASSES; -1 where cells were drawn without a class."""
    attributes: dict[str, Floats]
    """By the names of ATTRIBUTES."""
    slides: Ints
    dyes: Floats
    """What lies under each square of an 8 x 8 grid, whatever the stain: mean density of blue-green, pink-orange and
    nuclear dye, then their standard deviations, [num, 64, 6]; rows of the grid come first."""


def draw_cells(
    num: int, seed: int, size_px: int = 64, *, num_slides: int = 30, population: Population = "classes"
) -> DrawnCells:
    """Draws cells; equal arguments give equal images on every machine.

    Args:
        population: ``classes`` deals the five classes evenly over every slide. ``any`` knows no class: every
            attribute is drawn by itself over its whole range, on slides of wilder stains.
    """
    if min(num, num_slides) < 1 or size_px < 16 or size_px % _GRID or seed < 0:
        raise ConfigError(
            f"Cells are drawn for num >= 1, num_slides >= 1, size_px >= 16 in steps of 8, seed >= 0; "
            f"got {num}, {num_slides}, {size_px} and {seed}."
        )
    key = [seed, num_slides, POPULATIONS.index(population)]
    rng, grain_rng = (np.random.Generator(np.random.PCG64([*key, stream])) for stream in (0, 1))
    grain = Grain(grain_rng, size_px)
    slides = np.arange(num) % num_slides
    stains = slide_stains(rng, num_slides, wildness=1.0 if population == "classes" else 2.0)[slides]
    if population == "classes":
        labels = np.arange(num) // num_slides % len(CLASSES)
        attributes = _class_attributes(rng, labels, slides, num_slides)
    else:
        labels = np.full(num, -1)
        attributes = _any_attributes(rng, num)
    images = np.empty((num, size_px, size_px, 3), np.uint8)
    dyes = np.empty((num, _GRID * _GRID, 6), np.float32)
    for start in range(0, num, _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = {name: values[rows] for name, values in attributes.items()}
        images[rows], layers = render(rng, grain, chunk, stains[rows], size_px)
        dyes[rows] = _summary(layers)
    return DrawnCells(images, labels, attributes, slides, dyes)


def _summary(layers: Floats) -> Floats:
    """Mean and deviation of each dye in every square of the grid, [images, squares, 6]."""
    num, edge = layers.shape[1], layers.shape[2] // _GRID
    squares = layers.reshape(3, num, _GRID, edge, _GRID, edge)
    mean, square = squares.mean((3, 5)), (squares * squares).mean((3, 5))
    both = np.concatenate([mean, np.sqrt(np.maximum(square - mean * mean, 0))])
    return both.reshape(6, num, _GRID * _GRID).transpose(1, 2, 0)


def slide_stains(rng: np.random.Generator, num: int, wildness: float = 1.0) -> Stains:
    """Draws the stains of slides; ``wildness`` scales how far they differ."""

    def vary(density: tuple[float, float, float], share: float, overall: float) -> Floats:
        strength = 1 + np.clip(overall * wildness * bell(rng, num, 1), -0.6, 1.5)
        return np.array(density, np.float32) * strength * np.clip(1 + share * wildness * bell(rng, num, 3), 0.15, 3)

    orange = rng.random((num, 1), np.float32)
    pink = vary((0.1, 0.85, 0.5), 0.1, 0.12) * (1 - orange) + vary((0.07, 0.55, 0.95), 0.1, 0.12) * orange
    return Stains(
        nuclear=vary((1.0, 1.1, 0.55), 0.09, 0.14),
        cyan=vary((0.85, 0.42, 0.38), 0.12, 0.15),
        pink=pink,
        ground=vary((0.14, 0.13, 0.15), 0.25, 0.3),
    )


def _class_attributes(rng: np.random.Generator, labels: Ints, slides: Ints, num_slides: int) -> dict[str, Floats]:
    others = (labels + rng.integers(1, len(CLASSES), len(labels))) % len(CLASSES)
    astray = (_BORDERLINE * rng.random(len(labels))) ** 1.5
    attributes: dict[str, Floats] = {}
    for name, (low, high, typical, spread) in ATTRIBUTES.items():
        centre = np.array(typical)
        values = centre[labels] * (1 - astray) + centre[others] * astray + spread * bell(rng, len(labels))
        if name in SLIDE_ATTRIBUTES:
            values += spread * bell(rng, num_slides)[slides]
        attributes[name] = np.clip(values, low, high).astype(np.float32)
    return attributes


def _any_attributes(rng: np.random.Generator, num: int) -> dict[str, Floats]:
    attributes = {
        name: (low + (high - low) * rng.random(num)).astype(np.float32)
        for name, (low, high, _typical, _spread) in ATTRIBUTES.items()
    }
    cells = attributes["num_cells"]
    single = rng.random(num) < 0.6
    cells[single] = 1
    room = np.float32(30) / np.sqrt(np.sqrt(cells))
    attributes["cell_radius"] = np.where(single, attributes["cell_radius"], np.minimum(attributes["cell_radius"], room))
    return attributes


def write_synthetic(folder: AnyPath, *, num_images: int = 1500, num_slides: int = 30, seed: int = 0) -> None:
    """Draws a dataset of PNG files, ``slide_03/0012_hsil.png``, and ``manifest.csv``; the folder appears whole."""
    cells = draw_cells(num_images, seed, num_slides=num_slides)
    rows = [csv_line(["path", "label", "group"])]
    with staged_folder(as_path(folder)) as staged:
        for number, (image, label, slide) in enumerate(zip(cells.images, cells.labels, cells.slides, strict=True)):
            group = f"slide_{slide:02d}"
            path = f"{group}/{number:04d}_{CLASSES[label]}.png"
            content = io.BytesIO()
            Image.fromarray(image).save(content, "png")
            write_bytes(staged / path, content.getvalue())
            rows.append(csv_line([path, CLASSES[label], group]))
        write_text(staged / "manifest.csv", "".join(rows))
        write_json(staged / MARKER, {"drawn": True, "num_images": num_images, "num_slides": num_slides, "seed": seed})
