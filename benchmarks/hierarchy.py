"""Hierarchical heads against a flat one on drawn cells of a planted tree: level accuracies and mistakes, paired.

    python benchmarks/hierarchy.py --labels HiCervix --images 6000
    python benchmarks/hierarchy.py --quick                              (no label files: 26 classes, equal numbers)

The cells bear the names, the tree and the official subsets of HiCervix' label files (train.csv, val.csv and test.csv in
the folder of --labels) and are drawn so that cells of one branch are alike. Classes are the 23 that HierSwin was
evaluated on. Heads are trained on frozen features of nano; `flat` is the head of `hxe` with plain cross-entropy, so
that a difference is that of the loss. Intervals of 95 % are over draws of the training images (seeds) and over test
images, both drawn with replacement; with all images over test images alone.

Exit code 1 if probabilities do not sum to one at every level, or hxe's mistakes lie farther off than the flat head's.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cytolora.config.run import HeadSpec, Sampling
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.splits import draw
from cytolora.data.synthetic.tree import listed, per_class, write_tree
from cytolora.metrics.hierarchy import distances, level_hits, tree_score
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.steps import SteppedHead
from cytolora.training.heads.tree import hxe
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

Train = Callable[[Sequence[Labelled], Sequence[Labelled], HeadSpec, Sequence[int]], list[SteppedHead]]

DATASET = "hicervix:23"
_DRAWS = 2_000
_ALPHAS = (0.1, 0.5, 0.9)
_FLAT = 1e-30
"""Alpha at which every level weighs 1."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Test images of all seeds, one after the other."""

    hits: np.ndarray
    """[seeds, images, levels]."""
    apart: np.ndarray
    """Edges between true and predicted class, [seeds, images]; 0 where right."""
    consistency: float
    largest_gap: float
    """Between 1 and the sum of probabilities, over images."""


def methods() -> dict[str, tuple[str, HeadSpec]]:
    """Heads by name, the flat one first."""
    found = {"flat": ("hxe", HeadSpec(alpha=_FLAT)), "tree-softmax": ("tree-softmax", HeadSpec())}
    return found | {f"hxe, alpha {alpha:g}": ("hxe", HeadSpec(alpha=alpha)) for alpha in _ALPHAS}


def scored(session: Session, manifest: Manifest, shots: int | None, seeds: Sequence[int]) -> dict[str, Scored]:
    """Trains every head with every seed and scores the official test set."""
    paths = tuple(manifest.tree[label] for label in manifest.classes)
    test = manifest.subset("test")
    labels, features = session.labels_of(test).numpy(), session.features_of(test)

    def images(samples: Sequence) -> Labelled:
        return Labelled(
            features=session.features_of(samples),
            labels=session.labels_of(samples),
            num_classes=len(paths),
            tree=paths,
        )

    splits = [draw(manifest, Sampling(shots=shots, on_small_class="repeat"), seed) for seed in seeds]
    known, val = [images(split.train) for split in splits], [images(split.val) for split in splits]
    between, found = distances(paths), {}
    for name, (method, spec) in methods().items():
        train = HEADS.get(method).train if method != "hxe" else hxe
        heads = train(known, val, spec, seeds)  # pyright: ignore[reportOptionalCall]
        shares = [
            HEADS.get(method).probabilities(head.state, one, features).numpy()
            for head, one in zip(heads, known, strict=True)
        ]
        scores = [tree_score(labels, one, manifest.classes, manifest.tree) for one in shares]
        found[name] = Scored(
            hits=np.stack([level_hits(labels, one, manifest.classes, manifest.tree) for one in shares]),
            apart=np.stack([between[labels, one.argmax(axis=1)] for one in shares]),
            consistency=float(np.mean([one.consistency for one in scores])),
            largest_gap=float(max(abs(one.sum(axis=1) - 1).max() for one in shares)),
        )
    return found


def paired(first: np.ndarray, second: np.ndarray, rng: np.random.Generator, *, over_seeds: bool) -> str:
    """Difference of means over seeds and images, and its 95 % interval."""
    apart = first.astype(float) - second
    num_seeds, num_images = apart.shape
    means = []
    for _ in range(_DRAWS):
        seeds = rng.integers(0, num_seeds, num_seeds) if over_seeds else np.arange(num_seeds)
        of_images = np.bincount(rng.integers(0, num_images, num_images), minlength=num_images)
        means.append((apart[seeds].mean(axis=0) @ of_images) / num_images)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{apart.mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def severity(one: Scored) -> float:
    """Mean edges between true and predicted class of the mistakes."""
    wrong = one.apart > 0
    return float(one.apart[wrong].mean()) if wrong.any() else 0.0


def report(shots: int | None, found: dict[str, Scored]) -> bool:
    """Prints a row for each head; returns whether what is promised holds."""
    rng, flat, holds, few = np.random.default_rng(0), found["flat"], True, shots is not None
    print(f"{'all images' if shots is None else f'{shots} shots'}, {flat.hits.shape[1]:,} test images")
    for name, one in found.items():
        levels = " ".join(f"{share:.3f}" for share in one.hits.mean(axis=(0, 1)))
        row = f"  {name:16} levels {levels}  edges of a mistake {severity(one):.2f}  on one path {one.consistency:.3f}"
        print(row)
        if name != "flat":
            pairs = [(one.hits[..., at], flat.hits[..., at]) for at in range(one.hits.shape[2])]
            *gains, apart = (paired(*pair, rng, over_seeds=few) for pair in [*pairs, (one.apart, flat.apart)])
            print(f"{'':18} against flat: {'; '.join(gains)}; edges of any image {apart}")
        holds &= one.largest_gap < 1e-5
    return holds and severity(found["hxe, alpha 0.9"]) <= severity(flat) + 0.02


def main() -> int:
    """Draws, trains and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=Path, help="folder with HiCervix' train.csv, val.csv and test.csv")
    parser.add_argument("--images", type=int, default=6_000, help="images to draw, of all subsets (default: 6000)")
    parser.add_argument("--shots", type=int, nargs="*", default=[1, 4, 16], help="shots; all images come last")
    parser.add_argument(
        "--seeds", type=int, nargs="*", default=list(range(1, 11)), help="with all images three at most"
    )
    parser.add_argument("--backbone", default="nano")
    parser.add_argument("--quick", action="store_true", help="1,000 images, 4 shots, 2 seeds")
    given = parser.parse_args()
    torch.set_num_threads(1)
    images, shots, seeds = (1_000, [4], [1, 2]) if given.quick else (given.images, given.shots, given.seeds)
    if given.labels is not None:
        names = listed(given.labels, images)
    else:
        names = per_class({"train": images // 52, "val": max(4, images // 260), "test": images // 65})
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder) / "cells", names)
        manifest = load_manifest(Path(folder) / "cells", DATASET)
        session = Session(
            manifest=manifest,
            backbone=BACKBONES.get(given.backbone),
            inputs=Inputs(data={}),
            cache=Path(folder) / "cache",
        )
        print(f"{len(manifest.samples):,} drawn cells, {len(manifest.classes)} classes, {given.backbone}")
        holds = [report(number, scored(session, manifest, number, seeds)) for number in shots]
        holds.append(report(None, scored(session, manifest, None, seeds[:3])))
    return 0 if all(holds) else 1


if __name__ == "__main__":
    sys.exit(main())
