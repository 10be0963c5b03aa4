from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score, confusion_matrix, recall_score, roc_auc_score

from cytolora.data.datasets import DATASETS
from cytolora.metrics.agreement import class_scores, kappa, macro, one_against_rest, ordered
from cytolora.metrics.calibration import (
    bin_index,
    brier,
    cross_entropy,
    expected_calibration_error,
    fit_temperature,
    probabilities,
    reliability,
)

EXACT = {"abs": 1e-10, "rel": 0}
rng = np.random.default_rng(0)
truth = rng.integers(0, 5, 400)
logits = rng.normal(size=(400, 5)) + 1.5 * np.eye(5)[truth]
given = np.round(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 2)  # rounded: with ties
given /= given.sum(axis=1, keepdims=True)
said = given.argmax(axis=1)


@pytest.mark.parametrize("weights", [None, "linear", "quadratic"])
def test_kappa_is_that_of_scikit_learn(weights):
    counts = confusion_matrix(truth, said)
    assert kappa(counts, weights) == pytest.approx(cohen_kappa_score(truth, said, weights=weights), **EXACT)


def test_kappa_gives_cohens_published_example():
    """Cohen 1968 (Psychological Bulletin 70(4)), Table 1: proportions of two judges, unweighted kappa 0.492."""
    proportions = np.array([[0.44, 0.07, 0.09], [0.05, 0.20, 0.05], [0.01, 0.03, 0.06]])
    assert kappa(proportions) == pytest.approx(0.492, abs=5e-4)


def test_weighted_kappa_gives_the_published_value_of_two_readers_of_mammograms():
    """Kundel & Polansky 2003 (Radiology 228), Table A1, 110 mammograms in four grades; R's vcd::Kappa prints these."""
    grades = np.array([[34, 10, 2, 0], [6, 8, 8, 2], [2, 5, 4, 12], [0, 1, 2, 14]])
    assert kappa(grades) == pytest.approx(0.3713, abs=5e-5)
    assert kappa(grades, "linear") == pytest.approx(0.5964, abs=5e-5)


def test_kappa_of_one_class_alone_is_not_known():
    assert kappa(np.array([[7, 0], [0, 0]])) is None


def test_classes_are_put_in_their_order_before_distances_count():
    counts = confusion_matrix(truth, said)
    order = ["d", "a", "c", "e", "b"]
    place = [order.index(name) for name in "abcde"]
    moved = np.array(place)
    expected = cohen_kappa_score(moved[truth], moved[said], weights="quadratic")
    assert kappa(ordered(counts, "abcde", order), "quadratic") == pytest.approx(expected, **EXACT)


def test_areas_are_those_of_scikit_learn_with_ties_counting_half():
    areas = one_against_rest(truth, given)
    for index, area in enumerate(areas):
        assert area == pytest.approx(roc_auc_score(truth == index, given[:, index]), **EXACT)
    expected = roc_auc_score(truth, given, multi_class="ovr", average="macro")
    assert macro(areas) == pytest.approx(expected, **EXACT)


def test_a_class_without_images_has_no_area_and_is_left_out_of_the_mean():
    areas = one_against_rest([0, 0, 1], [[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.7, 0.1]])
    assert areas == [1, 1, None]
    assert macro(areas) == 1
    assert macro([None]) is None


def test_sensitivity_is_scikit_learns_recall_and_specificity_that_of_the_others():
    scores = class_scores(confusion_matrix(truth, said))
    for index, score in enumerate(scores):
        of_class, named = truth == index, said == index
        assert score.sensitivity == pytest.approx(recall_score(of_class, named), **EXACT)
        assert score.specificity == pytest.approx(recall_score(~of_class, ~named), **EXACT)
        assert (score.num_images, score.num_others) == (of_class.sum(), (~of_class).sum())


def test_a_class_without_images_has_no_sensitivity():
    empty = class_scores(np.array([[3, 1], [0, 0]]))[1]
    assert (empty.sensitivity, empty.specificity, empty.precision) == (None, 0.75, 0)


def test_brier_is_that_of_scikit_learn():
    options: dict[str, Any] = {"labels": np.arange(5), "scale_by_half": False}  # scikit-learn's annotation says str
    expected = brier_score_loss(truth, given, **options)
    assert brier(truth, given) == pytest.approx(expected, **EXACT)


def test_calibration_error_worked_out_by_hand():
    """Two images at 0.95, one right; two at 0.65, both right: |0.95 - 0.5| / 2 + |0.65 - 1| / 2."""
    shares = [[0.95, 0.05], [0.95, 0.05], [0.35, 0.65], [0.65, 0.35]]
    bins = reliability([0, 1, 1, 0], shares, num_bins=10)
    assert [one.num_images for one in bins] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]
    assert expected_calibration_error(bins) == pytest.approx(0.4, **EXACT)


def test_probabilities_that_are_right_as_often_as_they_say_have_hardly_an_error():
    draws = np.random.default_rng(0)
    sure = draws.uniform(0.5, 1, 200_000)
    labels = (draws.random(200_000) > sure).astype(int)
    assert expected_calibration_error(reliability(labels, np.column_stack([sure, 1 - sure]))) < 0.01


def test_bins_lie_edge_to_edge_and_hold_what_is_above_their_lower_edge():
    bins = reliability([0, 0, 0, 0], [[0.5, 0.5], [0.5001, 0.4999], [0.75, 0.25], [0.9, 0.1]], num_bins=4)
    assert [(one.low, one.high) for one in bins] == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert [one.num_images for one in bins] == [0, 1, 2, 1]
    assert [one.confidence for one in bins] == pytest.approx([0, 0.5, (0.5001 + 0.75) / 2, 0.9])
    assert [one.accuracy for one in bins] == [0, 1, 1, 1]


def test_a_bin_holds_its_upper_edge_and_the_first_one_0_too():
    assert bin_index([0, 0.01, 0.1, 0.11, 0.2, 0.95, 1], num_bins=10).tolist() == [0, 0, 0, 1, 1, 9, 9]


def test_certainty_of_1_falls_into_the_last_bin():
    assert reliability([0], [[1.0, 0.0]])[-1].num_images == 1


def test_the_temperature_that_logits_were_sharpened_by_is_found():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20000, 4))
    calibrated, sharpened = probabilities(logits, 1.0), probabilities(3 * logits, 1.0)
    labels = np.array([random.choice(4, p=row) for row in calibrated])
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
    errors = [expected_calibration_error(reliability(labels, each)) for each in (calibrated, sharpened)]
    assert errors[0] < 0.02 < errors[1]


def test_temperatures_are_looked_for_from_a_twentieth_to_twenty():
    """Logits that are always right can be sharpened without end, logits without information flattened."""
    labels = np.arange(300) % 3
    right = np.eye(3)[labels]
    assert fit_temperature(right, labels) == pytest.approx(0.05, rel=1e-4)
    assert fit_temperature(right, (labels + 1) % 3) == pytest.approx(20, rel=1e-4)


def test_logits_that_are_too_flat_are_sharpened():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20000, 4))
    labels = np.array([random.choice(4, p=row) for row in probabilities(logits, 1.0)])
    assert fit_temperature(logits / 4, labels) == pytest.approx(0.25, rel=0.05)


def test_probabilities_of_logits_of_any_size_are_finite():
    assert probabilities(np.array([[1000.0, 0.0], [-1000.0, -1000.0]]), 0.5).tolist() == [[1, 0], [0.5, 0.5]]


def test_cross_entropy_counts_a_probability_of_0_as_1e_minus_12():
    shares = np.array([[1.0, 0.0], [0.5, 0.5]])
    assert cross_entropy(np.array([1, 0]), shares) == pytest.approx((12 * np.log(10) + np.log(2)) / 2, **EXACT)


def test_a_dataset_that_is_ordered_orders_each_of_its_classes_once_and_says_who_does():
    ordered_ones = [spec for spec in DATASETS if spec.order]
    assert {spec.name for spec in ordered_ones} == {"bmt", "mlcc"}
    for spec in ordered_ones:
        assert sorted(spec.order) == sorted(spec.classes)
        assert spec.order_source
