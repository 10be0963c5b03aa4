"""Share of images that are no cells and are referred to a person, or flagged as out-of-distribution, by kind.

One colour, uniform noise, drawn text, and crops of the photographs that scikit-image ships (of the two of scikit-learn
where it is not installed). No classifier was trained on any of them.

    python benchmarks/odd_images.py MODEL [MODEL ...] --number 250
"""

import argparse
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import cytolora

EDGE_PX = 80
"""About that of a Herlev image."""
_PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "cat",
    "immunohistochemistry",
    "retina",
    "hubble_deep_field",
)
_MIN_PX = 200

Pixels = NDArray[np.uint8]


def one_colour(random: np.random.Generator) -> Pixels:
    """White, black, gray or any colour, half of them with the noise of a camera."""
    colour = random.integers(0, 256, 3) if random.random() < 0.5 else np.repeat(random.integers(0, 256), 3)
    deviation = 2.5 * (random.random() < 0.5)
    values = (
        random.normal(colour, deviation, (EDGE_PX, EDGE_PX, 3)) if deviation else np.tile(colour, (EDGE_PX, EDGE_PX, 1))
    )
    return np.clip(values, 0, 255).astype(np.uint8)


def noise(random: np.random.Generator) -> Pixels:
    """Independent pixels."""
    return random.integers(0, 256, (EDGE_PX, EDGE_PX, 3)).astype(np.uint8)


def text(random: np.random.Generator) -> Pixels:
    """Words in black on white, or the other way round."""
    ink, paper = ((0, 0, 0), (255, 255, 255)) if random.random() < 0.5 else ((255, 255, 255), (0, 0, 0))
    image = Image.new("RGB", (EDGE_PX, EDGE_PX), paper)
    for line in range(0, EDGE_PX, 12):
        letters = "".join(chr(random.integers(97, 123)) for _ in range(random.integers(3, 14)))
        ImageDraw.Draw(image).text((int(random.integers(0, 20)), line), letters, fill=ink)
    return np.asarray(image)


def photographs() -> Callable[[np.random.Generator], Pixels]:
    """Crops of photographs, at places and of edges drawn at random."""
    pictures = _of_scikit_image() if find_spec("skimage") else _of_scikit_learn()

    def crop(random: np.random.Generator) -> Pixels:
        picture = pictures[random.integers(len(pictures))]
        edge = int(random.integers(EDGE_PX, min(picture.shape[:2])))
        top, left = (int(random.integers(0, size - edge + 1)) for size in picture.shape[:2])
        cut = Image.fromarray(picture[top : top + edge, left : left + edge, :3])
        return np.asarray(cut.resize((EDGE_PX, EDGE_PX), Image.Resampling.BICUBIC))

    return crop


def _of_scikit_image() -> list[Pixels]:
    from skimage import data  # pyright: ignore[reportMissingImports]

    found: list[Any] = []
    for name in _PHOTOGRAPHS:
        try:
            found.append(np.asarray(getattr(data, name)()))
        except Exception:  # not in the package, and there is no network
            continue
    return [picture for picture in found if picture.ndim == 3 and min(picture.shape[:2]) >= _MIN_PX]


def _of_scikit_learn() -> list[Pixels]:
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--number", type=int, default=250)
    parser.add_argument("--backbone-file", type=Path, help="YAML of a backbone that is not registered")
    parser.add_argument("--weights", type=Path, help="checkpoint, where it is not found by itself")
    options = parser.parse_args()
    kinds = {"one colour": one_colour, "noise": noise, "text": text, "photographs": photographs()}
    print(
        "| classifier | images | referred, % | out-of-distribution, % | either, % |\n| --- | --- | ---: | ---: | ---: |"
    )
    for path in options.models:
        classifier = cytolora.load(path, weights=options.weights)
        for kind, draw in kinds.items():
            random = np.random.default_rng(0)
            found = classifier.predict([draw(random) for _ in range(options.number)])
            referred = np.array([bool(one.is_referred) for one in found])
            odd = np.array([bool(one.is_out_of_distribution) for one in found])
            shares = [f"{100 * share.mean():.1f}" for share in (referred, odd, referred | odd)]
            print(f"| {classifier.backbone.name} | {options.number} {kind} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
