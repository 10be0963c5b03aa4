"""Which altered copies the audit finds at its threshold, and which pairs of Herlev it takes for one."""

import argparse
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from cytolora.data.datasets import load_manifest
from cytolora.data.decode import decode
from cytolora.data.duplicates import MAX_DISTANCE, Signature, near_pairs, signature

Change = Callable[[Image.Image], Image.Image]


def _jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def _crop(share: float, *, sides: int) -> Change:
    """Cuts a share of the edge away, at least one pixel, on four sides or on the upper left two."""

    def change(image: Image.Image) -> Image.Image:
        across, down = (max(1, round(edge * share)) for edge in image.size)
        right, bottom = (image.width - across, image.height - down) if sides == 4 else image.size
        return image.crop((across, down, right, bottom))

    return change


def _resize(factor: float) -> Change:
    return lambda image: image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.BICUBIC
    )


def _then(first: Change, second: Change) -> Change:
    return lambda image: second(first(image))


def _turn(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.TRANSVERSE)


CHANGES: dict[str, Change] = {
    "turned and mirrored": _turn,
    "JPEG, quality 95": _jpeg(95),
    "JPEG, quality 75": _jpeg(75),
    "JPEG, quality 50": _jpeg(50),
    "JPEG, quality 30": _jpeg(30),
    "JPEG 75, turned and mirrored": _then(_jpeg(75), _turn),
    "half the size": _resize(0.5),
    "twice the size": _resize(2),
    "cropped by 1 % on each side": _crop(0.01, sides=4),
    "cropped by 2 % on each side": _crop(0.02, sides=4),
    "cropped by 5 % on each side": _crop(0.05, sides=4),
    "cropped by 5 % on two sides": _crop(0.05, sides=2),
    "cropped by 10 % on each side": _crop(0.10, sides=4),
}


def _signature(image: Image.Image) -> Signature:
    return signature(np.asarray(image))


def _is_found(original: Signature, copy: Signature, max_distance: int) -> bool:
    return bool(near_pairs([original, copy], max_distance))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-distance", type=int, default=MAX_DISTANCE)
    options = parser.parse_args()
    manifest = load_manifest(options.data)
    start = time.perf_counter()
    images = [Image.fromarray(decode(manifest.root / sample.path)) for sample in manifest.samples]
    originals = [_signature(image) for image in images]
    pairs = near_pairs(originals, options.max_distance)
    seconds = time.perf_counter() - start
    num_pairs = len(images) * (len(images) - 1) // 2
    print(f"{manifest.name}: {len(images)} images, {num_pairs:,} pairs, {seconds:.1f} s to read, hash and compare")
    print(f"threshold: at most {options.max_distance} of 256 bits\n")
    print(f"{len(pairs)} pairs of different files are called near duplicates; look at each to see which are wrong:")
    for pair in pairs:
        first, second = (manifest.samples[place].path for place in (pair.first, pair.second))
        print(f"  {pair.distance:3} bits  {first}  {second}")
    print("\nrecall  altered copy")
    for name, change in CHANGES.items():
        copies = (_signature(change(image)) for image in images)
        found = [
            _is_found(original, copy, options.max_distance) for original, copy in zip(originals, copies, strict=True)
        ]
        print(f"{np.mean(found):6.1%}  {name}")


if __name__ == "__main__":
    sys.exit(main())
