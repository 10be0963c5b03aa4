"""Paired comparison of classifiers on the same images: bootstrap and cluster-robust tests, McNemar, Holm correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from cytolora.errors import ConfigError
from cytolora.metrics.bootstrap import Replicates, nominal_tail, percentile
from cytolora.metrics.counts import MEASURES
from cytolora.metrics.intervals import Interval
from cytolora.metrics.korn_graubard import jackknife_variance

_MIN_DRAWS = 10
"""Beyond zero, for their share to be a p-value."""

_DIGITS = 12
"""Of differences, before any is compared with zero: a draw in which both methods score the same is off by 1e-17."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How much higher the first of two methods scored on the same test images."""

    value: float
    """First minus second, of the means over the training seeds."""
    interval: Interval
    """95 %, for other patients, slides or images; not for other training seeds."""
    p: float
    """Two-sided, of no difference: the level at which the interval would just touch zero."""
    p_cluster: float | None
    """Two-sided, of no difference: cluster-robust t test; None where no variance over groups can be had."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """The classical test of two classifiers on the same images; it takes every image for independent of the others."""

    only_first: int
    """Images that the first alone classifies correctly."""
    only_second: int
    exact: float
    """Two-sided, conditional on the images on which the two differ."""
    mid_p: float
    """The same, counting half of what was observed: less conservative (Fagerland, Lydersen & Laake 2013)."""


def difference(first: Replicates, second: Replicates, metric: str) -> Difference:
    """Compares two methods over the draws that both share.

    The draws must come from equal images, groups and seed (``draw_metrics``), so that every draw holds the same
    patients, slides or images for both: what is hard for both cancels out.

    Raises:
        ConfigError: If the two were not drawn from equally many units, or the metric has no draws.
    """
    if metric not in MEASURES:
        raise ConfigError(f"Only {', '.join(MEASURES)} are compared in pairs, got {metric!r}.")
    if (first.unit, first.num_units) != (second.unit, second.num_units):
        raise ConfigError(
            f"Two methods are compared on the same test images, got {first.num_units} {first.unit}s and "
            f"{second.num_units} {second.unit}s."
        )
    value = first.observed[metric] - second.observed[metric]
    values = _rounded(first.values[metric] - second.values[metric])
    left_out = _rounded(first.left_out[metric] - second.left_out[metric])
    return Difference(
        value=value,
        interval=percentile(values, unit=first.unit, num_units=first.num_units, effective_units=first.effective_units),
        p=_p_value(values, value, first.effective_units),
        p_cluster=_cluster_robust_p(round(value, _DIGITS), left_out, first.effective_units),
    )


def _rounded(values: Float64[np.ndarray, " _"]) -> Float64[np.ndarray, " _"]:
    return values.round(_DIGITS) + 0.0  # no -0


def _cluster_robust_p(value: float, left_out: Float64[np.ndarray, " units"], effective_units: float) -> float | None:
    """Computes Student's t test of a difference over its jackknife error over groups.

    Degrees of freedom are Kish's number of groups - 1, as for intervals (Carter, Schnepel & Steigerwald 2017, Review of
    Economics and Statistics 99(4), show that unequal clusters count as fewer). Two methods that never differ have a p
    of 1; where all groups differ alike there is no variance to test against.
    """
    from scipy.special import stdtr

    if value == 0:
        return 1.0
    variance = jackknife_variance(value, left_out) if len(left_out) > 1 else 0.0
    if effective_units <= 1 or variance <= 0:
        return None
    return 2 * float(stdtr(effective_units - 1, -abs(value) / sqrt(variance)))


def _p_value(values: Float64[np.ndarray, " replicates"], observed: float, effective_units: float) -> float:
    """Inverts the interval; a draw is added to each side, so that none is 0 (Davison & Hinkley 1997, eq. 4.11).

    Where fewer than ``_MIN_DRAWS`` draws lie beyond zero, counting them says no more than that p is small, which a
    correction for hundreds of pairs would blow up: Student's tail of the difference over its standard error takes over,
    and never gives more than the count does.
    """
    from scipy.special import stdtr

    beyond, total = int(min((values <= 0).sum(), (values >= 0).sum())), len(values)
    counted = min(1.0, 2 * nominal_tail(max(beyond, _MIN_DRAWS) / (total + 1), effective_units))
    if beyond >= _MIN_DRAWS or effective_units <= 1 or total <= 2 * _MIN_DRAWS:
        return min(1.0, 2 * nominal_tail((beyond + 1) / (total + 1), effective_units))
    error = float(values.std()) * sqrt(effective_units / (effective_units - 1))
    return min(counted, 2 * float(stdtr(effective_units - 1, -abs(observed) / error))) if error else counted


def mcnemar(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> McNemar:
    """Tests whether two classifiers err equally often, from their predictions of the same images in the same order."""
    from scipy.stats import binom

    truth = np.asarray(labels)
    right, other = np.asarray(first) == truth, np.asarray(second) == truth
    only_first, only_second = int((right & ~other).sum()), int((~right & other).sum())
    fewer, num_differing = min(only_first, only_second), only_first + only_second
    exact = min(1.0, 2 * float(binom.cdf(fewer, num_differing, 0.5)))
    mid_p = 2 * float(binom.cdf(fewer, num_differing, 0.5)) - float(binom.pmf(fewer, num_differing, 0.5))
    return McNemar(only_first=only_first, only_second=only_second, exact=exact, mid_p=min(1.0, mid_p))


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for being a family: the chance of a single false claim among them stays below the level.

    Holm 1979 (Scandinavian Journal of Statistics 6(2)); holds however the tests depend on each other.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
