"""Labelling projects of small blank cells whose features are made up: nothing is encoded."""

from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.labelling.project import FEATURES
from cytolora.labelling.session import Labelling, create_project

CLASSES = ("NILM", "LSIL", "HSIL")


def write_cells(folder: Path, *, groups: int, each: int) -> list[str]:
    """Writes PNG files of 8 px and their table; returns their names, which begin with the class."""
    folder.mkdir(parents=True)
    rows = ["path,group"]
    for number in range(groups * each):
        name = f"{CLASSES[number % 3]}_{number:04d}.png"
        Image.new("RGB", (8, 8), (number % 251, number // 251, 90)).save(folder / name)
        rows.append(f"{name},slide {number // each}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return [row.split(",")[0] for row in rows[1:]]


def truth_of(name: str) -> str:
    """Returns the class of a cell by its name."""
    return name.split("_")[0]


def make_project(folder: Path, *, groups: int = 12, each: int = 10, with_features: bool = True, seed: int = 0) -> Path:
    """Makes a project; features of a class lie around a point of their own."""
    write_cells(folder / "cells", groups=groups, each=each)
    project = create_project(folder / "cells", folder / "project", classes=CLASSES, seed=seed)
    if with_features:
        names = sorted(path.name for path in (folder / "cells").glob("*.png"))
        draws = np.random.default_rng(seed)
        centres = draws.normal(size=(3, 16))
        rows = np.array([centres[CLASSES.index(truth_of(name))] + draws.normal(size=16) for name in names])
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        np.save(project / FEATURES, rows)
    return project


def label_next(opened: Labelling, number: int, *, reader: str = "ann", kind: str = "next") -> None:
    """Labels the next cells of a queue as they are."""
    for one in opened.queue(reader, number, kind=kind):
        opened.label(reader, [one["cell"]], truth_of(one["name"]), client_id=f"{opened.last_entry} {one['cell']}")
