"""benchmarks/coverage.py in small: 400 test sets a setting, seeded, with honest bounds of the Monte Carlo error."""

from typing import Any

import pytest
from benchmark_files import load_benchmark
from scipy.stats import binom

TRIALS = 400


@pytest.fixture(scope="module")
def coverage() -> Any:
    return load_benchmark("coverage")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("correlation", "num_groups", "sizes", "accuracy"),
    [
        (0.1, 30, "geometric", 0.85),
        (0.1, 30, "geometric", 0.97),
        (0.3, 30, "geometric", 0.6),
        (0.3, 100, "equal", 0.85),
        (0.3, 100, "equal", 0.97),
    ],
)
def test_nineteen_in_twenty_intervals_of_a_share_hold_the_truth(
    coverage: Any, correlation: float, num_groups: int, sizes: str, accuracy: float
):
    """Were the true coverage 94 %, one setting in a thousand would fall below the bound; the benchmark has all."""
    setting = coverage.Setting(accuracy=accuracy, correlation=correlation, num_groups=num_groups, sizes=sizes)
    found = coverage.simulate(setting, trials=TRIALS, seed=1)
    assert found.held["accuracy"] * TRIALS >= binom.ppf(0.001, TRIALS, 0.94)


@pytest.mark.slow
@pytest.mark.parametrize(("num_groups", "correlation"), [(30, 0.1), (50, 0.3), (100, 0.3)])
def test_few_mistakes_are_where_bootstrap_percentiles_fail_and_credible_intervals_do_not(
    coverage: Any, num_groups: int, correlation: float
):
    setting = coverage.Setting(accuracy=0.97, correlation=correlation, num_groups=num_groups, sizes="geometric")
    found = coverage.simulate(setting, trials=TRIALS, seed=2)
    assert found.credible > 0.9
    assert found.held["accuracy"] * TRIALS >= binom.ppf(0.001, TRIALS, 0.94)
    assert found.held["bootstrap"] < 0.92


@pytest.mark.slow
def test_an_interval_that_takes_cells_for_independent_misses_the_truth_half_the_time(coverage: Any):
    """The simulation itself: cells of one group do resemble each other."""
    setting = coverage.Setting(accuracy=0.85, correlation=0.3, num_groups=50, sizes="geometric")
    assert coverage.simulate(setting, trials=TRIALS, seed=3).held["independent"] < 0.65


@pytest.mark.parametrize(("accuracy", "correlation"), [(0.85, 0.1), (0.97, 0.3)])
def test_the_drawn_chances_have_the_mean_and_correlation_asked_for(coverage: Any, accuracy: float, correlation: float):
    import numpy as np

    for chances in ("beta", "logit-normal"):
        setting = coverage.Setting(
            accuracy=accuracy, correlation=correlation, num_groups=200_000, sizes="equal", chances=chances
        )
        drawn = coverage._chances(np.random.default_rng(0), setting)
        assert drawn.mean() == pytest.approx(accuracy, abs=0.003)
        assert drawn.var() / (accuracy * (1 - accuracy)) == pytest.approx(correlation, rel=0.03)
