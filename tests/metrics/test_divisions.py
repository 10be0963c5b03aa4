"""Repeated divisions: the corrected interval of Nadeau & Bengio 2003, spreads apart."""

from math import sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cytolora.metrics.divisions import over_divisions

SHARES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=10)


def test_the_interval_is_scipys_t_interval_with_the_corrected_standard_error():
    values = [[0.80, 0.82], [0.70, 0.72], [0.76, 0.74], [0.78, 0.80], [0.71, 0.73]]
    found = over_divisions(values, test_over_train=1 / 3)
    means = np.mean(values, axis=1)
    error = sqrt((1 / 5 + 1 / 3) * means.var(ddof=1))
    low, high = stats.t.interval(0.95, 4, loc=means.mean(), scale=error)
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.mean == pytest.approx(0.756)
    assert found.std_divisions == pytest.approx(means.std(ddof=1))
    assert found.std_seeds == pytest.approx(np.sqrt(np.var(values, axis=1, ddof=1).mean()))
    assert found.num_divisions == 5


def test_without_a_correction_for_shared_images_it_is_the_t_interval_of_independent_values():
    values = [[0.5], [0.6], [0.55]]
    found = over_divisions(values, test_over_train=0)
    low, high = stats.t.interval(0.95, 2, loc=0.55, scale=stats.sem([0.5, 0.6, 0.55]))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert found.std_seeds is None


def test_without_a_ratio_of_groups_there_is_a_spread_and_no_interval():
    found = over_divisions([[0.5, 0.7], [0.6, 0.6]], test_over_train=None)
    assert (found.low, found.high, found.has_interval) == (None, None, False)
    assert found.std_divisions == 0
    assert found.std_seeds == pytest.approx(0.1)


def test_seeds_that_differ_are_no_spread_over_divisions():
    found = over_divisions([[0.1, 0.9], [0.9, 0.1], [0.5]], test_over_train=0.5)
    assert (found.std_divisions, found.low, found.high) == (pytest.approx(0), pytest.approx(0.5), pytest.approx(0.5))
    assert found.std_seeds == pytest.approx(0.8 / sqrt(2))


def test_one_division_is_refused():
    with pytest.raises(ValueError, match="two divisions or more, got 1"):
        over_divisions([[0.5, 0.6]], test_over_train=0.3)


@given(SHARES, st.floats(0, 5))
def test_the_interval_holds_the_mean_and_stays_a_share(values: list[list[float]], ratio: float):
    found = over_divisions(values, test_over_train=ratio)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= found.mean + 1e-12
    assert found.mean - 1e-12 <= found.high <= 1
