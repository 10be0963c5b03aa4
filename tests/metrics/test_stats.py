from time import process_time
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from cytolora.metrics import bootstrap as stats
from cytolora.metrics.bootstrap import Interval, metric_intervals


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
    for name, found in one.items():
        assert (three[name].low, three[name].high) == pytest.approx((found.low, found.high), abs=1e-12)
        assert three[name].num_units == found.num_units


def test_an_image_without_group_among_grouped_ones_is_a_group_of_its_own():
    found = metric_intervals([0] * 4, [0, 1, 0, 1], images=list("abcd"), groups=["g", "g", None, None], num_classes=2)
    assert (found["accuracy"].unit, found["accuracy"].num_units) == ("group", 3)


def test_few_groups_are_warned_about_by_number():
    found = intervals([True, True, False, False, False] * 8, [str(index // 4) for index in range(40)])["accuracy"]
    assert list(found.warnings) == ["few groups"]
    assert "10 groups only; under about 50" in found.warnings["few groups"]


def test_few_mistakes_are_warned_about_however_many_units_there_are():
    groups = [str(index // 4) for index in range(400)]
    few, more = (intervals([number % step > 0 for number in range(400)], groups) for step in (25, 20))
    assert list(few["accuracy"].warnings) == ["few mistakes"]
    assert "Mistakes lie in 16 of 100 groups; under about 20" in few["accuracy"].warnings["few mistakes"]
    assert more["accuracy"].warnings == {}


def test_an_interval_without_mistakes_says_that_it_knows_nothing_of_rare_ones():
    found = intervals([True] * 50)["accuracy"]
    assert (found.low, found.high) == (1, 1)
    assert "rarer mistakes" in found.warnings["no width"]


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    correct = [True, False, True] * 30
    one, again, other = (intervals(correct, seed=seed, replicates=50) for seed in (1, 1, 2))
    assert one == again != other


def test_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    counts = stats.tally(labels, predicted, 6)  # class 5 never occurs
    assert stats.accuracy(counts) == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert stats.balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)
    assert stats.macro_f1(counts) == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)


def test_macro_f1_of_seeds_is_the_mean_of_theirs_not_that_of_all_predictions_together():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 100).tolist(), rng.integers(0, 3, (2, 100)).tolist()
    images = [f"{index}.png" for index in range(100)]
    options: dict[str, Any] = {"groups": [None] * 200, "num_classes": 3, "replicates": 10}
    drawn = stats.draw_metrics(labels * 2, predicted[0] + predicted[1], images=images * 2, **options)
    alone = [f1_score(labels, said, average="macro") for said in predicted]
    assert drawn.observed["macro_f1"] == pytest.approx(np.mean(alone), abs=1e-12)


def test_few_units_widen_the_interval_and_many_do_not():
    """Hesterberg 2015: with 10 units 2.384 standard errors stand in the place of 1.960."""
    values = np.random.default_rng(0).normal(size=200_000)
    ten, many = (stats.percentile(values, unit="group", num_units=number) for number in (10, 100_000))
    assert ten.high == pytest.approx((10 / 9) ** 0.5 * 2.262157, abs=0.03)
    assert many.high == pytest.approx(1.96, abs=0.02)


def test_groups_of_unequal_size_count_as_fewer():
    assert stats.effective_number([5] * 30) == pytest.approx(30)
    assert stats.effective_number([97, 1, 1, 1]) == pytest.approx(100**2 / (97**2 + 3))


def test_the_tail_of_few_units_turned_round_is_itself():
    for number in (3, 10.5, 400):
        assert stats.nominal_tail(stats.expanded_tail(0.025, number), number) == pytest.approx(0.025)


def test_a_single_group_gives_no_width_and_says_so():
    found = intervals([True, False, True], ["only"] * 3)["accuracy"]
    assert (found.low, found.high) == pytest.approx((2 / 3, 2 / 3))
    assert set(found.warnings) == {"few groups", "no width"}


def test_nineteen_in_twenty_intervals_over_fifty_correlated_groups_hold_the_truth():
    """benchmarks/coverage.py in small: 300 test sets whose groups differ in how hard they are."""
    rng, held = np.random.default_rng(3), []
    for trial in range(300):
        chances, sizes = rng.beta(0.85 * 9, 0.15 * 9, size=50), rng.geometric(1 / 12, size=50)
        group = np.repeat(np.arange(50), sizes)
        counts = stats.unit_counts([0] * len(group), rng.random(len(group)) > chances[group], group, 50, 2)
        values = stats.accuracy(stats.resample(counts, seed=trial % 5, replicates=500))
        units = stats.effective_number(sizes)
        found = stats.percentile(values, unit="group", num_units=50, effective_units=units)
        held.append(found.low <= 0.85 <= found.high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_a_replicate_draws_as_many_units_as_there_are():
    """The mean and variance of its count of right images are n p and n p (1 - p), its total is n."""
    counts = stats.unit_counts([0] * 60, [0] * 45 + [1] * 15, range(60), 60, 2)
    resampled = stats.resample(counts, seed=0, replicates=40000)
    assert (resampled.true.sum(axis=1) == 60).all()
    assert resampled.correct[:, 0].mean() == pytest.approx(45, abs=0.1)
    assert resampled.correct[:, 0].var() == pytest.approx(60 * 0.75 * 0.25, rel=0.03)


def test_the_metrics_of_a_draw_are_those_of_scikit_learn_on_the_images_of_the_groups_drawn():
    rng = np.random.default_rng(0)
    labels, predicted, groups = rng.integers(0, 4, 90), rng.integers(0, 4, 90), rng.integers(0, 12, 90)
    names = [f"{group:02}" for group in groups]
    images = [f"{index}.png" for index in range(90)]
    options: dict[str, Any] = {"images": images, "groups": names, "num_classes": 5, "seed": 7, "replicates": 5}
    drawn = stats.draw_metrics(labels, predicted, **options)
    again = np.random.default_rng(7)
    for replicate in range(5):
        chosen = np.concatenate([np.flatnonzero(groups == group) for group in again.integers(12, size=12)])
        truth, said = labels[chosen], predicted[chosen]
        expected = {
            "accuracy": accuracy_score(truth, said),
            "balanced_accuracy": balanced_accuracy_score(truth, said),
            "macro_f1": f1_score(truth, said, average="macro"),
        }
        assert {name: values[replicate] for name, values in drawn.values.items()} == pytest.approx(expected, abs=1e-12)
    wrong = len(set(groups[labels != predicted]))
    assert (drawn.num_units, drawn.num_wrong) == (12, wrong)


def test_two_classifiers_on_one_test_set_are_drawn_in_pairs():
    better = stats.unit_counts([0] * 60, [0] * 50 + [1] * 10, range(60), 60, 2)
    worse = stats.unit_counts([0] * 60, [0] * 40 + [1] * 20, range(60), 60, 2)
    assert (stats.resample(better, seed=3).correct[:, 0] >= stats.resample(worse, seed=3).correct[:, 0]).all()


def test_two_thousand_replicates_of_four_thousand_cells_take_less_than_a_second():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 25, 4000)
    predicted = np.where(rng.random(4000) < 0.65, labels, rng.integers(0, 25, 4000))
    images, found = [str(number) for number in range(4000)], []
    for _ in range(3):  # of processor time, the least of three: another program on the machine is not ours to time
        start = process_time()
        metric_intervals(labels, predicted, images=images, groups=[None] * 4000, num_classes=25)
        found.append(process_time() - start)
    assert min(found) < 1
