"""Frozen features, computed once and cached under what they depend on: weights, preprocessing, images.

A cache file is a safetensors file behind a checksum; one that fails it is computed anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from safetensors.torch import load, save
from torch import Tensor

from cytolora.config.run import AugmentSpec, Preprocess, to_plain
from cytolora.core.checksum import add_checksum, read_checked
from cytolora.core.files import canonical_json, sha256_text, write_bytes
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.views import evaluation_view, to_batch, training_view
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError, WeightsError
from cytolora.models.encoder import Encoder

_CHUNK = 1024
"""Images per cache file: what an interruption loses at most."""
_NUM_PROBED = 8
_SEED_DIGITS = 16
"""Hexadecimal, of an image's hash: the seed of its one random view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some images of a manifest, in its order, with their features."""

    samples: tuple[Sample, ...]
    features: Tensor
    """float32 [images, feature_dim], on the CPU."""


def chunks(
    encoder: Callable[[], Encoder],
    manifest: Manifest,
    preprocess: Preprocess,
    *,
    recipe: str,
    weights_sha256: str,
    pixels: PixelCache,
    cache: Path,
    device: torch.device,
    augment: AugmentSpec | None = None,
    batch_size: int = 64,
    on_images: Callable[[int], None] = lambda images: None,
) -> Iterator[Chunk]:
    """Yields the features of all images of a manifest in its order, some at a time: memory does not grow with them.

    Args:
        encoder: Gives the encoder; not called while everything is kept from an earlier time.
        recipe: The encoder's own, ``BackboneSpec.recipe``.
        cache: Folder that keeps features; a second call with the same weights, preprocessing and images only reads.
        augment: One random view of each image instead of the evaluation view; equal images give equal views.
        on_images: Told the number of images after every batch.

    Raises:
        DataError: If an image cannot be read, or the disk is full.
        WeightsError: If the encoder gives features that are no finite numbers.
    """

    def view(sample: Sample) -> Tensor:
        if augment is None:
            return _evaluation_view(sample, pixels.whole(sample), preprocess)
        return training_view(pixels.native(sample), preprocess, augment, seed=(int(sample.sha256[:_SEED_DIGITS], 16),))

    for samples in _divided(manifest):
        path = cache / _name(samples, preprocess, augment, recipe, weights_sha256)
        features = _read(path, len(samples))
        if features is None:
            rows = _computed(encoder().to(device), samples, preprocess, view, device, batch_size, on_images)
            features = torch.cat(list(rows))
            _require_finite(features, samples)
            _keep(path, features)
        else:
            on_images(len(samples))
        yield Chunk(samples=samples, features=features)


def num_missing(manifest: Manifest, preprocess: Preprocess, *, recipe: str, weights_sha256: str, cache: Path) -> int:
    """Counts the images of which ``chunks``, asked for evaluation views, would have to compute the features."""
    return sum(
        len(samples)
        for samples in _divided(manifest)
        if _read(cache / _name(samples, preprocess, None, recipe, weights_sha256), len(samples)) is None
    )


def seconds_per_image(encoder: Encoder, size_px: int, device: torch.device) -> float:
    """Times a small batch of empty images through an encoder, after one to warm up."""
    encoder, empty = encoder.to(device), torch.zeros(_NUM_PROBED, 3, size_px, size_px, device=device)
    with torch.inference_mode():
        encoder(empty)
        started = perf_counter()
        encoder(empty).cpu()  # waits for a device that computes on its own
        return (perf_counter() - started) / _NUM_PROBED


def _divided(manifest: Manifest) -> Iterator[tuple[Sample, ...]]:
    for start in range(0, len(manifest.samples), _CHUNK):
        yield manifest.samples[start : start + _CHUNK]


def _evaluation_view(sample: Sample, pixels: Pixels, preprocess: Preprocess) -> Tensor:
    try:
        return evaluation_view(pixels, preprocess)
    except DataError as error:
        raise DataError(f"{sample.path}: {error} Take it out of the dataset, or cut it to the cell.") from error


def _computed(
    encoder: Encoder,
    samples: tuple[Sample, ...],
    preprocess: Preprocess,
    view: Callable[[Sample], Tensor],
    device: torch.device,
    batch_size: int,
    on_images: Callable[[int], None],
) -> Iterator[Tensor]:
    for first in range(0, len(samples), batch_size):
        views = [view(sample) for sample in samples[first : first + batch_size]]
        with torch.inference_mode():
            yield encoder(to_batch(views, preprocess).to(device)).float().cpu()
        on_images(len(views))


def _read(path: Path, num_images: int) -> Tensor | None:
    """Reads kept features; None if there are none, or others than ``_keep`` was given under this name."""
    content = read_checked(path, key=path.name)
    if content is None:
        return None
    features = load(content)["features"]
    is_whole = features.ndim == 2 and len(features) == num_images and features.dtype == torch.float32
    return features if is_whole and bool(torch.isfinite(features).all()) else None


def _require_finite(features: Tensor, samples: tuple[Sample, ...]) -> None:
    wrong = (~torch.isfinite(features)).any(dim=1).nonzero().flatten().tolist()
    if wrong:
        raise WeightsError(
            f"The encoder's features of {len(wrong)} of {len(samples)} images are no finite numbers (first "
            f"{samples[wrong[0]].path}): the checkpoint is damaged, or of another model. Fetch it again."
        )


def _keep(path: Path, features: Tensor) -> None:
    try:
        write_bytes(path, add_checksum(save({"features": features.contiguous()}), key=path.name))
    except OSError as error:
        raise DataError(
            f"Cannot keep features in {path.parent}: {error.strerror}. Nothing half-written stays there; make room "
            "(the folder may be deleted at any time), and run again."
        ) from error


def _name(
    samples: tuple[Sample, ...], preprocess: Preprocess, augment: AugmentSpec | None, recipe: str, weights_sha256: str
) -> str:
    images = [sample.sha256 for sample in samples]
    random = [] if augment is None else [to_plain(augment)]
    digest = sha256_text(canonical_json([weights_sha256, to_plain(preprocess), recipe, images, *random]))
    return f"{digest[:32]}.safetensors"
