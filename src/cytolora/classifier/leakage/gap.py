"""Difference of two balanced accuracies of the same cells, with its jackknife interval over groups."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float64, Int64

from cytolora.metrics.counts import effective_number
from cytolora.metrics.korn_graubard import jackknife_variance

LEVEL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Balanced accuracy of one division less that of another, as a share; 0.03 is 3 points."""

    value: float
    low: float
    high: float
    """95 % interval for other groups: jackknife over groups, Student's t with Kish's number of groups - 1."""

    @property
    def is_above_zero(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0


def balanced_mean(
    values: Float64[np.ndarray, " cells"], labels: Int64[np.ndarray, " cells"], groups: Int64[np.ndarray, " cells"]
) -> Gap:
    """Averages a value of each cell over the cells of a class, then over the classes.

    A group with the only cells of a class cannot be left out: then the interval is everything, [-1, 1].
    """
    classes, label = np.unique(labels, return_inverse=True)
    units, unit = np.unique(groups, return_inverse=True)
    sums, counts = np.zeros((len(units), len(classes))), np.zeros((len(units), len(classes)))
    np.add.at(sums, (unit, label), values)
    np.add.at(counts, (unit, label), 1)
    value = float((sums.sum(axis=0) / counts.sum(axis=0)).mean())
    left = counts.sum(axis=0) - counts
    effective = effective_number(counts.sum(axis=1))
    if (left == 0).any() or effective <= 1:
        return Gap(value=value, low=-1.0, high=1.0)
    left_out = ((sums.sum(axis=0) - sums) / left).mean(axis=1)
    margin = _quantile(effective - 1) * sqrt(jackknife_variance(value, left_out))
    return Gap(value=value, low=max(-1.0, value - margin), high=min(1.0, value + margin))


def points(gap: Gap) -> str:
    """``2.5 points (1.1 to 3.9)``, with the interval."""
    low, high = (f"{100 * end:.1f}" for end in (gap.low, gap.high))
    return f"{100 * gap.value:.1f} points ({low} to {high})".replace("-", "−")


def _quantile(degrees: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))
