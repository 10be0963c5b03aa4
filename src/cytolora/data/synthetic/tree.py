"""Drawn cells of classes in a tree: every node moves the cues of its cells, the coarsest level the farthest.

Cells of one branch are alike, as in the trees of real datasets, so that what a hierarchical head makes of it can be
measured without a real cell. Written in the layout of HiCervix, whose tree and names they bear.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.delimited import csv_line
from cytolora.core.files import sha256_text, write_bytes, write_text
from cytolora.core.folders import staged_folder
from cytolora.data.readers.hicervix_tree import NODES
from cytolora.data.synthetic.dataset import ATTRIBUTES, SLIDE_ATTRIBUTES, slide_stains
from cytolora.data.synthetic.drawing import Floats, Grain, bell
from cytolora.data.synthetic.scene import render

_SIZE_PX = 64
_MOVES = (0.26, 0.13, 0.09)
"""By level, how far a node moves a cue at most, as a share of its range."""
_SPREAD = 0.07
"""Standard deviation of a cue among the cells of a class, as a share of its range."""
_SLIDES = 40
_CHUNK = 64
_COLUMNS = ("image_name", "class_name", "level_1", "level_2", "level_3")


def write_tree(folder: AnyPath, names: Mapping[str, Sequence[tuple[str, str]]], *, seed: int = 0) -> None:
    """Draws a dataset in the layout of HiCervix; the folder appears whole.

    Args:
        names: By subset, the file name and class name of each image; ``listed`` reads those of the real tables.
    """
    with staged_folder(as_path(folder)) as staged:
        for index, (subset, rows) in enumerate(names.items()):
            table = [csv_line(_COLUMNS)]
            cells = _cells([label for _, label in rows], seed=1_000 * seed + index)
            for (name, label), image in zip(rows, cells, strict=True):
                levels = (*NODES[label].levels, "", "")[:3]
                table.append(csv_line([name, label, *levels]))
                content = io.BytesIO()
                Image.fromarray(image).save(content, "png")
                write_bytes(staged / subset / name, content.getvalue())
            write_text(staged / f"{subset}.csv", "".join(table))


def listed(labels: Path, number: int) -> dict[str, list[tuple[str, str]]]:
    """Takes images of the real label files, evenly spread over each table, as file name and class name.

    Args:
        labels: Folder of train.csv, val.csv and test.csv.
        number: Images of all three together.
    """
    tables = {}
    for subset in ("train", "val", "test"):
        with (labels / f"{subset}.csv").open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        tables[subset] = [(Path(row["image_name"]).with_suffix(".png").name, row["class_name"]) for row in rows]
    total = sum(map(len, tables.values()))
    return {subset: rows[:: max(1, round(total / number))] for subset, rows in tables.items()}


def per_class(numbers: Mapping[str, int]) -> dict[str, list[tuple[str, str]]]:
    """Names equally many images of each of the 26 classes, by subset."""
    return {
        subset: [(f"{subset}_{label}_{number:03}.png", label) for label in NODES for number in range(each)]
        for subset, each in numbers.items()
    }


def _cells(labels: Sequence[str], *, seed: int) -> Iterator[np.ndarray]:
    rng, grain_rng = (np.random.Generator(np.random.PCG64([seed, stream])) for stream in (0, 1))
    grain, slides = Grain(grain_rng, _SIZE_PX), rng.integers(0, _SLIDES, len(labels))
    stains = slide_stains(rng, _SLIDES)[slides]
    attributes = _attributes(rng, labels)
    for start in range(0, len(labels), _CHUNK):
        rows = slice(start, start + _CHUNK)
        chunk = {name: values[rows] for name, values in attributes.items()}
        yield from render(rng, grain, chunk, stains[rows], _SIZE_PX)[0]


def _attributes(rng: np.random.Generator, labels: Sequence[str]) -> dict[str, Floats]:
    attributes = {}
    for name, (low, high, typical, spread) in ATTRIBUTES.items():
        if name in SLIDE_ATTRIBUTES:
            values = np.array(typical)[0] + spread * bell(rng, len(labels))
        else:
            centre = {label: _centre(NODES[label].levels, name) for label in set(labels)}
            share = np.array([centre[label] for label in labels]) + _SPREAD * bell(rng, len(labels))
            values = low + (high - low) * share
        attributes[name] = np.clip(values, low, high).astype(np.float32)
    return attributes


def _centre(levels: Sequence[str], attribute: str) -> float:
    """Returns what is typical of a class: the middle of the range, moved by every node above it, and by itself."""
    moved = (
        far * _direction("/".join((*levels[: depth + 1], attribute))) for depth, far in enumerate(_MOVES[: len(levels)])
    )
    return 0.5 + sum(moved)


def _direction(name: str) -> float:
    """Returns a number in [-1, 1) that depends on a name alone."""
    return int(sha256_text(name)[:8], 16) / 2**31 - 1
