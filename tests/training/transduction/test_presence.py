import numpy as np
import pytest

from cytolora.training.transduction.presence import false_rate_limits, shown_present

NO_SPREAD = np.array([[0.9, 0.1, 0.0], [0.05, 0.9, 0.05], [0.0, 0.1, 0.9]])


def test_predictions_that_mistakes_explain_show_no_class():
    assert shown_present(np.repeat([0, 1], [910, 90]), NO_SPREAD).tolist() == [True, False, False]


def test_predictions_beyond_what_mistakes_explain_show_a_class():
    assert shown_present(np.repeat([0, 1, 2], [800, 180, 20]), NO_SPREAD).tolist() == [True, True, True]


def test_a_single_class_is_shown_and_no_other():
    assert shown_present(np.full(50, 2), NO_SPREAD).tolist() == [False, False, True]
    assert shown_present(np.array([1]), np.ones((3, 3))).tolist() == [False, True, False]


def test_a_limit_lies_above_the_share_and_falls_with_more_cells():
    labels, predicted = np.zeros(400, np.int64), np.repeat([0, 1], [380, 20])
    rng = np.random.default_rng(0)
    order = rng.permutation(400)
    groups = [str(number) for number in np.arange(400) % 40]
    many = false_rate_limits(labels[order], predicted[order], groups, 2)
    few = false_rate_limits(labels[:40], predicted[order][:40], groups[:40], 2)
    assert 0.05 < many[0, 1] < few[0, 1] < 0.3
    assert many[1].tolist() == [1, 1], "nothing is known of a class without held-out cells"


def test_mistakes_that_gather_on_one_slide_raise_the_limit():
    labels, groups = np.zeros(400, np.int64), [str(number // 10) for number in range(400)]
    even, gathered = np.zeros(400, np.int64), np.zeros(400, np.int64)
    even[::20] = 1
    gathered[:20] = 1
    limits = [false_rate_limits(labels, predicted, groups, 2)[0, 1] for predicted in (even, gathered)]
    assert limits[0] < 0.13
    assert limits[1] > 0.25


@pytest.mark.parametrize("seed", range(3))
def test_a_new_slide_of_one_class_rarely_shows_another(seed):
    """The share of mistakes differs from slide to slide; limits are for a new one, not for the mean."""
    rng = np.random.default_rng(seed)
    rates = rng.beta(3, 27, size=240)
    labels = np.zeros(40 * 30, np.int64)
    predicted = np.concatenate([rng.random(30) < rate for rate in rates[:40]]).astype(np.int64)
    limits = false_rate_limits(labels, predicted, [str(row // 30) for row in range(1200)], 2)
    shown = [shown_present((rng.random(2000) < rate).astype(np.int64), limits)[1] for rate in rates[40:]]
    assert np.mean(shown) < 0.12
