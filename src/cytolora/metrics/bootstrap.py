"""Cluster bootstrap of metrics for paired comparisons: whole groups are resampled, not single images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import sqrt

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import ArrayLike

from cytolora.metrics.counts import MEASURES, Tally, UnitCounts, count_by_unit, split_counts
from cytolora.metrics.intervals import Interval
from cytolora.metrics.units import Unit

REPLICATES = 2000
"""Bootstrap resamples of the test set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Metrics of the resampled test sets, as the mean over the training seeds."""

    values: Mapping[str, Float64[np.ndarray, " replicates"]]
    """By metric, one value per resample."""
    left_out: Mapping[str, Float64[np.ndarray, " units"]]
    """By metric, with each unit left out in turn: units are in the same order for equal images and groups."""
    observed: Mapping[str, float]
    """By metric, on the test set as it is."""
    unit: Unit
    num_units: int
    effective_units: float
    """See ``counts.effective_number``."""


def draw_metrics(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    num_classes: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Replicates:
    """Resamples the test set; see ``counts.count_by_unit`` for the arguments.

    An image that occurs more than once is drawn with all its predictions, one of each training seed. Equal images,
    groups and seeds give equal resamples in all calls.
    """
    counts = count_by_unit(labels, predicted, images=images, groups=groups, num_classes=num_classes)
    resampled = [resample(of_seed, seed=seed, replicates=replicates) for of_seed in counts.of_seeds]
    return Replicates(
        values={
            name: np.mean([measure(of_seed) for of_seed in resampled], axis=0) for name, measure in MEASURES.items()
        },
        left_out={name: counts.left_out(name) for name in MEASURES},
        observed={name: counts.observed(name) for name in MEASURES},
        unit=counts.unit,
        num_units=counts.num_units,
        effective_units=counts.effective_units,
    )


def resample(counts: UnitCounts, *, seed: int, replicates: int = REPLICATES) -> Tally:
    """Draws as many units as there are, with replacement, and adds up their counts.

    Equal numbers of units and equal seeds draw the same units, so that methods are compared in pairs.
    """
    times = _times_drawn(counts.shape[1], seed, replicates)
    sums = counts @ times  # whole numbers far below 2**24: exact in float32
    return split_counts(sums.T.astype(np.float64))


@lru_cache(maxsize=2)
def _times_drawn(num_units: int, seed: int, replicates: int) -> Float32[np.ndarray, "units replicates"]:
    """Counts how often each unit is drawn in each replicate."""
    rng = np.random.default_rng(seed)
    times = np.empty((num_units, replicates), dtype=np.float32)
    for replicate in range(replicates):
        times[:, replicate] = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
    times.flags.writeable = False
    return times


def percentile(
    values: Float64[np.ndarray, " replicates"],
    *,
    unit: Unit,
    num_units: int,
    effective_units: float | None = None,
    level: float = 0.95,
) -> Interval:
    """Computes the expanded percentile interval of the replicates.

    It holds a middle share of them that is a little more than ``level``, the more so the fewer units there are
    (Hesterberg 2015, The American Statistician 69(4)): this makes up for the missing n / (n - 1) of the bootstrap's
    variance, and replaces the normal quantile by Student's. Where units differ in size, n is their effective number,
    which brings the measured coverage near the nominal one (docs/statistics.md).

    Args:
        effective_units: See ``counts.effective_number``; None: all are of one size.
    """
    tail = expanded_tail((1 - level) / 2, effective_units or num_units)
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), level=level, kind="bootstrap", unit=unit, num_units=num_units)


@lru_cache(maxsize=64)
def expanded_tail(tail: float, num_units: float) -> float:
    """Returns the share of replicates to cut off at each end, for a nominal ``tail``; equal for very many units."""
    from scipy.special import ndtr, stdtrit

    if num_units <= 1:
        return 0.0
    return float(ndtr(sqrt(num_units / (num_units - 1)) * stdtrit(num_units - 1, tail)))


def nominal_tail(tail: float, num_units: float) -> float:
    """Inverts ``expanded_tail``: from a share of the replicates to the one-sided p-value."""
    from scipy.special import ndtri, stdtr

    if num_units <= 1:
        return 0.5
    return float(stdtr(num_units - 1, ndtri(min(tail, 0.5)) / sqrt(num_units / (num_units - 1))))
