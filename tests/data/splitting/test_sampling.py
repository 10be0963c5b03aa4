"""Validation size of its own, and draws in natural prevalence: counts, nesting and seeds."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.config.run import SUBSETS, Sampling, Subset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.splits import draw
from cytolora.errors import ConfigError


def _manifest(sizes: dict[str, tuple[int, int, int]]) -> Manifest:
    """Classes with their own number of images in train, val and test; three images a group."""
    samples = tuple(
        Sample(
            path=f"{subset}/{label}/{number:03}.png",
            label=label,
            subset=subset,
            group=f"{subset}-{label}-{number // 3}",
            sha256="0",
        )
        for label, of_class in sizes.items()
        for subset, size in zip(SUBSETS, of_class, strict=True)
        for number in range(size)
    )
    ordered = tuple(sorted(samples, key=lambda sample: sample.path))
    return Manifest(name="toy", root=Path("nowhere"), classes=tuple(sizes), samples=ordered)


SIZES = st.dictionaries(
    st.sampled_from(["asc", "hsil", "lsil", "nilm"]),
    st.tuples(st.integers(4, 30), st.integers(1, 30), st.integers(1, 5)),
    min_size=2,
)


def _counts(samples: tuple[Sample, ...]) -> Counter[str]:
    return Counter(sample.label for sample in samples)


@given(sizes=SIZES, shots=st.integers(1, 4), val_shots=st.integers(0, 40), seed=st.integers(0, 2**63 - 1))
def test_validation_has_its_own_number_of_every_class_or_all_there_are(sizes, shots, val_shots, seed):
    manifest = _manifest(sizes)
    split = draw(manifest, Sampling(shots=shots, val_shots=val_shots), seed)
    wanted = {label: min(val_shots, of_class[1]) for label, of_class in sizes.items()}
    assert _counts(split.val) == Counter({label: number for label, number in wanted.items() if number})
    assert split.train == draw(manifest, Sampling(shots=shots), seed).train, "the labels of training are as before"
    assert split.test == manifest.subset("test")


@given(sizes=SIZES, seed=st.integers(0, 2**32))
def test_val_shots_that_the_rule_would_give_draw_the_images_of_the_rule(sizes, seed):
    manifest = _manifest(sizes)
    assert draw(manifest, Sampling(shots=2, val_shots=2), seed) == draw(manifest, Sampling(shots=2), seed)
    assert draw(manifest, Sampling(val_shots=1), seed).train == draw(manifest, Sampling(), seed).train
    assert set(_counts(draw(manifest, Sampling(val_shots=1), seed).val).values()) == {1}
    part = draw(manifest, Sampling(fraction=0.5, val_shots=1), seed)
    assert part.train == draw(manifest, Sampling(fraction=0.5), seed).train
    assert set(_counts(part.val).values()) == {1}


@given(sizes=SIZES, shots=st.integers(1, 3), seed=st.integers(0, 2**63 - 1))
def test_a_natural_draw_has_as_many_labels_no_image_twice_and_is_part_of_a_larger_one(sizes, shots, seed):
    manifest = _manifest(sizes)
    natural = [draw(manifest, Sampling(shots=n, sampling="natural"), seed) for n in (shots, shots + 1)]
    assert natural[0] == draw(manifest, Sampling(shots=shots, sampling="natural"), seed)
    paths = [{sample.path for sample in split.train} for split in natural]
    assert len(natural[0].train) == len(paths[0]) == shots * len(sizes)
    assert paths[0] < paths[1]
    assert len(natural[0].val) == min(min(shots, 4) * len(sizes), len(manifest.subset("val")))
    for split in natural:
        groups = [{sample.group for sample in part} for part in (split.train, split.val, split.test)]
        assert sum(map(len, groups)) == len(set().union(*groups)), "no group stands in two subsets"


def test_natural_draws_have_the_prevalence_of_the_data_over_many_seeds():
    """A simple random sample without replacement: the mean is n times the share, the variance hypergeometric."""
    manifest = _manifest({"rare": (5, 1, 1), "usual": (95, 1, 1)})
    rare = [_counts(draw(manifest, Sampling(shots=10, sampling="natural"), seed).train)["rare"] for seed in range(600)]
    variance = 20 * 0.05 * 0.95 * (100 - 20) / 99
    assert np.mean(rare) == pytest.approx(20 * 0.05, abs=4 * (variance / 600) ** 0.5)
    assert np.var(rare) == pytest.approx(variance, rel=0.25)
    assert 0 in rare, "a rare class may get none"


def test_seed_1_draws_these_images_in_natural_prevalence():
    """Pins the draw: a change here changes every published number."""
    manifest = _manifest({"rare": (2, 2, 1), "usual": (10, 4, 1)})
    split = draw(manifest, Sampling(shots=2, sampling="natural", val_shots=1), seed=1)
    assert [sample.path for sample in split.train] == [
        "train/rare/000.png",
        "train/usual/002.png",
        "train/usual/004.png",
        "train/usual/006.png",
    ]
    assert [sample.path for sample in split.val] == ["val/rare/000.png", "val/usual/000.png"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fraction": 0.5, "sampling": "natural"}, r"sampling is natural, with a number of shots"),
        ({"sampling": "natural"}, r"sampling is natural, with a number of shots"),
        ({"shots": 1, "sampling": "balanced"}, r"got balanced"),
        ({"shots": 1, "val_shots": -1}, r"val_shots is a whole number from 0"),
        ({"shots": 1, "val_shots": 1.5}, r"val_shots is a whole number from 0"),
        ({"shots": 1, "val_shots": True}, r"val_shots is a whole number from 0"),
        ({"shots": 1, "val_shots": 10**9}, r"val_shots is a whole number from 0 to 1,000,000"),
    ],
)
def test_a_wrong_validation_size_or_sampling_is_refused_in_one_line(values, message):
    with pytest.raises(ConfigError, match=message) as found:
        Sampling(**values)
    assert "\n" not in str(found.value)


def test_more_natural_labels_than_images_name_both_counts():
    manifest = _manifest({"a": (3, 1, 1), "b": (4, 1, 1)})
    with pytest.raises(
        ConfigError, match=r"4 shots of 2 classes are 8 labels, and there are 7 training images\. Ask fo"
    ):
        draw(manifest, Sampling(shots=4, sampling="natural"), seed=0)


def test_fields_at_their_default_are_no_part_of_an_amount_and_natural_is():
    assert Sampling(shots=4).amount == Sampling(shots=4, val_shots=16).amount == "4-shot"
    assert Sampling(shots=4, sampling="natural").amount == "4-shot-natural"


AMOUNTS = st.one_of(
    st.builds(dict),
    st.fixed_dictionaries({"fraction": st.sampled_from([0.01, 0.3, 1.0])}),
    st.fixed_dictionaries({"shots": st.integers(1, 4)}),
    st.fixed_dictionaries({"shots": st.integers(1, 4), "sampling": st.just("natural")}),
    st.fixed_dictionaries({"shots": st.integers(5, 60), "on_small_class": st.just("repeat")}),
)


@given(
    sizes=SIZES,
    amount=AMOUNTS,
    val_shots=st.one_of(st.none(), st.integers(0, 40)),
    limit=st.one_of(st.none(), st.integers(1, 6)),
    seed=st.integers(0, 2**63 - 1),
)
def test_whatever_the_draw_no_image_stands_in_two_parts_and_each_comes_from_its_own_subset(
    sizes, amount, val_shots, limit, seed
):
    manifest = _manifest(sizes)
    split = draw(manifest, Sampling(**amount, val_shots=val_shots, max_val_shots=limit), seed)
    parts: dict[Subset, tuple[Sample, ...]] = {"train": split.train, "val": split.val, "test": split.test}
    for subset, samples in parts.items():
        assert set(samples) <= set(manifest.subset(subset))
    paths = {subset: {sample.path for sample in samples} for subset, samples in parts.items()}
    groups = {subset: {sample.group for sample in samples} for subset, samples in parts.items()}
    for known in (paths, groups):
        assert not known["train"] & known["val"]
        assert not known["test"] & (known["train"] | known["val"])
    assert split.test == manifest.subset("test")
    assert len(paths["val"]) == len(split.val)
    assert amount.get("on_small_class") == "repeat" or len(paths["train"]) == len(split.train)
