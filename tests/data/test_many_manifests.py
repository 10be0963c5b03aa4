"""Thousands of random manifests: what must hold of every split and every draw."""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from cytolora.config.run import SUBSETS, Sampling, SplitSpec
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.splits import assign_subsets, draw


def _samples(rng: random.Random) -> list[Sample]:
    """1 to 4 classes from 3 to 12 groups each; some groups mix classes, some images have none."""
    classes = "abcd"[: rng.randint(1, 4)]
    samples = [
        Sample(path=f"{label}/{group:02}-{number}.png", label=label, group=f"{label}{group}")
        for label in classes
        for group in range(rng.randint(3, 12))
        for number in range(rng.randint(1, 9))
    ]
    for group in range(rng.randint(0, 4)):
        samples += [Sample(path=f"mixed{group}/{label}.png", label=label, group=f"mixed{group}") for label in classes]
    return samples + [Sample(path=f"alone{number}.png", label=classes[0]) for number in range(rng.randint(0, 9))]


def _manifest(samples: list[Sample]) -> Manifest:
    classes = tuple(sorted({sample.label for sample in samples}))
    return Manifest(name="toy", root=Path("nowhere"), classes=classes, samples=tuple(samples))


def _check(rng: random.Random) -> None:
    samples, seed = _samples(rng), rng.randint(0, 9)
    divided = assign_subsets(_manifest(samples), SplitSpec(seed=seed))
    homes = {(sample.group or sample.path, sample.subset) for sample in divided.samples}
    assert len(homes) == len({unit for unit, _ in homes})
    counts = divided.counts()
    assert all(row[subset] for row in counts.values() for subset in SUBSETS)
    most = min(row["train"] for row in counts.values())
    drawn = [draw(divided, Sampling(shots=shots), seed) for shots in sorted({1, (most + 1) // 2, most})]
    for few, many in pairwise(drawn):
        assert set(few.train) <= set(many.train)
        assert set(few.val) <= set(many.val)
        assert few.test == many.test == divided.subset("test")
    rng.shuffle(samples)  # a file system may list them in any order
    again = assign_subsets(_manifest(samples), SplitSpec(seed=seed))
    assert again.samples == divided.samples
    assert draw(again, Sampling(shots=most), seed).fingerprint == drawn[-1].fingerprint


@pytest.mark.parametrize("start", range(0, 2000, 500))
@pytest.mark.slow
def test_no_group_is_torn_shots_are_nested_and_order_does_not_matter(start: int):
    """500 manifests each; the number is the seed that makes one of them again."""
    for number in range(start, start + 500):
        _check(random.Random(number))
