from time import perf_counter
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from cytolora import stats
from cytolora.stats import Interval, metric_intervals


def intervals(correct: list[bool], groups: list[str] | None = None, **options: Any) -> dict[str, Interval]:
    """Intervals of one class recognised as ``correct`` says."""
    names = groups or [None] * len(correct)
    images = [f"{index}.png" for index in range(len(correct))]
    predicted = [0 if right else 1 for right in correct]
    return metric_intervals([0] * len(correct), predicted, images=images, groups=names, num_classes=2, **options)


def test_images_give_the_binomial_interval():
    found = intervals([True] * 300 + [False] * 100, replicates=20000)["accuracy"]
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.75 - half, 0.75 + half), abs=0.004)
    assert (found.unit, found.num_units, found.warnings) == ("image", 400, {})


def test_copies_of_a_cell_in_its_group_add_no_certainty():
    correct = [True] * 30 + [False] * 10
    alone = intervals(correct, replicates=20000)["accuracy"]
    groups = [str(index // 10) for index in range(400)]
    copied = intervals(np.repeat(correct, 10).tolist(), groups, replicates=20000)["accuracy"]
    assert (copied.unit, copied.num_units) == ("group", 40)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=0.001)


def test_seeds_that_agree_give_the_interval_of_one_seed():
    labels, predicted = [0, 1] * 50, [0, 0] * 50
    images = [f"{index}.png" for index in range(100)]
    one = metric_intervals(labels, predicted, images=images, groups=[None] * 100, num_classes=2)
    three = metric_intervals(labels * 3, predicted * 3, images=images * 3, groups=[None] * 300, num_classes=2)
    assert one == three


def test_an_image_without_group_among_grouped_ones_is_a_group_of_its_own():
    found = metric_intervals([0] * 4, [0, 1, 0, 1], images=list("abcd"), groups=["g", "g", None, None], num_classes=2)
    assert (found["accuracy"].unit, found["accuracy"].num_units) == ("group", 3)


def test_few_groups_are_warned_about_by_number():
    found = intervals([True, True, False, False, False] * 8, [str(index // 4) for index in range(40)])["accuracy"]
    assert list(found.warnings) == ["few groups"]
    assert "10 groups only; under about 20" in found.warnings["few groups"]


def test_an_interval_without_mistakes_says_that_it_knows_nothing_of_rare_ones():
    found = intervals([True] * 50)["accuracy"]
    assert (found.low, found.high) == (1, 1)
    assert "rarer mistakes" in found.warnings["no width"]


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    correct = [True, False, True] * 30
    one, again, other = (intervals(correct, seed=seed, replicates=50) for seed in (1, 1, 2))
    assert one == again != other


def test_metrics_of_confusions_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    counts = stats.unit_confusions(labels, predicted, ["only"] * 200, 6)  # class 5 never occurs
    assert stats.accuracy(counts)[0] == pytest.approx(accuracy_score(labels, predicted))
    assert stats.balanced_accuracy(counts)[0] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_a_replicate_draws_as_many_units_as_there_are():
    """The mean and variance of its count of right images are n p and n p (1 - p), its total is n."""
    counts = stats.unit_confusions([0] * 60, [0] * 45 + [1] * 15, [f"{index:02}" for index in range(60)], 2)
    resampled = stats.resample(counts, seed=0, replicates=40000)
    assert (resampled.sum(axis=(1, 2)) == 60).all()
    assert resampled[:, 0, 0].mean() == pytest.approx(45, abs=0.1)
    assert resampled[:, 0, 0].var() == pytest.approx(60 * 0.75 * 0.25, rel=0.03)


def test_two_classifiers_on_one_test_set_are_drawn_in_pairs():
    names = [f"{index:02}" for index in range(60)]
    better = stats.unit_confusions([0] * 60, [0] * 50 + [1] * 10, names, 2)
    worse = stats.unit_confusions([0] * 60, [0] * 40 + [1] * 20, names, 2)
    assert (stats.resample(better, seed=3)[:, 0, 0] >= stats.resample(worse, seed=3)[:, 0, 0]).all()


def test_two_thousand_replicates_of_four_thousand_cells_take_less_than_a_second():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 25, 4000)
    predicted = np.where(rng.random(4000) < 0.65, labels, rng.integers(0, 25, 4000))
    start = perf_counter()
    metric_intervals(labels, predicted, images=[str(i) for i in range(4000)], groups=[None] * 4000, num_classes=25)
    assert perf_counter() - start < 1
