"""Korn-Graubard intervals: limits of a binomial share at the effective number of images of a grouped sample.

Korn & Graubard 1998 (Survey Methodology 24(2)): where images of one group resemble each other, n images know as much of
a share as n_eff = p (1 - p) / V independent ones, V being the variance of p over groups. Their limits are exact
(Clopper & Pearson); those of Jeffreys, for estimates of which many follow each other, are narrower and hold the truth
about as often as they say instead of at least so often (Brown, Cai & DasGupta 2001, doi:10.1214/ss/1009213286).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

BinomialLimits = Callable[[float, float, float], tuple[float, float]]
"""Both ends of an interval, from hits, trials and level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Both ends of an interval, and the number of independent images that know as much."""

    low: float
    high: float
    n_eff: float
    """Independent images of the same variance; at most the images there are."""


def clopper_pearson(hits: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Computes the exact binomial interval, for numbers that need not be whole.

    Clopper & Pearson 1934 (doi:10.1093/biomet/26.4.404), as quantiles of beta distributions.
    """
    from scipy.special import betaincinv

    tail, misses = (1 - level) / 2, max(trials - hits, 0.0)
    low = float(betaincinv(hits, misses + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - tail)) if misses > 0 else 1.0
    return low, high


def jeffreys(hits: float, trials: float, level: float = 0.95) -> tuple[float, float]:
    """Computes the middle of the posterior with Jeffreys' prior, for numbers that need not be whole."""
    from scipy.special import betaincinv

    low, high = betaincinv(hits + 0.5, trials - hits + 0.5, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def korn_graubard(
    value: float,
    variance: float,
    *,
    num_images: int,
    effective_units: float,
    level: float = 0.95,
    limits_of: BinomialLimits = clopper_pearson,
) -> Limits:
    """Computes the limits of a share, or of another measure in [0, 1], from its variance over groups.

    Few groups leave the variance uncertain: n_eff is multiplied by the square of the ratio of Student's quantiles with
    n - 1 and nu degrees of freedom. Korn & Graubard take the number of clusters - 1 for nu; here it is Kish's number
    - 1, which is smaller where groups differ in size. A value of 0 or 1 has no variance: each of Kish's number of
    groups then counts as one image, as if all images of a group were alike, and the limits are exact.

    Args:
        variance: Of the value, for other groups; ``jackknife_variance``.
        effective_units: Kish's number of groups.
        limits_of: ``clopper_pearson`` or ``jeffreys``.
    """
    from scipy.special import stdtrit

    if not 0 < value < 1:
        n_eff = min(effective_units, num_images)
        low, high = clopper_pearson(value * n_eff, n_eff, level)
        return Limits(low=low, high=high, n_eff=n_eff)
    n_eff = min(float(num_images), value * (1 - value) / variance) if variance > 0 else float(num_images)
    if effective_units <= 1 or num_images <= 1:
        return Limits(low=0.0, high=1.0, n_eff=0.0)
    upper = (1 + level) / 2
    quantiles = stdtrit([num_images - 1, effective_units - 1], upper)
    adjusted = n_eff * float(quantiles[0] / quantiles[1]) ** 2 if np.isfinite(quantiles[1]) else 0.0
    low, high = limits_of(value * adjusted, adjusted, level)
    # of hardly any images Jeffreys' limits may leave a share next to 0 or 1 out
    return Limits(low=min(low, value), high=max(high, value), n_eff=n_eff)


def jackknife_variance(value: float, left_out: ArrayLike) -> float:
    """Computes the delete-one-group jackknife variance about the value itself (CV3 of MacKinnon & Webb 2022).

    Args:
        left_out: The value with each group left out in turn.
    """
    values: Float64[np.ndarray, " units"] = np.asarray(left_out, dtype=np.float64)
    number = len(values)
    return float(((values - value) ** 2).sum() * (number - 1) / number)
