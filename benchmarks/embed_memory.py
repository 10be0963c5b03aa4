"""What `embed` costs with the number of images: peak memory, seconds the first time, seconds the second time.

    .venv/bin/python benchmarks/embed_memory.py --images 2000 10000

Every measurement is a process of its own, so that its peak is its own. The images are noise of 64 x 64 pixels.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measuring import cytolora, process
from PIL import Image
from rows import Row, add_rows_option, show

CLASSES = ("a", "b", "c", "d")


def draw(folder: Path, num_images: int) -> None:
    """Writes noise; images of a smaller number are a part of those of a larger one."""
    random = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number in range(num_images):
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / CLASSES[number % len(CLASSES)] / f"{number:06}.png", compress_level=0)


def measure(options: argparse.Namespace) -> Iterator[Row]:
    """Embeds each number of images twice."""
    for num_images in options.images:
        with tempfile.TemporaryDirectory() as name:
            data, out, cache = (Path(name) / part for part in ("data", "cells.parquet", "cache"))
            draw(data, num_images)
            arguments = ["--out", out, "--cache", cache, "--model", options.model, "--threads", "1", "--quiet"]
            for title in ("first time", "second time"):
                cost = process(cytolora("embed", data, *arguments))
                figures = {"CPU s": cost.cpu_seconds, "wall s": cost.wall_seconds, "MiB": cost.peak_mib}
                yield Row(
                    part="embed-memory",
                    name=f"{num_images:,} images, {title}",
                    figures={title: (value,) for title, value in figures.items()},
                    conditions=f"{options.model}, 1 thread",
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 10000])
    parser.add_argument("--model", default="nano")
    add_rows_option(parser)
    options = parser.parse_args()
    return show(measure(options), options)


if __name__ == "__main__":
    sys.exit(main())
