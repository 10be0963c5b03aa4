"""Draws are pure, nested and pinned; divisions tear no group and are the same everywhere."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.config.run import SUBSETS, Sampling, SplitSpec
from cytolora.data.datasets import load_manifest
from cytolora.data.grouping import DIVIDED_BY_IMAGE
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, DataError


def test_seed_1_draws_these_images(split_manifest):
    """Pins the draw: a change here changes every published number."""
    split = draw(split_manifest(), Sampling(shots=2), seed=1)
    assert [sample.path for sample in split.train] == [
        "train/hsil/002.png",
        "train/hsil/005.png",
        "train/lsil/003.png",
        "train/lsil/006.png",
    ]
    assert [sample.path for sample in split.val] == [
        "val/hsil/005.png",
        "val/hsil/006.png",
        "val/lsil/001.png",
        "val/lsil/005.png",
    ]
    assert split.fingerprint[:16] == "2df2e3c8b1219273"


def test_too_many_shots_names_the_class_and_both_counts(split_manifest):
    with pytest.raises(ConfigError, match=r"^toy: class 'hsil' has 8 images, fewer than the 16 shots asked for\."):
        draw(split_manifest(per_class=8), Sampling(shots=16), seed=0)


def test_a_small_class_is_drawn_again_when_asked_for(split_manifest):
    manifest = split_manifest(per_class=3)
    split = draw(manifest, Sampling(shots=8, on_small_class="repeat"), seed=0)
    times = Counter(sample.path for sample in split.train)
    assert sorted(times.values()) == [2, 2, 3, 3, 3, 3]
    once_more = {path for path, number in times.items() if number == 3}
    assert {sample.path for sample in draw(manifest, Sampling(shots=2), seed=0).train} == once_more


def test_a_class_without_training_images_cannot_be_repeated(split_manifest):
    manifest = split_manifest()
    samples = tuple(s for s in manifest.samples if (s.subset, s.label) != ("train", "hsil"))
    with pytest.raises(ConfigError, match="class 'hsil' has 0 images"):
        draw(replace(manifest, samples=samples), Sampling(shots=1, on_small_class="repeat"), seed=0)


@pytest.mark.parametrize(("shots", "limit", "expected"), [(2, 4, 2), (8, 4, 4), (8, None, 8), (3, 1, 1)])
def test_validation_takes_the_shots_up_to_the_limit(split_manifest, shots: int, limit: int | None, expected: int):
    split = draw(split_manifest(), Sampling(shots=shots, max_val_shots=limit), seed=0)
    assert Counter(sample.label for sample in split.val) == {"hsil": expected, "lsil": expected}


@pytest.mark.parametrize(("fraction", "expected"), [(0.01, 1), (0.29, 29), (0.5, 50), (1.0, 100)])
def test_a_fraction_is_taken_of_every_class_of_train_and_val(split_manifest, fraction: float, expected: int):
    split = draw(split_manifest(per_class=100), Sampling(fraction=fraction), seed=0)
    for samples in (split.train, split.val):
        assert Counter(sample.label for sample in samples) == {"hsil": expected, "lsil": expected}


def test_neither_shots_nor_fraction_takes_all_and_test_is_never_sampled(split_manifest):
    manifest = split_manifest()
    split = draw(manifest, Sampling(), seed=0)
    assert (split.train, split.val) == (manifest.subset("train"), manifest.subset("val"))
    for sampling in (Sampling(), Sampling(shots=1), Sampling(fraction=0.1)):
        assert draw(manifest, sampling, seed=3).test == manifest.subset("test")


def test_seeds_draw_different_images_and_0_is_a_seed_like_any_other(split_manifest):
    manifest = split_manifest(per_class=50)
    drawn = {draw(manifest, Sampling(shots=5), seed=seed).fingerprint for seed in range(20)}
    assert len(drawn) == 20


def test_a_dataset_that_is_not_divided_cannot_be_drawn_from(split_manifest):
    manifest = split_manifest()
    samples = tuple(replace(sample, subset=None) for sample in manifest.samples)
    with pytest.raises(DataError, match="toy is not divided into train, val and test"):
        draw(replace(manifest, samples=samples), Sampling(), seed=0)


@given(data=st.data(), seed=st.integers(0, 10))
@settings(max_examples=150)
def test_fewer_shots_are_part_of_more_whatever_the_order_and_the_other_classes(data: st.DataObject, seed: int):
    sizes = data.draw(st.dictionaries(st.sampled_from("abcd"), st.integers(4, 12), min_size=2))
    samples = [
        Sample(path=f"{label}{number}.png", label=label, subset="train")
        for label in sizes
        for number in range(sizes[label])
    ]
    few, many = sorted(data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4))))
    manifest = _manifest(samples)
    small, large = (set(draw(manifest, Sampling(shots=shots), seed).train) for shots in (few, many))
    assert small <= large
    random.Random(seed).shuffle(samples)
    assert (
        draw(_manifest(samples), Sampling(shots=few), seed).fingerprint
        == draw(manifest, Sampling(shots=few), seed).fingerprint
    )
    alone = _manifest([sample for sample in samples if sample.label == "a"] or samples)
    assert {s for s in draw(alone, Sampling(shots=few), seed).train if s.label == "a"} <= small


def test_official_subsets_are_left_alone(split_manifest):
    manifest = split_manifest()
    assigned = assign_subsets(manifest, SplitSpec())
    assert assigned.samples == manifest.samples
    assert assigned.split_rule == "train, val and test as the dataset gives them"
    official = replace(manifest, split_rule="official split")
    assert assign_subsets(official, SplitSpec(by="image", seed=7)) == official


@pytest.mark.parametrize(
    ("missing", "share", "words"), [("val", 0.25, "train 75 % / val 25 %"), ("test", 0.25, "test 25 %")]
)
def test_a_missing_subset_is_taken_out_of_train_by_its_share(split_manifest, missing: str, share: float, words: str):
    manifest = split_manifest(per_class=40)
    kept = tuple(sample for sample in manifest.samples if sample.subset != missing)
    assigned = assign_subsets(_manifest(list(kept)), SplitSpec())
    for label in manifest.classes:
        assert assigned.counts()[label][missing] == 40 * share
        assert assigned.counts()[label]["train"] == 40 * (1 - share)
    before = {sample.path: sample.subset for sample in kept}
    assert all(before[sample.path] in (sample.subset, "train") for sample in assigned.samples)
    assert f"{missing} taken out of train" in assigned.split_rule
    assert words in assigned.split_rule


def test_a_dataset_with_only_a_train_folder_is_divided_like_one_without(split_manifest):
    train_only = [sample for sample in split_manifest().samples if sample.subset == "train"]
    bare = [replace(sample, subset=None) for sample in train_only]
    divided, of_bare = assign_subsets(_manifest(train_only), SplitSpec()), assign_subsets(_manifest(bare), SplitSpec())
    assert divided.samples == of_bare.samples
    lead = "train as the dataset gives them; val and test taken out of train: "
    assert divided.split_rule == lead + of_bare.split_rule


def test_training_images_are_not_tested_on_where_no_image_of_a_test_set_is_left(split_manifest):
    whole = split_manifest()
    left = replace(whole, samples=tuple(one for one in whole.samples if one.subset != "test"))
    with pytest.raises(DataError, match="no image of its test set can be used any more, and training images are not"):
        assign_subsets(left, SplitSpec())
    bare = replace(left, samples=tuple(replace(one, subset=None) for one in left.samples))
    assert assign_subsets(bare, SplitSpec()).subset("test")


def test_subsets_without_train_or_in_part_are_refused(split_manifest):
    samples = split_manifest().samples
    with pytest.raises(DataError, match="has images for test and val but none for train"):
        assign_subsets(_manifest([s for s in samples if s.subset != "train"]), SplitSpec())
    with pytest.raises(DataError, match="1 image has no subset and others have one"):
        assign_subsets(_manifest([replace(samples[0], subset=None), *samples[1:]]), SplitSpec())


def test_a_class_from_too_few_groups_is_named_with_its_counts():
    samples = [Sample(path=f"{n}.png", label="a", group=f"g{n}") for n in range(6)]
    samples += [Sample(path=f"b{n}.png", label="b", group=f"g{n % 2}") for n in range(9)]
    message = r"^toy: class 'b' has 9 images from 2 groups, too few to stand in train, val, test\. .*divide by image"
    with pytest.raises(DataError, match=message):
        assign_subsets(_manifest(samples), SplitSpec())
    by_image = assign_subsets(_manifest(samples), SplitSpec(by="image"))
    assert by_image.has_subsets
    assert "images of one group may stand in two subsets" in by_image.split_rule


def test_a_class_of_two_images_cannot_be_divided():
    samples = [Sample(path=f"{label}{n}.png", label=label) for label, m in (("a", 9), ("b", 2)) for n in range(m)]
    with pytest.raises(DataError, match=r"class 'b' has 2 images, too few .* merge classes with a label map\.$"):
        assign_subsets(_manifest(samples), SplitSpec())


def test_without_groups_each_class_is_divided_to_the_image():
    samples = [Sample(path=f"{label}/{n}.png", label=label) for label, m in (("a", 100), ("b", 10)) for n in range(m)]
    assigned = assign_subsets(_manifest(samples), SplitSpec())
    assert assigned.counts()["a"] == {"all": 100, "train": 60, "val": 20, "test": 20}
    assert assigned.counts()["b"] == {"all": 10, "train": 6, "val": 2, "test": 2}
    assert "groups are not known" in assigned.split_rule
    other = assign_subsets(_manifest(samples), SplitSpec(seed=1))
    assert [s.subset for s in other.samples] != [s.subset for s in assigned.samples]


_PARTS = "; train 60 % / val 20 % / test 20 %, stratified by class, seed 3"


@pytest.mark.parametrize(
    ("groups", "spec", "rule"),
    [
        ("abcdefghij", {}, f"divided by group (10 groups), none stands in two subsets{_PARTS}"),
        ("abcdefghi-", {}, f"divided by group, and by image for the 2 whose group is not known{_PARTS}"),
        ("----------", {}, f"divided by image, for groups are not known{_PARTS}"),
        ("abcdefghij", {"by": "image"}, f"{DIVIDED_BY_IMAGE}{_PARTS}"),
        (
            "----------",
            {"copies": "together"},
            f"divided by image, for groups are not known, 4 byte-equal files beside each other{_PARTS}",
        ),
        ("abcdefghij", {"ratios": (0.5, 0.25, 0.25)}, "train 50 % / val 25 % / test 25 %, stratified by class, seed 3"),
    ],
)
def test_the_rule_of_a_division_is_one_sentence_to_cite(groups: str, spec: dict[str, Any], rule: str):
    """Of 20 images in ten groups, or in none, two pairs are copies."""
    samples = [
        Sample(path=f"{n:02}.png", label="ab"[n % 2], group=None if (name := groups[n // 2]) == "-" else name)
        for n in range(20)
    ]
    samples = [replace(one, sha256=f"{n if n not in (2, 9) else n + 6:064}") for n, one in enumerate(samples)]
    found = assign_subsets(_manifest(samples), SplitSpec(seed=3, **spec)).split_rule
    assert found.endswith(rule) if "ratios" in spec else found == rule


def test_seed_0_divides_these_images():
    """Pins the division: a change here changes every published number."""
    samples = [Sample(path=f"{n:02}.png", label="ab"[n % 2], group=f"slide{n // 4}") for n in range(24)]
    assigned = assign_subsets(_manifest(samples), SplitSpec())
    assert {s.group: s.subset for s in assigned.samples} == {
        "slide0": "train",
        "slide1": "train",
        "slide2": "test",
        "slide3": "train",
        "slide4": "val",
        "slide5": "train",
    }


def _slides(num_slides: int = 40) -> list[Sample]:
    """Slides of 1 to 30 cells in three classes, the last of them rare; some cells of no known slide, some copied."""
    samples = []
    for slide in range(num_slides):
        for cell in range(1 + slide * slide % 30):
            label = "c" if (slide + cell) % 17 == 0 else "ab"[(slide * cell) % 3 > 0]
            group = None if (slide + 3 * cell) % 13 == 0 else f"s{slide}"
            content = f"{slide % 7}-{cell}" if cell == 5 else f"{slide}-{cell}"
            samples.append(Sample(path=f"{slide}/{cell}.png", label=label, group=group, sha256=content))
    return samples


@pytest.mark.parametrize(
    ("changes", "sizes", "digest"),
    [
        ({}, (306, 103, 101), "257d03907b11"),
        ({"seed": 1}, (306, 103, 101), "9b02c61b954c"),
        ({"seed": 2, "ratios": (0.7, 0.1, 0.2)}, (357, 52, 101), "b31025e0dab9"),
        ({"copies": "together"}, (304, 105, 101), "ad3e2fa0b9cf"),
        ({"by": "image"}, (306, 103, 101), "f3fb058ce362"),
        ({"by": "image", "copies": "together", "seed": 3}, (306, 103, 101), "f514d72ac368"),
    ],
)
def test_slides_of_many_sizes_are_divided_so(changes: dict[str, Any], sizes: tuple[int, ...], digest: str):
    """Pins the division where it is hard: unequal groups, a rare class, copies. The numbers near 60/20/20 are right."""
    assigned = assign_subsets(_manifest(_slides()), SplitSpec(**changes))
    assert tuple(len(assigned.subset(name)) for name in SUBSETS) == sizes
    rows = "".join(f"{sample.path} {sample.subset}\n" for sample in assigned.samples)
    assert hashlib.sha256(rows.encode()).hexdigest()[:12] == digest


@pytest.mark.parametrize(
    ("slides", "expected"),
    [
        ("cc c cc", "test val train"),
        ("cc acbb ba ac b", "val train val test test"),
        ("ac ba ab bbac bca", "test val test train val"),
    ],
)
def test_where_slides_by_size_leave_a_subset_without_a_class_the_smallest_that_can_be_spared_moves(
    slides: str, expected: str
):
    """Each word is a slide, each letter a cell of that class."""
    samples = [
        Sample(path=f"{slide}-{cell}.png", label=label, group=f"g{slide}")
        for slide, cells in enumerate(slides.split())
        for cell, label in enumerate(cells)
    ]
    assigned = assign_subsets(_manifest(samples), SplitSpec())
    homes = {sample.group: sample.subset for sample in assigned.samples}
    assert [homes[f"g{slide}"] for slide in range(len(homes))] == expected.split()
    assert all(row[subset] for row in assigned.counts().values() for subset in SUBSETS)


@st.composite
def _grouped(draw_value: st.DrawFn) -> list[Sample]:
    """Images whose classes come from at least three groups each; groups may mix classes, some images have none."""
    classes = "abc"[: draw_value(st.integers(1, 3))]
    samples = [
        Sample(path=f"{label}/own{n}-{m}.png", label=label, group=f"{label}{n}")
        for label in classes
        for n in range(draw_value(st.integers(3, 12)))
        for m in range(draw_value(st.integers(1, 9)))
    ]
    for n in range(draw_value(st.integers(0, 4))):
        samples += [Sample(path=f"mixed{n}/{label}.png", label=label, group=f"mixed{n}") for label in classes]
    for n in range(draw_value(st.integers(0, 10))):
        samples.append(Sample(path=f"alone{n}.png", label=classes[n % len(classes)]))
    return samples


@given(samples=_grouped(), seed=st.integers(0, 5), train=st.integers(3, 8))
@settings(max_examples=100)
def test_no_group_is_torn_and_every_class_stands_in_every_subset(samples: list[Sample], seed: int, train: int):
    ratios = (train / 10, (10 - train) / 20, (10 - train) / 20)
    spec = SplitSpec(seed=seed, ratios=ratios)
    assigned = assign_subsets(_manifest(samples), spec)
    homes: dict[str, set[str | None]] = {}
    for sample in assigned.samples:
        homes.setdefault(sample.group or sample.path, set()).add(sample.subset)
    assert all(len(subsets) == 1 for subsets in homes.values())
    assert all(row[subset] for row in assigned.counts().values() for subset in SUBSETS)
    random.Random(seed).shuffle(samples)
    assert assign_subsets(_manifest(samples), spec).samples == assigned.samples


@pytest.mark.slow
def test_the_real_herlev_is_divided_close_to_the_ratios_with_no_group_torn(herlev_dir: Path):
    manifest = load_manifest(herlev_dir)
    for seed in range(3):
        assigned = assign_subsets(manifest, SplitSpec(seed=seed))
        homes = {(sample.group, sample.subset) for sample in assigned.samples}
        assert len(homes) == 538
        for label, row in assigned.counts().items():
            for subset, ratio in zip(SUBSETS, (0.6, 0.2, 0.2), strict=True):
                assert abs(row[subset] - ratio * row["all"]) < 1.5, (label, subset, row)
        sizes = Counter(sample.group for sample in manifest.samples)
        mean_size = {
            subset: sum(sizes[sample.group] for sample in assigned.subset(subset)) / len(assigned.subset(subset))
            for subset in SUBSETS
        }
        assert max(mean_size.values()) < 1.35 * min(mean_size.values()), mean_size  # large groups are not all in train


def _manifest(samples: list[Sample]) -> Manifest:
    classes = tuple(sorted({sample.label for sample in samples}))
    return Manifest(name="toy", root=Path("nowhere"), classes=classes, samples=tuple(samples))
