"""The ten datasets of the authors' later benchmark in its own layout, a few pixels an image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.config.yaml import load_grid
from cytolora.data.datasets import find_dataset

COUNTS = {"train": 6, "val": 3, "test": 1}
"""Images of each class: fewer than 8 shots, and than 16 for validation."""


def write_datasets(folder: Path, counts: dict[str, int] = COUNTS) -> dict[str, Path]:
    """Writes ``images/`` and ``splits/`` of every dataset of the grid; returns the folders by name."""
    names = {name: find_dataset(name).classes for name in load_grid("benchmark-2026").datasets}
    return {name: _write(folder / name.partition(":")[0], classes, counts) for name, classes in names.items()}


def _write(root: Path, classes: Sequence[str], counts: dict[str, int]) -> Path:
    lists: dict[str, list[str]] = {subset: [] for subset in counts}
    rng = np.random.default_rng(len(classes))
    for label, name in enumerate(classes):
        folder, colour = name.replace("/", "_"), rng.integers(40, 210, 3)
        (root / "images" / folder).mkdir(parents=True)
        for subset, count in counts.items():
            for number in range(count):
                pixels = np.clip(colour + rng.normal(0, 20, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(root / "images" / folder / f"{subset}{number}.png")
                lists[subset].append(f"{folder}/{subset}{number}.png {label}")
    (root / "splits").mkdir()
    for subset, lines in lists.items():
        (root / "splits" / f"{subset}.txt").write_text("\n".join(lines) + "\n")
    return root
