"""Where the time of a training batch goes before the encoder sees it: cropping, resizing, flipping, normalising.

    .venv/bin/python benchmarks/augmentation.py

Milliseconds of a batch of 32, the least and the median of 20.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rows import Row, add_rows_option, show
from torchvision.transforms.v2 import functional as tvf

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.views import evaluation_view, to_batch, training_view
from cytolora.data.manifest import Manifest, Sample

PREPROCESS = Preprocess(size_px=224, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
NUM_IMAGES, REPEATS = 32, 20


def _cells(folder: Path) -> Manifest:
    """Noise of the sizes of Herlev's photographs, as PNG."""
    random, samples = np.random.default_rng(0), []
    for number in range(NUM_IMAGES):
        height, width = random.integers(40, 300, 2)
        pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        samples.append(Sample(path=f"{number}.png", label="a"))
    return Manifest(name="noise", root=folder, classes=("a",), samples=tuple(samples)).with_hashes()


def _milliseconds(work: Callable[[], object]) -> list[float]:
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - start))
    return times


def measure() -> Iterator[Row]:
    """Measures every step of a batch."""
    with tempfile.TemporaryDirectory() as name:
        manifest = _cells(Path(name))
        cache = PixelCache(Path(name) / "cache", manifest.root)
        images = [cache.native(sample) for sample in manifest.samples]
        crops = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in images]
        views = [training_view(image, PREPROCESS, AugmentSpec(), seed=[0]) for image in images]
        stack = torch.stack(views)
        parts: dict[str, Callable[[], object]] = {
            "decode the files": lambda: [decode(manifest.root / sample.path) for sample in manifest.samples],
            "map them from the cache": lambda: [cache.native(sample) for sample in manifest.samples],
            "training views, all": lambda: [
                training_view(image, PREPROCESS, AugmentSpec(), seed=[0, 0, place])
                for place, image in enumerate(images)
            ],
            "of training views: resize": lambda: [tvf.resize(crop, [224, 224], antialias=True) for crop in crops],
            "of training views: random numbers": lambda: [
                np.random.default_rng([0, 0, place]) for place in range(NUM_IMAGES)
            ],
            "flip all, one by one": lambda: [tvf.horizontal_flip(view) for view in views],
            "flip all, as a batch": lambda: tvf.horizontal_flip(stack),
            "evaluation views": lambda: [evaluation_view(image, PREPROCESS) for image in images],
            "stack and normalise the batch": lambda: to_batch(views, PREPROCESS),
        }
        for title, work in parts.items():
            times = _milliseconds(work)
            figures = {"ms, least": (min(times),), "ms, median": (statistics.median(times),)}
            yield Row(part="augmentation", name=title.strip(), figures=figures, conditions=f"{NUM_IMAGES} images")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_rows_option(parser)
    torch.set_num_threads(1)
    return show(measure(), parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
