"""Perceptual hashes are imagehash's in every orientation, and the search finds what comparing all pairs finds."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import imagehash
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.data.quality import duplicates
from cytolora.data.quality.duplicates import NearPair, Signature, near_pairs, nearest_pairs, signature
from cytolora.errors import DataError

_FREQUENCIES = np.arange(256).reshape(16, 16)
_BY_WORD = np.concatenate(
    [_FREQUENCIES[down::2, across::2].ravel() for down, across in ((0, 0), (1, 0), (0, 1), (1, 1))]
)
"""Which frequency each bit of a signature is of."""


def picture(seed: int) -> Image.Image:
    """A smooth random picture of any shape, like no other seed's."""
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(3, 9, 2)
    noise = generator.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    width, height = generator.integers(30, 120, 2)
    return Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC)


def symmetric(seed: int) -> Image.Image:
    half = np.asarray(picture(seed))
    return Image.fromarray(np.concatenate([half, half[:, ::-1]], axis=1))


def bits(hashes: Signature) -> np.ndarray:
    """8 x 256, in the order of frequencies."""
    found = np.empty((8, 256), bool)
    found[:, _BY_WORD] = np.unpackbits(hashes.view(np.uint8).reshape(8, -1), axis=1)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_eight_hashes_are_those_of_imagehash_on_the_turned_and_mirrored_image(seed: int):
    image = picture(seed)
    gray = image.convert("L").resize((64, 64), Image.Resampling.LANCZOS)
    way = Image.Transpose
    ways = (None, way.FLIP_TOP_BOTTOM, way.FLIP_LEFT_RIGHT, way.ROTATE_180)
    ways += (way.TRANSPOSE, way.ROTATE_90, way.ROTATE_270, way.TRANSVERSE)
    found = bits(signature(np.asarray(image)))
    for at, one in enumerate(ways):
        expected = imagehash.phash(gray if one is None else gray.transpose(one), hash_size=16)
        assert np.array_equal(found[at].reshape(16, 16), expected.hash), one


def slowly(signatures: list[Signature], max_distance: int) -> list[NearPair]:
    """Every pair, the first upright, the second in all orientations."""
    pairs = []
    for second, others in enumerate(signatures):
        for first, (upright, *_) in enumerate(signatures[:second]):
            distance = min(int(np.bitwise_count(upright ^ other).sum()) for other in others)
            if upright.any() and others.any() and distance <= max_distance:
                pairs.append(NearPair(first=first, second=second, distance=distance))
    return sorted(pairs, key=lambda pair: (pair.distance, pair.first, pair.second))


@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(range(8)), st.booleans()), max_size=12), st.integers(0, 140)
)
def test_the_pairs_and_distances_are_those_of_comparing_all(kinds: list[tuple[int, int, bool]], max_distance: int):
    """Also of symmetric images, half of whose bits hang on a median near 0, and of blank ones."""
    signatures = []
    for number, (seed, turns, is_symmetric) in enumerate(kinds):
        image = symmetric(seed) if is_symmetric else picture(seed)
        turned = image.rotate(90 * (turns % 4), expand=True)
        if turns > 3:
            turned = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = np.asarray(turned.resize((turned.width + number, turned.height)))
        signatures.append(signature(pixels if seed else np.full_like(pixels, 200)))
    assert near_pairs(signatures, max_distance) == slowly(signatures, max_distance)


_MIRRORED, _TRANSPOSED = [1, 0, 3, 2, 6, 7, 4, 5], [4, 5, 6, 7, 0, 1, 2, 3]
"""Which orientation of an image each of its mirrored or transposed one is."""


def planted(seed: int, number: int) -> list[Signature]:
    """Hashes of noise, some of it symmetric, and of copies: turned, mirrored, and with bits changed.

    A changed bit changes in one orientation alone, as no image's does.
    """
    random = np.random.default_rng(seed)
    found: list[Signature] = []
    for _ in range(number):
        if found and random.random() < 0.6:
            hashes = found[random.integers(len(found))].copy()
            ways = (_MIRRORED, _TRANSPOSED, random.permutation(8).tolist())
            hashes = hashes[ways[random.integers(3)]]
            flips = random.random((8, 256)) < random.choice([0.0, 0.02, 0.1, 0.18, 0.2])
            hashes ^= np.packbits(flips, axis=1).view(np.uint64)
        else:
            pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            if random.random() < 0.3:
                pixels[:, 32:] = pixels[:, 31::-1]
            hashes = signature(pixels)
        found.append(hashes)
    return found


@pytest.mark.parametrize(("rows", "columns", "block"), [(16, 8192, 256), (3, 8, 7), (5, 11, 5)])
def test_the_pairs_of_planted_hashes_are_those_of_comparing_all_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, rows: int, columns: int, block: int
):
    for name, value in (("_ROWS", rows), ("_COLUMNS", columns), ("_BLOCK", block)):
        monkeypatch.setattr(duplicates, name, value)
    signatures = planted(rows, 40)
    every = slowly(signatures, 256)
    for max_distance in (0, 20, 48, 90, 256):
        expected = [pair for pair in every if pair.distance <= max_distance]
        assert near_pairs(signatures, max_distance) == expected


def test_an_image_that_is_symmetric_has_one_hash_however_it_is_mirrored():
    for seed in range(30):
        pixels = np.asarray(symmetric(seed))
        (pair,) = near_pairs([signature(pixels), signature(pixels[:, ::-1].copy())], 256)
        assert pair.distance == 0


def test_many_pairs_over_many_blocks_are_found():
    base = [signature(np.asarray(picture(seed))) for seed in range(600)]
    mirrored = [signature(np.asarray(picture(seed))[:, ::-1]) for seed in range(600)]
    pairs = near_pairs(base + mirrored, max_distance=10)
    assert {(pair.first, pair.second) for pair in pairs} == {(seed, seed + 600) for seed in range(600)}
    assert near_pairs(base + mirrored, max_distance=10, num_threads=1) == pairs


def test_no_images_have_no_pairs():
    assert near_pairs([]) == []


def _near_copies(number: int) -> list[Signature]:
    """Signatures that all lie within 8 bits of each other, no two equal."""
    base = signature(np.asarray(picture(1)))
    found = []
    for at in range(number):
        bits_of = np.unpackbits(base.view(np.uint8).reshape(8, -1), axis=1)
        flips = [(at >> shift & 15) + 16 * shift // 4 for shift in (0, 4, 8)]
        bits_of[:, flips] ^= 1
        found.append(np.packbits(bits_of, axis=1).view(np.uint64))
    return found


def test_of_very_many_pairs_the_nearest_are_returned_and_all_are_counted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "_BLOCK", 32)
    signatures = _near_copies(130)
    every = slowly(signatures, 48)
    assert len(every) == 130 * 129 // 2
    for at_most in (1, 7, 300, 100_000):
        assert nearest_pairs(signatures, 48, at_most=at_most) == (every[:at_most], len(every))
        assert nearest_pairs(signatures, 48, at_most=at_most, num_threads=1) == (every[:at_most], len(every))


def test_where_every_pair_is_asked_for_too_many_are_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(duplicates, "MAX_NEAR", 10)
    with pytest.raises(DataError, match=r"^1,225 pairs of images resemble each other, more than 10: too many"):
        near_pairs(_near_copies(50))
    assert len(near_pairs(_near_copies(5))) == 10


def test_the_search_queues_no_more_than_a_task_a_row_of_blocks(monkeypatch: pytest.MonkeyPatch):
    """A task a pair of blocks takes more memory than the images' hashes: half a GiB of 200,000 images."""
    submitted: list[int] = []

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            submitted.append(1)
            return super().submit(*arguments, **options)

    monkeypatch.setattr(duplicates, "ThreadPoolExecutor", Counting)
    monkeypatch.setattr(duplicates, "_BLOCK", 4)
    signatures = [signature(np.asarray(picture(seed))) for seed in range(60)]
    assert near_pairs([*signatures, signatures[3]], 10) == [NearPair(first=3, second=60, distance=0)]
    assert 0 < len(submitted) <= 16


def test_an_error_of_one_block_ends_the_search(monkeypatch: pytest.MonkeyPatch):
    calls: list[int] = []

    def fail(*_: Any) -> None:
        calls.append(1)
        time.sleep(0.01)
        raise MemoryError

    monkeypatch.setattr(duplicates, "_distances", fail)
    monkeypatch.setattr(duplicates, "_BLOCK", 2)
    signatures = [signature(np.asarray(picture(seed))) for seed in range(40)] * 10
    with pytest.raises(MemoryError):
        near_pairs(signatures, num_threads=1)
    assert len(calls) < 100
