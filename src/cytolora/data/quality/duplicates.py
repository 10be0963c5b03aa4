"""Near-duplicate search: perceptual hashes in eight orientations, features, and the search of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.data.imaging.decode import Pixels
from cytolora.errors import DataError

MAX_DISTANCE = 48
"""Bits of 256 in which two perceptual hashes may differ; benchmarks/duplicates.py prints what that finds and misses."""

MIN_SIMILARITY = 0.96
"""Cosine of two images' centred features from which they are near duplicates; found as the distance above was."""

_HASH_SIZE = 16
_NUM_BITS = _HASH_SIZE * _HASH_SIZE
_THUMBNAIL_PX = 4 * _HASH_SIZE
"""The edge that the hash looks at: imagehash's own ratio, so that it need not resize again."""

_MIN_CONTRAST = 1.0
"""Standard deviation in gray levels below which an image is blank and resembles every other blank one."""

_BLOCK = 512
"""Images compared at once; their distances stay within a processor's cache."""

_MAX_SIMILAR = 10_000
"""Pairs beyond which nobody looks at them, and their list outgrows the images."""

Signature = NDArray[np.uint64]
"""8 x 4: the 256 bits of the hash in eight orientations, the upright one first; all 0 for a blank image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two images, by their place in the list that was searched."""

    first: int
    second: int
    distance: int
    """Differing bits of 256, in the orientation that fits best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarPair:
    """Two images, by their place in the list that was searched."""

    first: int
    second: int
    similarity: float
    """Cosine of their centred features, at most 1."""


def signature(pixels: Pixels) -> Signature:
    """Hashes an image (DCT hash of imagehash, 16 x 16) in its eight orientations."""
    gray = Image.fromarray(pixels).convert("L")
    thumbnail = gray.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS)
    if np.asarray(thumbnail).std() < _MIN_CONTRAST:
        return np.zeros((8, _NUM_BITS // 64), np.uint64)
    views = [thumbnail, *(thumbnail.transpose(way) for way in Image.Transpose)]
    bits = np.stack([imagehash.phash(view, hash_size=_HASH_SIZE).hash.ravel() for view in views])
    return np.packbits(bits, axis=1).view(np.uint64)


def near_pairs(signatures: Sequence[Signature], max_distance: int = MAX_DISTANCE) -> list[NearPair]:
    """Finds every pair within the distance, compared in all orientations; sorted by distance, then place.

    Blank images are left out: each resembles all others.
    """
    places = np.flatnonzero([hashes.any() for hashes in signatures])
    if not len(places):
        return []
    oriented = np.stack([signatures[int(place)] for place in places], axis=1)
    pairs: list[NearPair] = []
    for start in range(0, len(places), _BLOCK):
        for other in range(start, len(places), _BLOCK):
            distances = _distances(oriented[0, start : start + _BLOCK], oriented[:, other : other + _BLOCK])
            for row, column in np.argwhere(distances <= max_distance):
                first, second = int(places[start + row]), int(places[other + column])
                if first < second:
                    pairs.append(NearPair(first=first, second=second, distance=int(distances[row, column])))
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


def similar_pairs(features: NDArray[np.floating], min_similarity: float = MIN_SIMILARITY) -> list[SimilarPair]:
    """Finds every pair of rows whose cosine, less the mean of all rows, is high enough; the most alike first.

    Raises:
        DataError: If there are more than 10,000.
    """
    if not len(features):
        return []
    centred = features - features.mean(axis=0)
    rows = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    pairs: list[SimilarPair] = []
    for start in range(0, len(rows), _BLOCK):
        similarities = rows[start : start + _BLOCK] @ rows[start:].T
        places = np.argwhere(np.triu(similarities >= min_similarity, k=1))
        if len(pairs) + len(places) > _MAX_SIMILAR:
            raise DataError(
                f"More than {_MAX_SIMILAR:,} pairs of images have features with a cosine of at least {min_similarity}, "
                "too many to look at: these features do not tell such images apart. Raise --similarity, or choose "
                "another --model."
            )
        for row, column in places:
            similarity = min(1.0, float(similarities[row, column]))
            pairs.append(SimilarPair(first=int(start + row), second=int(start + column), similarity=similarity))
    return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _distances(upright: Signature, oriented: Signature) -> NDArray[np.uint16]:
    """Counts differing bits of every pair, in the orientation that fits best."""
    best = np.full((len(upright), oriented.shape[1]), _NUM_BITS, np.uint16)
    for view in oriented:
        differing = np.zeros_like(best)
        for word in range(view.shape[1]):
            differing += np.bitwise_count(upright[:, None, word] ^ view[None, :, word])
        np.minimum(best, differing, out=best)
    return best
