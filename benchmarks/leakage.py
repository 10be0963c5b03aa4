"""Power and false alarms of the leakage report on drawn cells with planted leakage.

Drawn cells of one stain are dealt to slides at random; then each slide gets a tint of a strength between 0 (a slide is
a name and nothing else) and 1. Planted are: the tint alone; classes tied to slides, so that the tint helps on a slide
and misleads on others; byte-equal and turned copies in other slides; one class on slides of its own. Each trial draws
new cells, deals them anew and computes their features with the built-in backbone.

    python benchmarks/leakage.py --trials 100
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import Pool
from time import perf_counter
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from cytolora.classifier.leakage.cells import SourcedCells
from cytolora.classifier.leakage.features import Effort, assemble, measure_features
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.data.manifest import Sample
from cytolora.data.quality.duplicates import near_pairs, signature
from cytolora.data.synthetic.dataset import CLASSES, draw_cells
from cytolora.models.backbones.registry import NANO
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.kernels.cpu import for_inference

Plant = Literal["tint", "tied", "byte copies", "turned copies", "own slides"]
STRENGTHS = (0.0, 0.1, 0.25, 0.5, 1.0)
NUM_CELLS, NUM_SLIDES, SIZE_PX = 240, 12, 32
NUM_COPIES = 60
MOST_GAIN = 0.25
"""Of a colour, at strength 1: red, green and blue of a slide are multiplied by 0.75 to 1.25."""
EFFORT = Effort(repeats=5, permutations=99)
COPIES = "near-duplicates"
"""Some in other groups, whether or not they make scores too good."""
DETECTORS = ("image-split-inflates", "source-readable", "class-is-its-source", COPIES, "copies-inflate")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one report said of cells with a plant."""

    findings: frozenset[str]
    inflation: float
    copies_found: float
    """Share of the planted copies that were found as near-duplicates; 1 where none was planted."""


@dataclass(frozen=True, kw_only=True)
class Power:
    """Shares of the trials in which each finding was raised."""

    plant: Plant
    strength: float
    trials: int
    share: dict[str, float]
    inflation: float
    """Mean, points."""
    copies_found: float


def simulate(plant: Plant, strength: float, *, trials: int, seed: int = 0, num_processes: int = 1) -> Power:
    """Counts findings over new cells."""
    tasks: list[tuple[Plant, float, int]] = [(plant, strength, seed * 100_000 + number) for number in range(trials)]
    if num_processes == 1:
        found = [run_trial(*task) for task in tasks]
    else:
        with Pool(num_processes) as pool:
            found = pool.starmap(run_trial, tasks)
    return Power(
        plant=plant,
        strength=strength,
        trials=trials,
        share={name: float(np.mean([name in one.findings for one in found])) for name in DETECTORS},
        inflation=100 * float(np.mean([one.inflation for one in found])),
        copies_found=float(np.mean([one.copies_found for one in found])),
    )


def run_trial(plant: Plant, strength: float, seed: int) -> Trial:
    """Draws cells, plants leakage and reads the report."""
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, 1])
    drawn = draw_cells(NUM_CELLS, seed, SIZE_PX, num_slides=1)
    slides = deal(plant, drawn.labels, rng)
    gains = 1 + MOST_GAIN * strength * rng.uniform(-1, 1, size=(slides.max() + 1, 3))
    images = np.clip(drawn.images * gains[slides][:, None, None], 0, 255).astype(np.uint8)
    images, labels, slides, origin = with_copies(plant, images, drawn.labels, slides, rng)
    cells = read(images, labels, slides)
    of_features = measure_features(cells, "frozen", replace(EFFORT, seed=seed))
    report = assemble(cells, [of_features], model="nano", group_rule="")
    inflation = of_features.inflation
    assert inflation is not None
    found = {one.kind.name for one in report.findings()} | ({COPIES} if inflation.num_copies else set())
    pairs = set(cells.twins)
    planted = [(int(first), NUM_CELLS + place) for place, first in enumerate(origin)]
    return Trial(
        findings=frozenset(found),
        inflation=inflation.leakage.value,
        copies_found=float(np.mean([pair in pairs for pair in planted])) if planted else 1.0,
    )


def deal(plant: Plant, labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Deals cells to slides: at random; by class in three of four cells; or one class to slides of its own."""
    slides = rng.permutation(np.arange(len(labels)) % NUM_SLIDES)
    if plant == "tied":
        favoured = np.arange(NUM_SLIDES) % len(CLASSES)
        for cell in np.flatnonzero(rng.random(len(labels)) < 0.75):
            slides[cell] = rng.choice(np.flatnonzero(favoured == labels[cell]))
    if plant == "own slides":
        own = labels == 0
        slides[own] = NUM_SLIDES + rng.integers(0, 4, int(own.sum()))
    return slides


def with_copies(
    plant: Plant,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    slides: NDArray[np.int64],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Adds copies of some cells, in another slide; returns their originals last."""
    if plant not in ("byte copies", "turned copies"):
        return images, labels, slides, np.zeros(0, np.int64)
    origin = np.sort(rng.choice(len(images), NUM_COPIES, replace=False))
    copies = images[origin]
    if plant == "turned copies":
        turned = [np.rot90(image, int(rng.integers(1, 4))) for image in copies]
        copies = np.clip(np.stack(turned) * 1.05, 0, 255).astype(np.uint8)
    moved = (slides[origin] + rng.integers(1, NUM_SLIDES, NUM_COPIES)) % NUM_SLIDES
    return (
        np.concatenate([images, copies]),
        np.concatenate([labels, labels[origin]]),
        np.concatenate([slides, moved]),
        origin,
    )


def read(images: NDArray[np.uint8], labels: NDArray[np.int64], slides: NDArray[np.int64]) -> SourcedCells:
    """Computes features and near-duplicates, as the command does."""
    views = [evaluation_view(image, NANO.preprocess) for image in images]
    with torch.inference_mode():
        features = _encoder()(to_batch(views, NANO.preprocess))
    signatures = [signature(image) for image in images]
    return SourcedCells(
        name="drawn",
        classes=CLASSES,
        samples=tuple(
            Sample(path=f"{number:05}.png", label=CLASSES[label], group=f"slide_{slide:02}")
            for number, (label, slide) in enumerate(zip(labels.tolist(), slides.tolist(), strict=True))
        ),
        features=features.float(),
        twins=tuple((pair.first, pair.second) for pair in near_pairs(signatures)),
    )


def _encoder() -> torch.nn.Module:
    if not _ENCODERS:
        assert NANO.weights is not None
        _ENCODERS.append(for_inference(load_encoder(NANO, NANO.weights), torch.device("cpu")))
    return _ENCODERS[0]


_ENCODERS: list[torch.nn.Module] = []
"""Loaded once in each process."""


def settings(plants: Sequence[Plant], strengths: Sequence[float]) -> Iterator[tuple[Plant, float]]:
    """Yields what is simulated: tints by strength, and copies and slides of a class's own without a tint."""
    for plant in plants:
        for strength in strengths if plant in ("tint", "tied") else (0.0,):
            yield plant, strength


def main() -> None:
    """Prints one line a setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--plants", nargs="+", choices=get_args(Plant), default=get_args(Plant))
    parser.add_argument("--strengths", nargs="+", type=float, default=STRENGTHS)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    started = perf_counter()
    print("| plant | strength | " + " | ".join(DETECTORS) + " | mean inflation, points | copies found |")
    print("| --- | ---: |" + " ---: |" * (len(DETECTORS) + 2))
    for plant, strength in settings(options.plants, options.strengths):
        power = simulate(plant, strength, trials=options.trials, num_processes=options.processes)
        shares = " | ".join(f"{100 * power.share[name]:.0f} %" for name in DETECTORS)
        copies = f"{100 * power.copies_found:.0f} %" if "copies" in plant else ""
        print(f"| {plant} | {strength:g} | {shares} | {power.inflation:+.1f} | {copies} |", flush=True)
    print(f"\n{options.trials} trials a setting, {perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
