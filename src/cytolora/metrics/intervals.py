"""Percentile intervals and p-values from bootstrap draws, corrected for few units."""

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolora.metrics.units import Unit

MIN_GROUPS = 50
"""With fewer groups intervals come out too narrow (docs/statistics.md measures by how much). Cameron, Gelbach & Miller
2008 (Review of Economics and Statistics 90(3)) call five to thirty clusters few, MacKinnon & Webb 2017 (Journal of
Applied Econometrics 32(2)) find fifty unequal ones not to be many."""

MIN_WRONG = 20
"""With fewer units that hold a mistake the draws are skewed, and intervals come out too narrow however many units there
are (docs/statistics.md measures by how much)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap interval."""

    low: float
    high: float
    level: float
    """Nominal coverage, in (0, 1)."""
    unit: Unit
    num_units: int
    num_wrong: int | None = None
    """Units that hold a mistake, on average over the training seeds; None where none were counted."""

    @property
    def warnings(self) -> dict[str, str]:
        """What a reader must know before trusting the interval: a sentence under a short name."""
        found = {}
        if self.num_units < MIN_GROUPS:
            only = f"The interval is drawn from {self.num_units} {self.unit}s only; under about {MIN_GROUPS}"
            found[f"few {self.unit}s"] = f"{only} it comes out too narrow."
        if self.low == self.high:
            found["no width"] = "Every resample gave the same value; the interval knows nothing of rarer mistakes."
        elif self.num_wrong is not None and self.num_wrong < MIN_WRONG <= self.num_units:
            only = f"Mistakes lie in {self.num_wrong} of {self.num_units} {self.unit}s; under about {MIN_WRONG}"
            found["few mistakes"] = f"{only} the interval comes out too narrow."
        return found


def effective_number(sizes: ArrayLike) -> float:
    """How many units of equal size would say as much as these, by Kish's rule: the square of the sum over the sum of
    squares (Kish 1965, Survey Sampling, Sec. 11.7)."""
    counts = np.asarray(sizes, dtype=np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum())


def percentile(
    values: NDArray[np.float64],
    *,
    unit: Unit,
    num_units: int,
    effective_units: float | None = None,
    level: float = 0.95,
) -> Interval:
    """Turns the values of the replicates into the interval that holds the middle share of them.

    The share is a little more than ``level``, the more so the fewer units there are: the expanded percentile interval
    of Hesterberg 2015 (The American Statistician 69(4)), which makes up for the missing n / (n - 1) of the bootstrap's
    variance and puts Student's quantile in the place of the normal one. Where units differ in size, n is their
    effective number: what brings the measured coverage near the nominal one (docs/statistics.md).

    Args:
        effective_units: See ``effective_number``; None: all are of one size.
    """
    tail = expanded_tail((1 - level) / 2, effective_units or num_units)
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), level=level, unit=unit, num_units=num_units)


@lru_cache(maxsize=64)
def expanded_tail(tail: float, num_units: float) -> float:
    """The share of replicates to cut off at each end, for a nominal ``tail``; the two agree for very many units."""
    from scipy.special import ndtr, stdtrit

    if num_units <= 1:
        return 0.0
    return float(ndtr(sqrt(num_units / (num_units - 1)) * stdtrit(num_units - 1, tail)))


def nominal_tail(tail: float, num_units: float) -> float:
    """Turns ``expanded_tail`` round: from a share of the replicates to the p-value of one side."""
    from scipy.special import ndtri, stdtr

    if num_units <= 1:
        return 0.5
    return float(stdtr(num_units - 1, ndtri(min(tail, 0.5)) / sqrt(num_units / (num_units - 1))))
