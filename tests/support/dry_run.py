"""The four datasets in their official layouts and six checkpoints in their official formats, all very small."""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image

from cytolora.data.readers.hicervix_tree import NODES
from cytolora.models.backbones.registry import BACKBONES

IMAGE_PX = 32
DATASETS = ("bcfc", "mlcc", "sipakmed", "hicervix")
MODELS = ("clip-vit-b16", "vit-b16", "biomedclip", "quiltnet-b16", "uni", "clip-vit-l14")
NUM_GROUPS = 10
"""Of each class: three subsets of 6, 2 and 2."""
NUM_HICERVIX = {"train": 20, "val": 4, "test": 2}
"""Of each class name; 5 % of 20 is one image."""

_MLCC = {
    "HSIL": "High squamous intra-epithelial lesion",
    "LSIL": "Low squamous intra-epithelial lesion",
    "NL": "Negative for Intraepithelial malignancy",
    "SCC": "Squamous cell carcinoma",
}
_SIPAKMED = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")


@dataclass(frozen=True, kw_only=True)
class DryRun:
    data: dict[str, Path]
    weights: dict[str, Path]

    def options(self, *datasets: str) -> list[str]:
        """The options of the command line that name data and weights."""
        pairs = [f"{name}={self.data[name.partition(':')[0]]}" for name in datasets]
        return ["--data", *pairs, "--weights", *(f"{name}={path}" for name, path in self.weights.items())]


@contextmanager
def dry_run(folder: Path) -> Iterator[DryRun]:
    """Makes data and checkpoints; inside, the registry's six entries have the small encoders' sizes."""
    data = {name: _MAKERS[name](folder / "data" / name) for name in DATASETS}
    before = [BACKBONES.get(name) for name in MODELS]
    made = {name: _checkpoint(name, folder / "weights" / name) for name in MODELS}
    for spec, _ in made.values():
        BACKBONES.put(spec)
    try:
        yield DryRun(data=data, weights={name: path for name, (_, path) in made.items()})
    finally:
        for spec in before:
            BACKBONES.put(spec)


def _paint(path: Path, number: int, hue: int) -> None:
    """Saves noise of a colour that its class has: there is something to learn, and no two images are equal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    colour = np.random.default_rng(1000 + hue).integers(60, 200, 3)
    pixels = np.clip(colour + rng.normal(0, 25, (IMAGE_PX, IMAGE_PX, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def _paint_all(root: Path, names: Iterable[tuple[str, int]]) -> Path:
    for number, (name, hue) in enumerate(names):
        _paint(root / name, number, hue)
    return root


def _bcfc(root: Path) -> Path:
    names = ((f"cytology/{label}/{n}.png", hue) for hue, label in enumerate(("benign", "malignant")) for n in range(30))
    return _paint_all(root, names)


def _mlcc(root: Path) -> Path:
    return _paint_all(
        root,
        (
            (f"{name}/{label}_{group} ({n}).jpg", hue)
            for hue, (label, name) in enumerate(_MLCC.items())
            for group in range(1, NUM_GROUPS + 1)
            for n in (1, 2)
        ),
    )


def _sipakmed(root: Path) -> Path:
    return _paint_all(
        root,
        (
            (f"im_{label}/im_{label}/CROPPED/{field:03}_{cell:02}.bmp", hue)
            for hue, label in enumerate(_SIPAKMED)
            for field in range(1, NUM_GROUPS + 1)
            for cell in (1, 2)
        ),
    )


def _hicervix(root: Path) -> Path:
    numbers = count()
    root.mkdir(parents=True)
    for subset, repeats in NUM_HICERVIX.items():
        with (root / f"{subset}.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image_name", "class_name", "class_id", "level_1", "level_2", "level_3"])
            for class_id, (name, node) in enumerate(NODES.items()):
                for number in (next(numbers) for _ in range(repeats)):
                    image = f"6a7ed02d-7148-304f-907b-{number:012}.jpg"
                    _paint(root / subset / image, number, class_id)
                    table.writerow([image, name, class_id, *node.levels, *[""] * (3 - len(node.levels))])
    return root


_MAKERS = {"bcfc": _bcfc, "mlcc": _mlcc, "sipakmed": _sipakmed, "hicervix": _hicervix}


def _checkpoint(name: str, folder: Path) -> tuple[Any, Path]:
    """Writes a checkpoint of depth 2 as its publisher lays it out; returns the entry that fits it, and the file."""
    official = import_module("official")
    size = official.Size(width=64, layers=2, heads=2, projected=32, image_px=IMAGE_PX, patch_px=16)
    if name == "biomedclip":
        return _biomedclip(folder, official.fitted(name, size), official)
    writers = {
        "clip-vit-b16": lambda: official.hf_clip(folder, size),
        "clip-vit-l14": lambda: official.hf_clip(folder, size, name=name),
        "vit-b16": lambda: official.hf_vit(folder, size),
        "quiltnet-b16": lambda: official.open_clip_vit(folder, size, name=name, quick_gelu=False),
        "uni": lambda: import_module("official_timm").timm_native(folder, size, name=name),
    }
    made = writers[name]()
    return replace(made.spec, unverified=made.spec.unverified), made.weights


def _biomedclip(folder: Path, spec: Any, official: Any) -> tuple[Any, Path]:
    """open_clip builds this kind of encoder only in timm's own depth, so the file is written by hand."""
    folder.mkdir(parents=True)
    trunk = official.randomise(timm.create_model(spec.architecture, **spec.arguments))
    state = {f"visual.trunk.{name}": tensor for name, tensor in trunk.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    state["visual.head.proj.weight"] = torch.randn(spec.projection, trunk.embed_dim, generator=generator) * 0.1
    state["text.proj.0.weight"], state["logit_scale"] = torch.zeros(4, 4), torch.zeros(())
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    return spec, folder / "open_clip_pytorch_model.bin"
