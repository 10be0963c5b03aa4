"""Repeated divisions of one dataset: spread over divisions and over seeds apart, and an approximate interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev, variance

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class OverDivisions:
    """A metric over J divisions into train, validation and test."""

    mean: float
    """Of the divisions' means over their seeds."""
    num_divisions: int
    std_divisions: float
    """Standard deviation (n - 1) of these means."""
    std_seeds: float | None
    """Of the values of one division, variances averaged over the divisions; None where no division has two seeds."""
    low: float | None
    """Lower end of the 95 % interval; None where it has no meaning."""
    high: float | None

    @property
    def has_interval(self) -> bool:
        """Whether there is an interval."""
        return self.low is not None


def over_divisions(values: Sequence[Sequence[float]], *, test_over_train: float | None) -> OverDivisions:
    """Summarises one list of values, a value per seed, for each of two divisions or more.

    The interval is that of Nadeau & Bengio 2003 (Machine Learning 52, corrected resampled t-test): divisions share
    images, so that the variance of their mean is not s^2 / J but (1 / J + n_test / n_train) s^2, with J - 1 degrees of
    freedom. It is approximate: docs/statistics.md measures how often it holds the truth.

    Args:
        values: Shares in [0, 1].
        test_over_train: n_test / n_train, counted in sampling units (groups) of a division; None: no interval.
    """
    if len(values) < 2:
        raise ValueError(f"over_divisions needs two divisions or more, got {len(values)}.")
    means = [fmean(of_division) for of_division in values]
    within = [variance(of_division) for of_division in values if len(of_division) > 1]
    mean, spread, count = fmean(means), stdev(means), len(means)
    low = high = None
    if test_over_train is not None:
        from scipy.special import stdtrit  # the quantile of Student's t, without the half second of scipy.stats

        reach = float(stdtrit(count - 1, (1 + LEVEL) / 2)) * spread * sqrt(1 / count + test_over_train)
        low, high = max(0.0, mean - reach), min(1.0, mean + reach)
    return OverDivisions(
        mean=mean,
        num_divisions=count,
        std_divisions=spread,
        std_seeds=sqrt(fmean(within)) if within else None,
        low=low,
        high=high,
    )
