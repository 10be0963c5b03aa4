"""Groups suspected in file names: power by strength of a tint per slide, and false alarms where there is none.

Cells are drawn: a disc on a background, of which each slide shifts the colour. At strength 1 slides differ as much as
the cells of one slide do. Every trial draws new cells, classes and slides of unequal size.
"""

import argparse
import sys

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from cytolora.data.quality.group_test import LEVEL, appearance, permutation_p

_STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_SETTINGS = ((5, 40), (12, 100), (30, 150), (30, 300))
"""Slides and images."""
_CELL_DEVIATION = 8.0
"""Gray levels in which the colours of two cells of one slide differ."""
_EDGE_PX = 24

Features = Float[NDArray[np.float64], "images values"]


def draw(
    random: np.random.Generator, num_slides: int, num_images: int, strength: float
) -> tuple[Features, list[str], list[str]]:
    """Draws cells of three classes, which differ in size; returns their values, classes and slides."""
    slide = random.choice(num_slides, num_images, p=random.dirichlet(np.full(num_slides, 2.0)))
    label = (slide + random.integers(0, 2, num_images)) % 3  # slides hold two classes: class and slide go together
    stain = random.normal(0, _CELL_DEVIATION * strength, (num_slides, 3))
    rows, columns = np.mgrid[:_EDGE_PX, :_EDGE_PX] - _EDGE_PX // 2
    images = []
    for one, kind in zip(slide, label, strict=True):
        inside = rows**2 + columns**2 < (random.uniform(3, 7) + 2 * kind) ** 2
        colour = 170 + random.normal(0, _CELL_DEVIATION, 3) + stain[one]
        pixels = colour - 80 * inside[..., None] + random.normal(0, 6, (_EDGE_PX, _EDGE_PX, 3))
        images.append(appearance(np.clip(pixels, 0, 255).astype(np.uint8)))
    return np.stack(images), [str(kind) for kind in label], [str(one) for one in slide]


def share_suspected(num_slides: int, num_images: int, strength: float, *, trials: int, seed: int) -> float:
    """Returns the share of trials in which the groups are suspected."""
    random = np.random.default_rng((seed, num_slides, num_images, round(100 * strength)))
    hits = 0
    for trial in range(trials):
        vectors, classes, slides = draw(random, num_slides, num_images, strength)
        hits += permutation_p(vectors, classes, slides, num_draws=199, seed=trial) <= LEVEL
    return hits / trials


def main() -> None:
    """Prints one line for every setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400, help="False alarms; power takes a quarter of them.")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    error = 100 * (LEVEL * (1 - LEVEL) / given.trials) ** 0.5
    lines = [
        f"Suspected, % of trials; strength 0 are false alarms (level {100 * LEVEL:g} %, standard error {error:.1f})\n",
        "| slides | images | " + " | ".join(f"strength {strength:g}" for strength in _STRENGTHS) + " |\n",
        "| ---: " * (2 + len(_STRENGTHS)) + "|\n",
    ]
    sys.stdout.writelines(lines)
    for num_slides, num_images in _SETTINGS:
        shares = [
            share_suspected(
                num_slides,
                num_images,
                strength,
                trials=given.trials if strength == 0 else max(1, given.trials // 4),
                seed=given.seed,
            )
            for strength in _STRENGTHS
        ]
        cells = " | ".join(f"{100 * share:.1f}" for share in shares)
        sys.stdout.write(f"| {num_slides} | {num_images} | {cells} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
