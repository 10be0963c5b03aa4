"""The interval of an inflation, held against scipy where both say the same, and against the definition where not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cytolora.classifier.leakage.gap import balanced_mean

VALUES = st.lists(st.floats(-1, 1), min_size=3, max_size=40)


@given(VALUES)
def test_of_one_class_and_single_cells_it_is_scipys_t_interval_of_a_mean(values: list[float]):
    found = balanced_mean(np.array(values), np.zeros(len(values), int), np.arange(len(values)))
    error = stats.sem(values)
    low, high = np.mean(values) + np.array([-1, 1]) * stats.t.ppf(0.975, len(values) - 1) * error
    assert found.value == pytest.approx(np.mean(values), abs=1e-12)
    assert (found.low, found.high) == pytest.approx((max(-1, low), min(1, high)), abs=1e-9)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(3, 9), st.integers(2, 5))
def test_of_groups_it_is_the_delete_one_group_jackknife_with_kishs_number_of_groups(
    seed: int, num_groups: int, per_class: int
):
    """Efron & Stein 1981: (g - 1) / g times the sum of squares around the mean of the values with a group left out."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), 2 * per_class)
    labels, values = np.tile([0, 1], num_groups * per_class), rng.normal(0, 0.1, len(groups))

    def balanced(kept: np.ndarray) -> float:
        return float(np.mean([values[kept & (labels == label)].mean() for label in (0, 1)]))

    left_out = np.array([balanced(groups != group) for group in range(num_groups)])
    whole = balanced(np.full(len(groups), True))
    found = balanced_mean(values, labels, groups)
    variance = (num_groups - 1) / num_groups * ((left_out - left_out.mean()) ** 2).sum()
    margin = stats.t.ppf(0.975, num_groups - 1) * np.sqrt(variance)
    assert found.value == pytest.approx(whole)
    assert found.high - found.value == pytest.approx(margin, rel=1e-6)
    assert found.value - found.low == pytest.approx(margin, rel=1e-6)
