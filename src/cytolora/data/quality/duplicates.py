"""Near-duplicate search: perceptual hashes in eight orientations, features, and the search of both."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.core.machine import num_cpus
from cytolora.data.imaging.decode import Pixels
from cytolora.errors import DataError

MAX_DISTANCE = 48
"""Bits of 256 in which two perceptual hashes may differ; benchmarks/duplicates.py prints what that finds and misses."""

MIN_SIMILARITY = 0.96
"""Cosine of two images' centred features from which they are near duplicates; found as the distance above was."""

_HASH_SIZE = 16
_NUM_BITS = _HASH_SIZE * _HASH_SIZE
_NUM_WORDS = _NUM_BITS // 64
_THUMBNAIL_PX = 4 * _HASH_SIZE
"""Edge of the picture that is transformed: four times the frequencies kept, as in imagehash."""
_DECIMALS = 6
"""To which frequencies are rounded, of up to 4e6: what a symmetric image does not have is exactly 0 in every order of
summation, and so are then its bits."""

_MIN_CONTRAST = 1.0
"""Standard deviation in gray levels below which an image is blank and resembles every other blank one."""

_BLOCK = 256
"""Images compared at once; their distances stay within a processor's cache."""

_MAX_SIMILAR = 10_000
"""Pairs beyond which nobody looks at them, and their list outgrows the images."""

MAX_NEAR = 100_000
"""Pairs by hashes that are listed, the nearest; more than an augmented dataset has, and 50 MB in an audit."""

_NO_PAIRS = np.empty((0, 3), np.int32)

Signature = NDArray[np.uint64]
"""8 x 4: the 256 bits of the hash in eight orientations; all 0 for a blank image. The first four are the image itself
and mirrored down, across, and both ways, the others the same of its transpose. The first word holds the 64 bits whose
frequencies are even down and across, the others those that are odd down, odd across, and odd both ways."""

_MIRRORS = ((False, False), (True, False), (False, True), (True, True))
"""Whether an orientation is mirrored down, and across."""
_PARITIES = ((0, 0), (1, 0), (0, 1), (1, 1))
"""Whether the frequencies of a word are odd, down and across."""


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
    """Hashes an image in its eight orientations, as ``imagehash.phash(..., hash_size=16)`` does in each.

    A mirrored image has the same frequencies with other signs, and a transposed one has them transposed, so that the
    image is transformed once.
    """
    gray = Image.fromarray(pixels).convert("L")
    thumbnail = np.asarray(gray.resize((_THUMBNAIL_PX, _THUMBNAIL_PX), Image.Resampling.LANCZOS), np.float64)
    if thumbnail.std() < _MIN_CONTRAST:
        return np.zeros((8, _NUM_WORDS), np.uint64)
    cosines = _cosines()
    frequencies = np.round(cosines @ thumbnail @ cosines.T, _DECIMALS)
    mirrors = _mirrors()
    views = np.concatenate([frequencies * mirrors, frequencies.T * mirrors])
    bits = views > np.median(views, axis=(1, 2), keepdims=True)
    words = [bits[:, down::2, across::2].reshape(len(views), -1) for down, across in _PARITIES]
    return np.packbits(np.concatenate(words, axis=1), axis=1).view(np.uint64)


@cache
def _mirrors() -> NDArray[np.float64]:
    """Signs by which the frequencies of an image are multiplied in each mirrored one: mirrors x down x across."""
    odd, none = np.where(np.arange(_HASH_SIZE) % 2, -1.0, 1.0), np.ones(_HASH_SIZE)
    return np.stack([np.outer(odd if down else none, odd if across else none) for down, across in _MIRRORS])


@cache
def _cosines() -> NDArray[np.float64]:
    """The lowest rows of the discrete cosine transform of type II, as scipy scales it: frequencies x pixels."""
    at = np.arange(_THUMBNAIL_PX) + 0.5
    return 2 * np.cos(np.pi / _THUMBNAIL_PX * np.outer(np.arange(_HASH_SIZE), at))


def near_pairs(
    signatures: Sequence[Signature], max_distance: int = MAX_DISTANCE, *, num_threads: int | None = None
) -> list[NearPair]:
    """Finds every pair within the distance, compared in all orientations; sorted by distance, then place.

    Raises:
        DataError: If there are more than 100,000; ``nearest_pairs`` gives the nearest of them.
    """
    pairs, number = nearest_pairs(signatures, max_distance, num_threads=num_threads)
    if number > len(pairs):
        raise DataError(
            f"{number:,} pairs of images resemble each other, more than {len(pairs):,}: too many to look at. Take a "
            "smaller distance, or one image of each scene."
        )
    return pairs


def nearest_pairs(
    signatures: Sequence[Signature],
    max_distance: int = MAX_DISTANCE,
    *,
    at_most: int | None = None,
    num_threads: int | None = None,
) -> tuple[list[NearPair], int]:
    """Finds the nearest pairs within the distance, sorted by distance, then place, and counts all.

    Blank images are left out: each resembles all others. Every pair is looked at, and no index saves that: the hashes
    of two cells differ in about 114 bits (98 to 126 in 98 % of Herlev's pairs), too evenly for the triangle inequality,
    and those of a near pair in too many for parts that are equal.

    Args:
        at_most: Pairs that are returned; None: ``MAX_NEAR``.
    """
    at_most = MAX_NEAR if at_most is None else at_most
    places = np.flatnonzero([hashes.any() for hashes in signatures])
    if not len(places):
        return [], 0
    oriented = np.stack([signatures[int(place)] for place in places], axis=1)
    reach = _reach(oriented, max_distance)
    views = np.ascontiguousarray(oriented[:: len(_MIRRORS)].transpose(0, 2, 1))  # the image, its transpose

    def within(start: int, other: int) -> NDArray[np.int32]:
        """Compares two blocks: pairs x (distance, first, second)."""
        first, second = slice(start, start + _BLOCK), slice(other, other + _BLOCK)
        is_near = _least(views[0][:, first], views[:, :, second]) <= reach[second]
        if not is_near.any():
            return _NO_PAIRS
        candidates = np.argwhere(is_near) + np.array([start, other])
        rows, columns = candidates[candidates[:, 0] < candidates[:, 1]].T
        distances = _distances(oriented[0, rows], oriented[:, columns])
        found = np.stack([distances, places[rows], places[columns]], axis=1)
        return found[distances <= max_distance].astype(np.int32)

    def row_of(start: int) -> tuple[NDArray[np.int32], int]:
        return _nearest((within(start, other) for other in range(start, len(places), _BLOCK)), at_most)

    pool = ThreadPoolExecutor(num_threads or num_cpus())
    try:  # a task a row of blocks: one a pair of blocks would be 300,000 of 200,000 images, and take more than these
        rows, counts = [], 0
        for row, number in pool.map(row_of, range(0, len(places), _BLOCK)):
            rows, counts = [_nearest([*rows, row], at_most)[0]], counts + number
    finally:
        pool.shutdown(cancel_futures=True)
    return [NearPair(first=one, second=two, distance=bits) for bits, one, two in rows[0].tolist()], counts


def _nearest(parts: Iterable[NDArray[np.int32]], at_most: int) -> tuple[NDArray[np.int32], int]:
    """Returns the nearest of many pairs in their order, and the number of all; holds few more than it returns."""
    held, number = _NO_PAIRS, 0
    for part in parts:
        if len(part):
            number += len(part)
            joined = np.concatenate([held, part])
            held = joined[np.lexsort(joined.T[::-1])[:at_most]]
    return held, number


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


def _distances(upright: NDArray[np.uint64], oriented: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Counts differing bits of pairs in the orientation that fits best; pairs x words, orientations x pairs x words."""
    return np.bitwise_count(upright ^ oriented).sum(axis=-1, dtype=np.int64).min(axis=0)


def _least(upright: NDArray[np.uint64], views: NDArray[np.uint64]) -> NDArray[np.int8]:
    """Estimates the distance of every pair in the best orientation, less 96, from a quarter of the counts.

    Mirroring changes the sign of odd frequencies and so turns their bits round, up to those between the medians of both
    orientations (``_reach``): of a word that differs in n of its 64 bits, the mirrored one differs in 64 - n. With
    a, b and c counted from the middle, 32, the best of the four is the even word's count + 96 + min(c - |a + b|,
    -c - |a - b|).

    Args:
        upright: words x first images.
        views: 2 x words x second images, these and their transposes.
    """
    best: NDArray[np.int8] | None = None
    for view in views:
        counts = np.bitwise_count(upright[:, :, None] ^ view[:, None]).view(np.int8)
        counts[1:] -= 32
        even, down, across, both = counts
        even += np.minimum(both - np.abs(down + across), -both - np.abs(down - across))
        best = even if best is None else np.minimum(best, even, out=best)
    assert best is not None
    return best


def _reach(oriented: NDArray[np.uint64], max_distance: int) -> NDArray[np.int8]:
    """Returns up to which estimate of ``_least`` a pair may be within the distance, for every second image of a pair.

    The estimate is off by at most the bits that mirroring does not turn round.
    """
    turned = np.array(
        [[-(down * odd_down ^ across * odd_across) for odd_down, odd_across in _PARITIES] for down, across in _MIRRORS]
    ).astype(np.uint64)  # all bits of a word, or none
    off = [
        np.bitwise_count(oriented[start + at] ^ oriented[start] ^ turned[at]).sum(axis=-1, dtype=np.int64)
        for start in (0, len(_MIRRORS))
        for at in range(len(_MIRRORS))
    ]
    return np.minimum(max_distance - 96 + np.max(off, axis=0), np.iinfo(np.int8).max).astype(np.int8)
