"""Inverse power law of a learning curve, fitted with bounds, for many resamples at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_EXPONENTS = np.geomspace(0.05, 2.0, 160)
"""Tried one by one: with the exponent fixed the rest is a straight line, and the best of all lines is found."""
_ROWS = 64
"""Resamples whose errors are computed together: what passes through them again and again stays in the processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """``accuracy(n) = asymptote - scale * n ** -exponent`` (Figueroa et al. 2012, doi:10.1186/1472-6947-12-8).

    Each field is a number, or one number a resample.
    """

    asymptote: NDArray[np.float64]
    """Where labels without end would lead, in [0, 1]."""
    scale: NDArray[np.float64]
    """At least 0."""
    exponent: NDArray[np.float64]
    """In [0.05, 2]."""

    def at(self, labels: ArrayLike) -> NDArray[np.float64]:
        """Returns the accuracy with so many labels per class; for resamples [resamples, labels]."""
        powers = np.asarray(labels, dtype=np.float64) ** -self.exponent[..., None]
        return self.asymptote[..., None] - self.scale[..., None] * powers

    def needed(self, target: float) -> NDArray[np.float64]:
        """Returns how many labels per class reach an accuracy; infinity where the curve levels off below it."""
        gap = self.asymptote - target
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            labels = (self.scale / gap) ** (1 / self.exponent)
        return np.where(gap > 0, np.maximum(labels, 1.0), np.inf)


def fit_power_law(labels: ArrayLike, accuracies: ArrayLike) -> PowerLaw:
    """Fits by least squares, each curve the global best over a fine grid of exponents.

    The j-th of m points weighs j / m: what many labels give says more of what still more would (as in Figueroa et al.).

    Args:
        labels: Labels per class at each point, ascending, [points].
        accuracies: In [0, 1], [points] or [resamples, points].
    """
    counts, curves = np.asarray(labels, dtype=np.float64), np.asarray(accuracies, dtype=np.float64)
    weights = np.arange(1, len(counts) + 1) / len(counts)
    powers = counts[None, :] ** -_EXPONENTS[:, None]  # [exponents, points]
    candidates = _lines(np.atleast_2d(curves), powers, weights)
    best = np.stack([error for _, _, error in candidates])  # [kinds, resamples, exponents]
    kind, exponent = np.divmod(best.transpose(1, 0, 2).reshape(best.shape[1], -1).argmin(axis=1), len(_EXPONENTS))
    rows = np.arange(best.shape[1])
    asymptote, scale = (np.stack([line[part] for line in candidates])[kind, rows, exponent] for part in (0, 1))
    shape = curves.shape[:-1]
    return PowerLaw(
        asymptote=asymptote.reshape(shape),
        scale=scale.reshape(shape),
        exponent=_EXPONENTS[exponent].reshape(shape),
    )


Line = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Asymptote, scale and squared error, each [resamples, exponents]."""


def _lines(curves: NDArray[np.float64], powers: NDArray[np.float64], weights: NDArray[np.float64]) -> list[Line]:
    """The best line in the inside and on each edge of what is allowed: asymptote at most 1, scale at least 0."""
    total, first, second = weights.sum(), powers @ weights, powers**2 @ weights
    sums, mixed = (curves @ weights)[:, None], (curves * weights) @ powers.T
    scale = (first * sums - total * mixed) / (total * second - first**2)
    asymptote = (sums + scale * first) / total
    inside = (asymptote <= 1) & (scale >= 0)
    at_one = np.maximum(0.0, (first - mixed) / second)
    mean, flat = sums / total, np.zeros_like(sums)  # a flat line is the same for every exponent
    lines = [
        (asymptote, scale, np.where(inside, _error(curves, powers, weights, asymptote, scale), np.inf)),
        (np.ones_like(at_one), at_one, _error(curves, powers, weights, np.ones_like(at_one), at_one)),
        (mean, flat, _error(curves, powers[:1], weights, mean, flat)),
    ]
    whole = mixed.shape
    return [(np.broadcast_to(a, whole), np.broadcast_to(b, whole), np.broadcast_to(e, whole)) for a, b, e in lines]


def _error(
    curves: NDArray[np.float64],
    powers: NDArray[np.float64],
    weights: NDArray[np.float64],
    asymptote: NDArray[np.float64],
    scale: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Squared error, point by point: the same from sums would lose its last digits where a curve fits well."""
    error = np.zeros_like(asymptote)
    for start in range(0, len(error), _ROWS):
        rows = slice(start, start + _ROWS)
        for point, weight in enumerate(weights):
            off = asymptote[rows] - scale[rows] * powers[:, point]
            off -= curves[rows, point, None]
            off *= off
            off *= weight
            error[rows] += off
    return error
