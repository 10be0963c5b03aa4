"""Frozen features, computed once and cached under what they depend on: weights, preprocessing, images."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from cytolora.data.images import evaluation_view, to_batch
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.pixels import PixelCache
from cytolora.errors import DataError
from cytolora.files import canonical_json, sha256_text, write_bytes
from cytolora.models.tower import Tower
from cytolora.specs import Preprocess, to_plain

_CHUNK = 1024
"""Images per cache file: what an interruption loses at most."""


def extract(
    tower: Tower,
    manifest: Manifest,
    preprocess: Preprocess,
    *,
    weights_sha256: str,
    pixels: PixelCache,
    cache: Path,
    device: torch.device,
    batch_size: int = 64,
    on_images: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Returns the features of all images of a manifest in its order, float32 [images, feature_dim] on the CPU.

    Args:
        cache: Folder that keeps them; a second call with the same weights, preprocessing and images only reads.
        on_images: Told the number of images after every batch.

    Raises:
        DataError: If an image cannot be read, or the disk is full.
    """
    tower.to(device)
    parts = []
    for start in range(0, len(manifest.samples), _CHUNK):
        samples = manifest.samples[start : start + _CHUNK]
        path = cache / f"{_key(samples, preprocess, tower.recipe, weights_sha256)}.safetensors"
        kept = _read(path, len(samples))
        if kept is not None:
            parts.append(kept)
            on_images(len(samples))
            continue
        rows = []
        for first in range(0, len(samples), batch_size):
            views = [evaluation_view(pixels.whole(s), preprocess) for s in samples[first : first + batch_size]]
            with torch.inference_mode():
                rows.append(tower(to_batch(views, preprocess).to(device)).float().cpu())
            on_images(len(views))
        parts.append(torch.cat(rows))
        _keep(path, parts[-1])
    return torch.cat(parts)


def _read(path: Path, num_images: int) -> Tensor | None:
    """Reads kept features; None if there are none, or a damaged file."""
    try:
        features = load(path.read_bytes())["features"]
    except (OSError, SafetensorError, KeyError):
        return None
    return features if features.ndim == 2 and len(features) == num_images else None


def _keep(path: Path, features: Tensor) -> None:
    try:
        write_bytes(path, save({"features": features.contiguous()}))
    except OSError as error:
        raise DataError(
            f"Cannot keep features in {path.parent}: {error.strerror}. Nothing half-written stays there; make room "
            "(the folder may be deleted at any time), and run again."
        ) from error


def _key(samples: tuple[Sample, ...], preprocess: Preprocess, recipe: str, weights_sha256: str) -> str:
    images = [sample.sha256 for sample in samples]
    return sha256_text(canonical_json([weights_sha256, to_plain(preprocess), recipe, images]))[:32]
