"""What `embed` costs with the number of images: peak memory, seconds the first time, seconds the second time.

    .venv/bin/python benchmarks/embed_memory.py --images 2000 10000

Every measurement is a process of its own, so that its peak is its own. The images are noise of 64 x 64 pixels.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("a", "b", "c", "d")


def draw(folder: Path, num_images: int) -> None:
    """Writes noise; images of a smaller number are a part of those of a larger one."""
    random = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number in range(num_images):
        pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / CLASSES[number % len(CLASSES)] / f"{number:06}.png", compress_level=0)


def measure(data: Path, out: Path, cache: Path, model: str) -> None:
    """Runs in the process of its own; prints one line of JSON."""
    from cytolora.cli.app import app

    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    options = ["--out", str(out), "--cache", str(cache), "--model", model, "--threads", "1", "--quiet"]
    app(["embed", str(data), *options], result_action="return_value")
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {"seconds": time.perf_counter() - started, "cpu": cpu, "peak_mib": after.ru_maxrss / 1024}
    print(json.dumps(found), file=sys.stderr)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[2000, 10000])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--one", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(*options.one, options.model)
        return
    for num_images in options.images:
        with tempfile.TemporaryDirectory() as name:
            data, out, cache = (Path(name) / part for part in ("data", "cells.parquet", "cache"))
            draw(data, num_images)
            for title in ("first time", "second time"):
                command = [sys.executable, __file__, "--model", options.model, "--one", str(data), str(out), str(cache)]
                done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, check=True)
                found = json.loads(done.stderr.splitlines()[-1])
                print(
                    f"{num_images} images, {title}: {found['seconds']:.1f} s ({found['cpu']:.1f} s of CPU), "
                    f"peak {found['peak_mib']:.0f} MiB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
