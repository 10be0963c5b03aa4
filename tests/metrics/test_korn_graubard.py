import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binomtest, t
from statsmodels.stats.proportion import proportion_confint

from cytolora.metrics.korn_graubard import clopper_pearson, jackknife_variance, jeffreys, korn_graubard


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (1, 1), (0, 20), (6, 6), (3, 10), (97, 100), (499, 1000)])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.99])
def test_clopper_pearson_is_scipys_exact_interval(hits: int, trials: int, level: float):
    expected = binomtest(hits, trials).proportion_ci(level, method="exact")
    assert clopper_pearson(hits, trials, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("hits", "trials"), [(0, 1), (6, 6), (3, 10), (20.5, 30), (97, 100), (499, 1000)])
def test_jeffreys_is_statsmodels_interval_and_lies_within_the_exact_one(hits: float, trials: float):
    for level in (0.9, 0.95, 0.99):
        found = jeffreys(hits, trials, level)
        assert found == pytest.approx(proportion_confint(hits, trials, 1 - level, method="jeffreys"), abs=1e-12)
        if 0 < hits < trials:
            low, high = clopper_pearson(hits, trials, level)
            assert low < found[0] < found[1] < high


def test_between_whole_numbers_clopper_pearson_lies_between_their_limits():
    fewer, between, more = (clopper_pearson(hits, 30) for hits in (20, 20.5, 21))
    assert fewer[0] < between[0] < more[0]
    assert fewer[1] < between[1] < more[1]


def test_the_jackknife_variance_of_a_mean_is_its_squared_standard_error():
    values = np.random.default_rng(0).normal(size=17)
    left_out = [np.delete(values, place).mean() for place in range(17)]
    assert jackknife_variance(values.mean(), left_out) == pytest.approx(values.var(ddof=1) / 17, rel=1e-12)


def test_the_limits_are_the_formula_of_korn_and_graubard():
    """p = 0.8, V = 0.004, 300 images, 25 groups: n_eff 40, times the squared ratio of Student's quantiles."""
    found = korn_graubard(0.8, 0.004, num_images=300, effective_units=25)
    trials = 40 * (t.ppf(0.975, 299) / t.ppf(0.975, 24)) ** 2
    low = beta.ppf(0.025, 0.8 * trials, 0.2 * trials + 1)
    high = beta.ppf(0.975, 0.8 * trials + 1, 0.2 * trials)
    assert (found.low, found.high, found.n_eff) == pytest.approx((low, high, 40), abs=1e-10)
    narrower = korn_graubard(0.8, 0.004, num_images=300, effective_units=25, limits_of=jeffreys)
    ends = beta.ppf([0.025, 0.975], 0.8 * trials + 0.5, 0.2 * trials + 0.5)
    assert (narrower.low, narrower.high, narrower.n_eff) == pytest.approx((*ends, 40), abs=1e-10)


def test_groups_that_are_more_alike_than_chance_count_at_most_as_many_images_as_there_are():
    assert korn_graubard(0.5, 1e-9, num_images=60, effective_units=20).n_eff == 60
    assert korn_graubard(0.5, 0.0, num_images=60, effective_units=20).n_eff == 60


def test_without_a_mistake_each_group_counts_as_one_image():
    found = korn_graubard(1.0, 0.0, num_images=500, effective_units=12.5)
    assert (found.low, found.high, found.n_eff) == (pytest.approx(0.025 ** (1 / 12.5), abs=1e-12), 1.0, 12.5)
    none = korn_graubard(0.0, 0.0, num_images=500, effective_units=12.5)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - found.low, abs=1e-12))


def test_one_group_alone_says_nothing_of_others():
    found = korn_graubard(0.7, 0.0, num_images=100, effective_units=1.0)
    assert (found.low, found.high, found.n_eff) == (0, 1, 0)


@given(
    value=st.floats(0.001, 0.999),
    variance=st.floats(0, 0.3),
    num_images=st.integers(2, 5000),
    per_group=st.floats(1, 50),
    limits_of=st.sampled_from([clopper_pearson, jeffreys]),
)
def test_the_limits_hold_the_value_and_stay_in_0_and_1(value, variance, num_images, per_group, limits_of):
    units = max(1.0, num_images / per_group)
    found = korn_graubard(value, variance, num_images=num_images, effective_units=units, limits_of=limits_of)
    assert 0 <= found.low <= value <= found.high <= 1
    assert 0 <= found.n_eff <= num_images


def test_two_images_of_two_groups_say_a_little():
    found = korn_graubard(0.5, 0.25, num_images=2, effective_units=2)
    assert found.n_eff == 1
    assert 0 < found.low < 0.5 < found.high < 1
