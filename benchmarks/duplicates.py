"""Which altered copies the audit finds at its threshold, by hash or by a model's features, and which pairs it flags."""

import argparse
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import decode
from cytolora.data.manifest import Manifest
from cytolora.data.quality.duplicates import (
    MAX_DISTANCE,
    MIN_SIMILARITY,
    Signature,
    near_pairs,
    signature,
    similar_pairs,
)
from cytolora.models.backbones.registry import BACKBONES, read_backbone_file
from cytolora.models.backbones.spec import BackboneSpec

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


def _by_hash(manifest: Manifest, images: Sequence[Image.Image], max_distance: int) -> None:
    start = time.perf_counter()
    originals = [_signature(image) for image in images]
    pairs = near_pairs(originals, max_distance)
    print(f"threshold: at most {max_distance} of 256 bits; {time.perf_counter() - start:.1f} s to hash and compare\n")
    _print_pairs(manifest, [(f"{pair.distance:3} bits", pair.first, pair.second) for pair in pairs])
    print("\nrecall  altered copy")
    for name, change in CHANGES.items():
        copies = (_signature(change(image)) for image in images)
        found = [_is_found(original, copy, max_distance) for original, copy in zip(originals, copies, strict=True)]
        print(f"{np.mean(found):6.1%}  {name}")


def _by_features(
    manifest: Manifest, images: Sequence[Image.Image], backbone: BackboneSpec, min_similarity: float
) -> None:
    """Like ``_by_hash``; copies are centred by the mean of the originals, which one copy more would hardly move."""
    start, features = time.perf_counter(), _features(backbone)
    originals = features(images)
    pairs = similar_pairs(originals, min_similarity)
    seconds = time.perf_counter() - start
    print(f"threshold: cosine of at least {min_similarity} with {backbone.name}; {seconds:.1f} s, features included\n")
    _print_pairs(manifest, [(f"{pair.similarity:.4f}", pair.first, pair.second) for pair in pairs])
    print("\nrecall  altered copy")
    center = originals.mean(axis=0)
    for name, change in CHANGES.items():
        copies = features([change(image) for image in images])
        print(f"{np.mean(_cosines(originals - center, copies - center) >= min_similarity):6.1%}  {name}")


def _features(backbone: BackboneSpec) -> Callable[[Sequence[Image.Image]], NDArray[np.float32]]:
    import torch

    from cytolora.data.imaging.views import evaluation_view, to_batch
    from cytolora.models.checkpoints.loading import load_encoder

    if not isinstance(backbone.weights, Path):
        sys.exit(f"{backbone.name}: describe its checkpoint on this machine in a --backbone-file.")
    encoder = load_encoder(backbone, backbone.weights)

    def features(images: Sequence[Image.Image]) -> NDArray[np.float32]:
        rows = []
        for start in range(0, len(images), 64):
            views = [evaluation_view(np.asarray(image), backbone.preprocess) for image in images[start : start + 64]]
            with torch.inference_mode():
                rows.append(encoder(to_batch(views, backbone.preprocess)).numpy())
        return np.concatenate(rows)

    return features


def _cosines(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    return (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def _print_pairs(manifest: Manifest, pairs: Sequence[tuple[str, int, int]]) -> None:
    print(f"{len(pairs)} pairs of different files are called near duplicates; look at each to see which are wrong:")
    for closeness, first, second in pairs:
        print(f"  {closeness}  {manifest.samples[first].path}  {manifest.samples[second].path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-distance", type=int, default=MAX_DISTANCE)
    parser.add_argument("--model", help="compares features of this backbone instead of hashes")
    parser.add_argument("--backbone-file", type=Path, help="YAML file that describes a backbone of one's own")
    parser.add_argument("--similarity", type=float, default=MIN_SIMILARITY)
    options = parser.parse_args()
    manifest = load_manifest(options.data)
    start = time.perf_counter()
    images = [Image.fromarray(decode(manifest.root / sample.path)) for sample in manifest.samples]
    seconds = time.perf_counter() - start
    num_pairs = len(images) * (len(images) - 1) // 2
    print(f"{manifest.name}: {len(images)} images, {num_pairs:,} pairs, {seconds:.1f} s to read")
    if options.backbone_file is not None:
        _by_features(manifest, images, read_backbone_file(options.backbone_file), options.similarity)
    elif options.model is not None:
        _by_features(manifest, images, BACKBONES.get(options.model), options.similarity)
    else:
        _by_hash(manifest, images, options.max_distance)


if __name__ == "__main__":
    sys.exit(main())
