"""Inflation by an image split: equal training sizes, found where it is planted, and absent where it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from planted_leakage import drawn_features

from cytolora.classifier.leakage import divisions
from cytolora.classifier.leakage.cells import SourcedCells
from cytolora.classifier.leakage.divisions import measure_inflation
from cytolora.classifier.leakage.gap import balanced_mean, points
from cytolora.data.manifest import Sample


def with_copies(cells: SourcedCells, number: int, seed: int = 0) -> SourcedCells:
    """Moves copies of some cells into the next group, each a pair of near-duplicates."""
    rng = np.random.default_rng(seed)
    chosen = sorted(rng.choice(len(cells.samples), number, replace=False).tolist())
    copies = tuple(
        replace(cells.samples[at], path=f"z{at:05}.png", group=cells.samples[(at + 1) % len(cells.samples)].group)
        for at in chosen
    )
    start = len(cells.samples)
    return SourcedCells(
        name=cells.name,
        classes=cells.classes,
        samples=(*cells.samples, *copies),
        features=torch.cat([cells.features, cells.features[chosen]]),
        twins=tuple((at, start + place) for place, at in enumerate(chosen)),
    )


def tied_to_slides(tint: float, seed: int = 0) -> SourcedCells:
    """Every slide holds mostly one class, so that its tint helps on its own cells and misleads on others."""
    cells = drawn_features(seed=seed, tint=tint, class_distance=0.5, num_cells=360)
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, cells.num_groups)
    labels = [
        f"class{kinds[group]}" if rng.random() < 0.7 else sample.label
        for group, sample in zip(cells.groups, cells.samples, strict=True)
    ]
    samples = tuple(replace(sample, label=label) for sample, label in zip(cells.samples, labels, strict=True))
    return replace(cells, samples=samples)


@pytest.mark.parametrize("head", ["gda", "nearest-mean"])
def test_a_tint_of_slides_that_hold_mostly_one_class_inflates_a_division_by_image(head: str):
    found = measure_inflation(tied_to_slides(1.0), head=head, repeats=3)
    assert found is not None
    assert found.leakage.value > 0.15
    assert found.leakage.is_above_zero
    assert found.leakage.value == pytest.approx(found.image - found.group)


def test_without_a_tint_the_two_divisions_score_alike():
    found = measure_inflation(drawn_features(seed=3), repeats=5)
    assert found is not None
    assert abs(found.leakage.value) < 0.03
    assert found.leakage.low <= 0 <= found.leakage.high
    assert (found.num_cells, found.num_groups, found.num_folds) == (240, 12, 5)


def test_copies_in_other_groups_make_a_division_by_group_too_good():
    cells = with_copies(drawn_features(seed=1, class_distance=0.3, num_cells=180, dim=64), 90)
    found = measure_inflation(cells, repeats=4)
    assert found is not None
    assert found.copies is not None
    assert found.num_copies == 180
    assert found.copies.is_above_zero
    assert found.copies.value == pytest.approx(found.group - found.apart)


def test_copies_within_a_group_are_no_copies_in_other_groups():
    cells = drawn_features(seed=1)
    found = measure_inflation(replace(cells, twins=((0, 12), (1, 13))), repeats=1)
    assert found is not None
    assert (found.num_copies, found.copies, found.apart) == (0, None, found.group)


@given(
    seed=st.integers(0, 10_000),
    num_groups=st.integers(3, 15),
    num_classes=st.integers(2, 4),
    copies=st.integers(0, 30),
)
def test_all_divisions_train_on_equally_many_cells_of_each_class_and_tear_what_they_should(
    seed: int, num_groups: int, num_classes: int, copies: int
):
    cells = drawn_features(seed=seed, num_groups=num_groups, num_classes=num_classes, num_cells=90, dim=4)
    cells, _ = divisions.divisible(with_copies(cells, copies, seed))
    for fold in divisions._folds(cells, 2, seed):
        apart = fold.apart or fold.group
        sizes = [np.bincount(cells.labels[one.train], minlength=4).tolist() for one in (fold.image, fold.group, apart)]
        assert sizes[0] == sizes[1] == sizes[2]
        tested = [np.bincount(cells.labels[one.test], minlength=4).tolist() for one in (fold.image, fold.group)]
        assert tested[0] == tested[1]
        for one in (fold.image, fold.group, apart):
            assert len(np.unique(one.train)) == len(one.train)
            assert not set(one.train.tolist()) & set(one.test.tolist())
        assert not set(cells.groups[fold.group.train].tolist()) & set(cells.groups[fold.group.test].tolist())
        trained, held_out = set(apart.train.tolist()), set(apart.test.tolist())
        assert not any({a, b} & trained and {a, b} & held_out for a, b in cells.twins)


def test_a_class_from_one_group_is_left_out_and_named():
    cells = drawn_features(seed=0)
    lone = Sample(path="z.png", label="rare", group="slide00")
    cells = replace(
        cells,
        classes=(*cells.classes, "rare"),
        samples=(*cells.samples, lone),
        features=torch.cat([cells.features, cells.features[:1]]),
    )
    found = measure_inflation(cells, repeats=1)
    assert found is not None
    assert (found.left_out, found.num_cells) == (("rare",), 240)


def test_where_no_two_classes_have_two_groups_nothing_is_measured():
    cells = drawn_features(seed=0, num_groups=2)
    samples = tuple(replace(one, label="class0" if one.group == "slide00" else "class1") for one in cells.samples)
    assert measure_inflation(replace(cells, samples=samples), repeats=1) is None


def test_the_interval_of_a_balanced_mean_is_that_of_students_t_where_groups_are_single_cells():
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    gap = balanced_mean(values, np.zeros(40, int), np.arange(40))
    from scipy.stats import t

    low, high = t.interval(0.95, 39, loc=values.mean(), scale=values.std(ddof=1) / np.sqrt(40))
    assert (gap.value, gap.low, gap.high) == pytest.approx((values.mean(), max(-1, low), min(1, high)))


def test_classes_count_alike_in_a_balanced_mean():
    gap = balanced_mean(np.array([1.0, 1, 1, 0]), np.array([0, 0, 0, 1]), np.array([0, 1, 2, 1]))
    assert gap.value == 0.5
    assert (gap.low, gap.high) == (-1, 1)  # without group 1 a class has no cell


def test_points_are_written_with_their_interval():
    gap = balanced_mean(np.zeros(4), np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]))
    assert points(gap) == "0.0 points (0.0 to 0.0)"


def test_equal_seeds_give_equal_numbers():
    cells = drawn_features(seed=5, tint=0.5)
    assert measure_inflation(cells, repeats=2, seed=3) == measure_inflation(cells, repeats=2, seed=3)
