"""Prediction sets, thresholds and calibration on numbers whose answers are known."""

import numpy as np
import pytest

from cytolora.classifier.decision.conformal import calibrate, contains, needed_groups, sizes
from cytolora.classifier.decision.ood import distances, threshold_of, unit
from cytolora.classifier.decision.operating_point import choose, summed
from cytolora.classifier.decision.referral import referral_curve
from cytolora.classifier.decision.rules import Conformal, OperatingPoint
from cytolora.errors import ConfigError
from cytolora.metrics.calibration import probabilities


def drawn(groups: int, per_group: int, random: np.random.Generator, shift: float = 1.5):
    """Probabilities of three classes whose quality differs from group to group."""
    labels = random.integers(0, 3, groups * per_group)
    ease = np.repeat(random.normal(1.0, shift, groups), per_group)
    logits = random.normal(0, 1, (len(labels), 3))
    logits[np.arange(len(labels)), labels] += ease
    return probabilities(logits, 1.0), labels, [str(place) for place in np.repeat(np.arange(groups), per_group)]


def test_coverage_over_new_groups_is_the_nominal_one():
    random, covered = np.random.default_rng(0), []
    for _ in range(300):
        shares, labels, names = drawn(60, 8, random)
        old = np.array([int(name) < 40 for name in names])
        found = calibrate(shares[old], labels[old], [n for n, is_old in zip(names, old, strict=True) if is_old], 0.9)
        covered.append(contains(shares[~old], labels[~old], found).mean())
    assert 0.9 <= np.mean(covered) <= 0.93


def test_a_large_group_weighs_no_more_than_a_small_one():
    shares = np.array([[0.9, 0.1]] * 10 + [[0.4, 0.6]] * 990)
    labels = np.zeros(1000, dtype=np.int64)
    names = [f"small {place}" for place in range(10)] + ["large"] * 990
    assert calibrate(shares, labels, names, 0.75).quantile == pytest.approx(0.1, abs=1e-3)
    assert calibrate(shares, labels, [str(place) for place in range(1000)], 0.75).quantile == pytest.approx(
        0.6, abs=1e-3
    )


def test_equal_groups_of_one_image_are_plain_split_conformal():
    random = np.random.default_rng(0)
    shares, labels, _ = drawn(99, 1, random)
    scores = np.sort(1 - shares[np.arange(99), labels])
    found = calibrate(shares, labels, [str(place) for place in range(99)], 0.9)
    assert found.quantile == pytest.approx(scores[int(np.ceil(100 * 0.9)) - 1], abs=1e-3)


def test_with_too_few_groups_every_set_holds_every_class():
    shares, labels, names = drawn(8, 20, np.random.default_rng(0))
    found = calibrate(shares, labels, names, 0.9)
    assert (found.quantile, found.num_groups) == (1.0, 8)
    assert (sizes(shares, found) == 3).all()
    assert [needed_groups(coverage) for coverage in (0.5, 0.8, 0.9, 0.95)] == [1, 4, 9, 19]
    shares, labels, names = drawn(9, 20, np.random.default_rng(0))
    assert calibrate(shares, labels, names, 0.9).quantile < 1


def test_referring_the_doubtful_first_lowers_the_error():
    shares = np.array([[0.95, 0.05], [0.9, 0.1], [0.6, 0.4], [0.55, 0.45]])
    found = referral_curve(shares, np.array([0, 0, 0, 1]))
    assert found["error"][0] == 0.25
    assert found["error"][10] == 0.0  # half of the images are referred
    assert found["area"] == pytest.approx(0.25 / 4)


def test_what_lies_apart_from_the_training_images_is_far():
    random = np.random.default_rng(0)
    near, centre = random.normal(0, 0.1, (200, 8)), np.eye(8)[0]
    bank = unit((centre + near[:100]).astype(np.float32))
    threshold = threshold_of(distances((centre + near[100:]).astype(np.float32), bank, 5))
    strange = (np.eye(8)[1] + random.normal(0, 0.1, (50, 8))).astype(np.float32)
    assert (distances(strange, bank, 5) > threshold).all()
    assert (distances((centre + near[100:]).astype(np.float32), bank, 5) > threshold).mean() <= 0.01


@pytest.mark.parametrize("sharpness", [0.3, 3, 30])
def test_no_decision_about_an_image_that_set_a_threshold_depends_on_the_last_bits(sharpness: float):
    """Another machine, another batch: logits move by 2e-5, and every calibration image keeps its set and flag."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 90)
    logits = random.normal(0, sharpness, (90, 3)) + sharpness * np.eye(3)[labels]
    names = [str(place) for place in range(90)]
    shares = probabilities(logits, 1.0)
    sets = calibrate(shares, labels, names, 0.8)
    point = choose(
        shares, labels, classes=("a", "b", "c"), positive=("b", "c"), asked=0.9, paths=names, groups=[None] * 90
    )
    assert isinstance(point, OperatingPoint)

    def decided(logits: np.ndarray) -> tuple[list[bool], ...]:
        moved = probabilities(logits, 1.0)
        is_positive = summed(moved, ("a", "b", "c"), point.positive) >= point.threshold
        return contains(moved, labels, sets).tolist(), is_positive.tolist()

    expected = decided(logits)
    for _ in range(50):
        assert decided(logits + random.uniform(-2e-5, 2e-5, logits.shape)) == expected


def test_no_image_that_set_the_distance_is_flagged_on_another_machine():
    random = np.random.default_rng(0)
    bank = unit(random.normal(0, 1, (60, 16)).astype(np.float32))
    for spread in (0.001, 0.1, 1):
        held_out = (bank + random.normal(0, spread, bank.shape)).astype(np.float32)
        threshold = threshold_of(distances(held_out, bank, 5))
        expected = (distances(held_out, bank, 5) > threshold).tolist()
        for _ in range(50):
            moved = held_out * (1 + random.uniform(-3e-6, 3e-6, held_out.shape)).astype(np.float32)
            assert (distances(moved, bank, 5) > threshold).tolist() == expected


@pytest.mark.parametrize("coverage", [90, 1, 1.0, 0, -0.1, float("nan")])
def test_coverage_is_a_share(coverage: float):
    with pytest.raises(ConfigError, match=r"a share in \(0, 1\), got .*For 90 % write 0\.9"):
        calibrate(np.array([[1.0]]), np.array([0]), ["a"], coverage)


def test_the_quantile_is_the_score_at_which_the_weights_of_groups_reach_the_coverage():
    """Scores 0.1 to 0.4 of groups a, a, b, c: weights 1/8, 1/8, 1/4, 1/4 of four, the fourth is a new group's."""
    shares = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]])
    labels, names = np.zeros(4, dtype=np.int64), ["a", "a", "b", "c"]
    for coverage, score in ((0.1, 0.1), (0.125, 0.1), (0.2, 0.2), (0.25, 0.2), (0.3, 0.3), (0.5, 0.3), (0.75, 0.4)):
        found = calibrate(shares, labels, names, coverage)
        assert (found.coverage, found.num_groups) == (coverage, 3)
        assert found.quantile == pytest.approx(score, abs=1e-3)
        assert found.quantile >= score
    assert calibrate(shares, labels, names, 0.76).quantile == 1.0


def test_a_set_holds_the_classes_whose_score_is_at_most_the_quantile():
    shares, found = (
        np.array([[0.5, 0.25, 0.25], [0.875, 0.125, 0.0]]),
        Conformal(coverage=0.9, quantile=0.75, num_groups=9),
    )
    assert sizes(shares, found).tolist() == [3, 1]
    assert [contains(shares, np.full(2, label), found).tolist() for label in range(3)] == [
        [True, True],
        [True, False],
        [True, False],
    ]
