"""Frozen features, computed once per image and cached under what they depend on: weights, preprocessing, image.

The cache (core/shards.py) is keyed by image, so that datasets, subsets and commands share it. This takes features that
do not depend on which other images are computed with them. On a CPU images go through the encoder one by one: in a
batch, torch's fused attention with a single query, MKL's batched products, and GELU at the ends of what a thread is
given round differently by position. Elsewhere every pass has the same shape, the last one padded.
tests/training/test_features.py compares features bit for bit for every encoder family.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import perf_counter

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from cytolora.config.run import AugmentSpec, Preprocess, to_plain
from cytolora.core.cache_folder import tell_unkept
from cytolora.core.files import canonical_json
from cytolora.core.shards import MAX_ENTRIES, ShardStore
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.views import evaluation_view, to_batch, training_view
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError, WeightsError
from cytolora.models.encoder import Encoder

_CHUNK = MAX_ENTRIES
"""Images held in memory at once, and computed before they are written: what an interruption loses at most."""
_ACCELERATOR_BATCH_SIZE = 64
_NUM_PROBED = 8
_ONE_AT_A_TIME = Lock()
"""Of those that compute features on a CPU: the number of torch's threads is one for the whole process."""
_SEED_DIGITS = 16
"""Hexadecimal, of an image's hash: the seed of its one random view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some images of a manifest, in its order, with their features."""

    samples: tuple[Sample, ...]
    features: Float32[Tensor, "images features"]
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
    on_images: Callable[[int], None] = lambda images: None,
) -> Iterator[Chunk]:
    """Yields the features of all images of a manifest in its order, some at a time: memory does not grow with them.

    Args:
        encoder: Gives the encoder; not called while all features are cached.
        recipe: The encoder's own, ``BackboneSpec.recipe``.
        cache: Folder of cached features; images that were computed with the same weights and preprocessing are read.
        augment: One random view of each image instead of the evaluation view; equal images give equal views.
        pixels: Decodes the images; none is kept.
        on_images: Told the number of images after every batch.

    Raises:
        DataError: If an image cannot be read.
        WeightsError: If the encoder gives features that are no finite numbers.
    """

    def view(sample: Sample) -> Tensor:
        if augment is None:
            return _evaluation_view(sample, pixels.whole(sample), preprocess)
        image, seed = pixels.native(sample, keep=False), int(sample.sha256[:_SEED_DIGITS], 16)
        return training_view(image, preprocess, augment, seed=(seed,))

    store = _store(cache, preprocess, augment, recipe, weights_sha256)
    for samples in _divided(manifest):
        features = _read(store, samples)
        missing = list({one.pixels_key: one for one in samples if one.pixels_key not in features}.values())
        if len(missing) < len(samples):
            on_images(len(samples) - len(missing))
        if missing:
            with closing(encoded(encoder().to(device), missing, view, preprocess, device, on_images)) as batches:
                for some, rows in batches:
                    features |= {sample.pixels_key: row for sample, row in zip(some, rows, strict=True)}
            _require_finite(missing, features)
            _add(store, cache, {sample.pixels_key: features[sample.pixels_key] for sample in missing})
        yield Chunk(samples=samples, features=torch.stack([features[sample.pixels_key] for sample in samples]))


def encoded(
    frozen: Encoder,
    samples: Sequence[Sample],
    view: Callable[[Sample], Tensor],
    preprocess: Preprocess,
    device: torch.device,
    on_images: Callable[[int], None] = lambda images: None,
) -> Generator[tuple[Sequence[Sample], Float32[Tensor, "images features"]], None, None]:
    """Yields some images with their features (``encode``), in the order given; none is read from a cache or kept.

    Args:
        view: Of an image; called in the threads that compute.
        on_images: Told the number of images after every batch.
    """

    def rows_of(some: Sequence[Sample]) -> Tensor:
        return encode(frozen, [view(sample) for sample in some], preprocess, device)

    batches = list(_batches(samples, batch_size(device)))
    with side_by_side(device) as mapped:
        for some, rows in zip(batches, mapped(rows_of, batches), strict=True):
            yield some, rows
            on_images(len(some))


@contextmanager
def side_by_side(device: torch.device) -> Iterator[Callable[..., Iterator[Tensor]]]:
    """Gives what maps batches: on a CPU as many at a time as torch has threads, and each in one of them.

    Threads that share one image wait for each other at every product: with two, a ViT-B/16 takes a tenth longer so, and
    a small encoder gains nothing from the second (docs/performance.md).
    """
    if device.type != "cpu":
        yield map
        return
    with _ONE_AT_A_TIME:
        num_threads = torch.get_num_threads()
        if num_threads == 1:
            yield map
            return
        try:
            pool = ThreadPoolExecutor(num_threads, initializer=torch.set_num_threads, initargs=(1,))
            try:
                yield pool.map
            finally:
                pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(num_threads)  # the number is also that of threads to come


def num_missing(manifest: Manifest, preprocess: Preprocess, *, recipe: str, weights_sha256: str, cache: Path) -> int:
    """Counts the images of which ``chunks``, asked for evaluation views, would have to compute the features."""
    images = {sample.pixels_key for sample in manifest.samples}
    return len(images - _store(cache, preprocess, None, recipe, weights_sha256).present(images))


def encode(
    encoder: Encoder, views: Sequence[Tensor], preprocess: Preprocess, device: torch.device
) -> Float32[Tensor, "images features"]:
    """Returns features, float32 [images, feature_dim], that are equal bit for bit in whatever company an image is.

    Args:
        views: Of at most ``batch_size(device)`` images; fewer are padded to it with the last one, which is thrown away.
    """
    padded = [*views, *[views[-1]] * (batch_size(device) - len(views))]
    with torch.inference_mode():
        return encoder(to_batch(padded, preprocess).to(device)).float().cpu()[: len(views)]


def batch_size(device: torch.device) -> int:
    """Returns the number of images in every pass of ``encode``."""
    return 1 if device.type == "cpu" else _ACCELERATOR_BATCH_SIZE


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


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for first in range(0, len(samples), size):
        yield samples[first : first + size]


def _require_finite(samples: Sequence[Sample], features: dict[str, Tensor]) -> None:
    wrong = [sample.path for sample in samples if not torch.isfinite(features[sample.pixels_key]).all()]
    if wrong:
        raise WeightsError(
            f"The encoder's features of {len(wrong)} of {len(samples)} images are no finite numbers (first "
            f"{wrong[0]}): the checkpoint is damaged, or of another model. Fetch it again."
        )


def _store(
    cache: Path, preprocess: Preprocess, augment: AugmentSpec | None, recipe: str, weights_sha256: str
) -> ShardStore:
    random = [] if augment is None else [to_plain(augment)]
    return ShardStore(cache, key=canonical_json(["features", weights_sha256, to_plain(preprocess), recipe, *random]))


def _read(store: ShardStore, samples: Sequence[Sample]) -> dict[str, Tensor]:
    rows = store.read(sample.pixels_key for sample in samples)
    return {image: torch.from_numpy(np.frombuffer(row, "<f4").astype(np.float32)) for image, row in rows.items()}


def _add(store: ShardStore, cache: Path, features: dict[str, Tensor]) -> None:
    try:
        store.add({image: row.numpy().astype("<f4").tobytes() for image, row in features.items()})
    except OSError as error:
        tell_unkept("features", cache, error, "They are computed again whenever they are needed")
