"""Cells with planted leakage: features in closed form for what is quick, images for what is whole."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cytolora.classifier.leakage.cells import SourcedCells
from cytolora.data.manifest import Sample
from cytolora.data.synthetic.dataset import CLASSES, draw_cells

Metadata = tuple[tuple[str, str], ...]


def drawn_features(
    *,
    seed: int,
    num_cells: int = 240,
    num_groups: int = 12,
    num_classes: int = 3,
    dim: int = 32,
    tint: float = 0.0,
    class_distance: float = 2.0,
    metadata: Sequence[Metadata] = (),
) -> SourcedCells:
    """Gaussian cells: a mean per class, and per group a shift of standard deviation ``tint`` in every direction.

    Args:
        metadata: Of each group; none if empty.
    """
    rng = np.random.default_rng(seed)
    group, label = np.arange(num_cells) % num_groups, rng.integers(0, num_classes, num_cells)
    means = rng.normal(size=(num_classes, dim)) * class_distance / np.sqrt(dim)
    shifts = rng.normal(size=(num_groups, dim)) * tint
    rows = means[label] + shifts[group] + rng.normal(size=(num_cells, dim)) + 3
    samples = tuple(
        Sample(
            path=f"{number:05}.png",
            label=f"class{label[number]}",
            group=f"slide{group[number]:02}",
            metadata=metadata[group[number]] if metadata else (),
        )
        for number in range(num_cells)
    )
    classes = tuple(f"class{number}" for number in range(num_classes))
    return SourcedCells(name="drawn", classes=classes, samples=samples, features=torch.from_numpy(rows).float())


def write_tinted(
    folder: Path,
    *,
    strength: float,
    seed: int = 0,
    num_cells: int = 120,
    num_slides: int = 6,
    size_px: int = 32,
) -> Path:
    """Draws cells of one stain, deals them to slides at random, and tints each slide by ``strength`` in [0, 1].

    At 0 a slide is a name and nothing else.
    """
    cells = draw_cells(num_cells, seed, size_px, num_slides=1)
    rng = np.random.default_rng([seed, 1])
    slides = rng.permutation(np.arange(num_cells) % num_slides)
    gains = 1 + 0.25 * strength * rng.uniform(-1, 1, size=(num_slides, 3))
    rows = ["path,label,group"]
    folder.mkdir(parents=True)
    for number, image in enumerate(cells.images):
        tinted = np.clip(image * gains[slides[number]], 0, 255).astype(np.uint8)
        content = io.BytesIO()
        Image.fromarray(tinted).save(content, "png")
        (folder / f"{number:04}.png").write_bytes(content.getvalue())
        rows.append(f"{number:04}.png,{CLASSES[cells.labels[number]]},slide_{slides[number]:02}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return folder
