"""Which images show nearly the same, turned or mirrored in any of eight ways: perceptual hashes and their search."""

from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.data.decode import Pixels

MAX_DISTANCE = 48
"""Bits of 256 in which two perceptual hashes may differ; benchmarks/duplicates.py prints what that finds and misses."""

_HASH_SIZE = 16
_NUM_BITS = _HASH_SIZE * _HASH_SIZE
_THUMBNAIL_PX = 4 * _HASH_SIZE
"""The edge that the hash looks at: imagehash's own ratio, so that it need not resize again."""

_MIN_CONTRAST = 1.0
"""Standard deviation in gray levels below which an image is blank and resembles every other blank one."""

_BLOCK = 512
"""Images compared at once; their distances stay within a processor's cache."""

Signature = NDArray[np.uint64]
"""8 x 4: the 256 bits of the hash in eight orientations, the upright one first; all 0 for a blank image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NearPair:
    """Two images, by their place in the list that was searched."""

    first: int
    second: int
    distance: int
    """Differing bits of 256, in the orientation that fits best."""


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


def _distances(upright: Signature, oriented: Signature) -> NDArray[np.uint16]:
    """Counts differing bits of every pair, in the orientation that fits best."""
    best = np.full((len(upright), oriented.shape[1]), _NUM_BITS, np.uint16)
    for view in oriented:
        differing = np.zeros_like(best)
        for word in range(view.shape[1]):
            differing += np.bitwise_count(upright[:, None, word] ^ view[None, :, word])
        np.minimum(best, differing, out=best)
    return best
