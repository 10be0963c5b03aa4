from time import process_time
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from cytolora.metrics import bootstrap, counts
from cytolora.metrics.intervals import metric_intervals


def test_measures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 200), rng.integers(0, 5, 200)
    tallied = counts.tally(labels, predicted, 6)  # class 5 never occurs
    assert counts.accuracy(tallied) == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    assert counts.balanced_accuracy(tallied) == pytest.approx(balanced_accuracy_score(labels, predicted), abs=1e-12)
    assert counts.macro_f1(tallied) == pytest.approx(f1_score(labels, predicted, average="macro"), abs=1e-12)


def test_macro_f1_of_seeds_is_the_mean_of_theirs_not_that_of_all_predictions_together():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 3, 100).tolist(), rng.integers(0, 3, (2, 100)).tolist()
    images = [f"{index}.png" for index in range(100)]
    options: dict[str, Any] = {"groups": [None] * 200, "num_classes": 3, "replicates": 10}
    drawn = bootstrap.draw_metrics(labels * 2, predicted[0] + predicted[1], images=images * 2, **options)
    alone = [f1_score(labels, said, average="macro") for said in predicted]
    assert drawn.observed["macro_f1"] == pytest.approx(np.mean(alone), abs=1e-12)


def test_few_units_widen_the_interval_and_many_do_not():
    """Hesterberg 2015: with 10 units 2.384 standard errors stand in the place of 1.960."""
    values = np.random.default_rng(0).normal(size=200_000)
    ten, many = (bootstrap.percentile(values, unit="group", num_units=number) for number in (10, 100_000))
    assert ten.high == pytest.approx((10 / 9) ** 0.5 * 2.262157, abs=0.03)
    assert many.high == pytest.approx(1.96, abs=0.02)


def test_groups_of_unequal_size_count_as_fewer():
    assert counts.effective_number([5] * 30) == pytest.approx(30)
    assert counts.effective_number([97, 1, 1, 1]) == pytest.approx(100**2 / (97**2 + 3))


def test_the_tail_of_few_units_turned_round_is_itself():
    for number in (3, 10.5, 400):
        assert bootstrap.nominal_tail(bootstrap.expanded_tail(0.025, number), number) == pytest.approx(0.025)


def test_a_replicate_draws_as_many_units_as_there_are():
    """The mean and variance of its count of right images are n p and n p (1 - p), its total is n."""
    by_unit = counts.unit_counts([0] * 60, [0] * 45 + [1] * 15, range(60), 60, 2)
    resampled = bootstrap.resample(by_unit, seed=0, replicates=40000)
    assert (resampled.true.sum(axis=1) == 60).all()
    assert resampled.correct[:, 0].mean() == pytest.approx(45, abs=0.1)
    assert resampled.correct[:, 0].var() == pytest.approx(60 * 0.75 * 0.25, rel=0.03)


def test_the_metrics_of_a_draw_are_those_of_scikit_learn_on_the_images_of_the_groups_drawn():
    rng = np.random.default_rng(0)
    labels, predicted, groups = rng.integers(0, 4, 90), rng.integers(0, 4, 90), rng.integers(0, 12, 90)
    names = [f"{group:02}" for group in groups]
    images = [f"{index}.png" for index in range(90)]
    options: dict[str, Any] = {"images": images, "groups": names, "num_classes": 5, "seed": 7, "replicates": 5}
    drawn = bootstrap.draw_metrics(labels, predicted, **options)
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
    assert drawn.num_units == 12


def test_two_classifiers_on_one_test_set_are_drawn_in_pairs():
    better = counts.unit_counts([0] * 60, [0] * 50 + [1] * 10, range(60), 60, 2)
    worse = counts.unit_counts([0] * 60, [0] * 40 + [1] * 20, range(60), 60, 2)
    assert (bootstrap.resample(better, seed=3).correct[:, 0] >= bootstrap.resample(worse, seed=3).correct[:, 0]).all()


def test_draws_of_four_thousand_cells_take_less_than_a_second_and_intervals_half_of_one():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 25, 4000)
    predicted = np.where(rng.random(4000) < 0.65, labels, rng.integers(0, 25, 4000))
    images = [str(number) for number in range(4000)]
    options: dict[str, Any] = {"images": images, "groups": [None] * 4000, "num_classes": 25}
    seconds: dict[str, list[float]] = {"draws": [], "intervals": []}
    for _ in range(3):  # of processor time, the least of three: another program on the machine is not ours to time
        for name, compute in (("draws", bootstrap.draw_metrics), ("intervals", metric_intervals)):
            start = process_time()
            compute(labels, predicted, **options)
            seconds[name].append(process_time() - start)
    assert min(seconds["draws"]) < 1
    assert min(seconds["intervals"]) < 0.5


def test_a_percentile_interval_says_what_it_is():
    found = bootstrap.percentile(np.linspace(0, 1, 1001), unit="group", num_units=25, effective_units=None, level=0.9)
    assert (found.kind, found.unit, found.num_units, found.level) == ("bootstrap", "group", 25, 0.9)
    tail = bootstrap.expanded_tail(0.05, 25)
    assert (found.low, found.high) == pytest.approx((tail, 1 - tail), abs=1e-12)
    assert 0 < tail < 0.05


def test_draws_that_are_shared_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        bootstrap._times_drawn(3, 0, 4)[0, 0] = 7
