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
"""Images whose comparisons are one task."""

_ROWS, _COLUMNS = 16, 8192
"""Images compared at once: long rows, in which numpy is fastest, few enough for what they hold to stay in a cache."""

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
_TRANSPOSED = [0, 2, 1, 3]
"""Of which orientation each mirrored transpose is the transpose."""
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
    mirrored = frequencies * _mirrors()
    middle = [_NUM_BITS // 2 - 1, _NUM_BITS // 2]
    medians = np.partition(mirrored.reshape(len(_MIRRORS), -1), middle)[:, middle].mean(axis=1)[:, None, None]
    bits = np.concatenate([mirrored > medians, frequencies.T * _mirrors() > medians[_TRANSPOSED]])
    words = [bits[:, down::2, across::2].reshape(len(bits), -1) for down, across in _PARITIES]
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

    Blank images are left out: each resembles all others. Every pair is looked at, by a bound of its distance
    (``_bound``) that leaves about one in a thousand to be compared in all orientations. No index saves that: the hashes
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
    parts = [_parts(hashes) for hashes in oriented]
    first, second = parts[0], (parts[0], parts[len(_MIRRORS)])
    reach = _reach(parts, max_distance)

    def within(rows: slice, columns: slice) -> NDArray[np.int32]:
        """Compares images with images: pairs x (distance, first, second)."""
        views = tuple(view[:, columns] for view in second)
        one, other = _where(_bound(first[:, rows, None], views) <= reach[columns])
        one, other = one + rows.start, other + columns.start
        is_first = one < other
        one, other = one[is_first], other[is_first]
        if not len(one):
            return _NO_PAIRS
        distances = _distances(oriented[0, one], oriented[:, other])
        found = np.stack([distances, places[one], places[other]], axis=1)
        return found[distances <= max_distance].astype(np.int32)

    def row_of(start: int) -> tuple[NDArray[np.int32], int]:
        end = min(start + _BLOCK, len(places))
        return _nearest(
            (
                within(slice(row, min(row + _ROWS, end)), slice(column, column + _COLUMNS))
                for row in range(start, end, _ROWS)
                for column in range(row, len(places), _COLUMNS)
            ),
            at_most,
        )

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


def _where(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns rows and columns of what is true; eight values at once, as it is rare."""
    packed = np.packbits(mask)
    bytes_set = np.flatnonzero(packed)
    of_byte, bit = np.nonzero(np.unpackbits(packed[bytes_set, None], axis=1))
    return np.divmod(8 * bytes_set[of_byte] + bit, mask.shape[1])


def _parts(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns what ``_bound`` compares of hashes, each image's word of even frequencies, crossed one, and odd one.

    The crossed word holds where frequencies odd down differ from their transposes, which are odd across: transposing
    the image changes none of its bits, mirroring all or none.

    Args:
        hashes: images x words.

    Returns:
        3 x images.
    """
    even, down, across, both = hashes.T
    rows = np.unpackbits(np.ascontiguousarray(across).view(np.uint8).reshape(-1, 8, 1), axis=2)
    transposed = np.packbits(rows.transpose(0, 2, 1), axis=2).reshape(-1, 8).view(np.uint64)[:, 0]
    return np.stack([even, down ^ transposed, both])


def _bound(first: NDArray[np.uint64], views: Sequence[NDArray[np.uint64]]) -> NDArray[np.int8]:
    """Bounds the distance of images in their best orientation from below, less 64, by five counts in place of 32.

    Mirroring changes the sign of odd frequencies and so turns all bits of a word round, up to those between the medians
    of both orientations (``_reach``): of a word that differs in n of 64 bits, the mirrored one differs in 64 - n, and
    the lesser is 32 - abs(n - 32). The crossed word differs in no more bits than the two that it is made of. Each of
    the three words is taken in the orientation that fits it best, and their sum so is no more than that of all words in
    one orientation.

    Args:
        first: What ``_parts`` returns of first images.
        views: The same of second ones, and of their transposes.
    """
    even, crossed, both = first
    upright, transposed = views
    bound = np.minimum(_differing(even, upright[0]), _differing(even, transposed[0]))
    bound -= _from_middle(crossed, upright[1])
    bound -= np.maximum(_from_middle(both, upright[2]), _from_middle(both, transposed[2]))
    return bound


def _differing(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int8]:
    return np.bitwise_count(one ^ other).view(np.int8)


def _from_middle(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.int8]:
    counts = _differing(one, other)
    counts -= 32
    return np.abs(counts, out=counts)


def _reach(parts: Sequence[NDArray[np.uint64]], max_distance: int) -> NDArray[np.int8]:
    """Returns up to which value of ``_bound`` a pair may be within the distance, for every second image of a pair.

    A second image's orientations are not quite what ``_bound`` takes them for: each lies off by its own bound to the
    image, and that of a pair may be so much too high, by the triangle inequality of each word.
    """
    off = np.max([_bound(view, (parts[0], parts[len(_MIRRORS)])) for view in parts], axis=0)
    return np.minimum(max_distance + off.astype(np.int64), np.iinfo(np.int8).max).astype(np.int8)
