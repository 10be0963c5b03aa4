"""Credible intervals of a share from few mistakes: the posterior of a beta-binomial model of groups.

Each group has a share of its own, drawn from a beta distribution of mean p and correlation rho (of two images of one
group); its images are then hits by that share. Jeffreys' prior for p, a uniform one for rho in (0, 0.7). Where hardly
any group holds a mistake, the variance over groups is under-estimated; the prior of rho stands in for what is not seen.
A prior that is uniform for the root of rho, which is the standard deviation between groups up to a factor (Gelman 2006,
doi:10.1214/06-BA117A), expects groups that differ less, and gives narrower intervals.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from cytolora.metrics.korn_graubard import Limits, jeffreys

UniformPrior = Literal["correlation", "deviation"]
"""What the prior is uniform for: rho, or its root, in proportion to the standard deviation between groups."""

MAX_CORRELATION = 0.7
"""Of two images of one group in being hits, the highest that the prior allows."""

_NUM_CORRELATIONS = 24
_NUM_COARSE = 24
_NUM_ZOOMS = 2
_NUM_FINE = 160
_NEGLIGIBLE = 18.0
"""Below the highest log density: what lies lower is left out."""


def beta_binomial_interval(
    hits: ArrayLike, sizes: ArrayLike, level: float = 0.95, uniform: UniformPrior = "correlation"
) -> Limits:
    """Computes the central posterior interval of the mean share p, integrated over the correlation.

    Args:
        hits: Of each group; means over training seeds need not be whole, so binomial coefficients are gamma functions.
        sizes: Images of each group, at least one.
        uniform: What the prior of the correlation is uniform for.
    """
    x, n = np.asarray(hits, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    if (n == 1).all():  # images of unknown groups: rho is without effect, the posterior is Jeffreys' beta distribution
        low, high = jeffreys(float(x.sum()), float(n.sum()), level)
        return Limits(low=low, high=high, n_eff=float(n.sum()))
    angle_edges, mass = _posterior(x, n, uniform)
    below = np.concatenate([[0.0], np.cumsum(mass)])
    middles = np.sin((angle_edges[1:] + angle_edges[:-1]) / 2) ** 2
    mean = float(mass @ middles)
    variance = float(mass @ (middles - mean) ** 2)
    low, high = np.sin(np.interp([(1 - level) / 2, (1 + level) / 2], below, angle_edges)) ** 2
    # Jeffreys' posterior of n independent images has the variance m (1 - m) / (n + 2)
    n_eff = min(max(mean * (1 - mean) / variance - 2, 0.0), float(n.sum()))
    return Limits(low=float(low), high=float(high), n_eff=n_eff)


def _posterior(
    hits: Float64[np.ndarray, " groups"], sizes: Float64[np.ndarray, " groups"], uniform: UniformPrior
) -> tuple[Float64[np.ndarray, " edges"], Float64[np.ndarray, " cells"]]:
    """Returns edges of cells in the angle arcsin(sqrt(p)), and the posterior mass of each cell.

    In that angle Jeffreys' prior is uniform, and the posterior about as wide everywhere. Coarse passes find where it
    lies, a fine one computes it there.
    """
    edges = np.linspace(0, np.pi / 2, _NUM_COARSE + 1)
    for _ in range(_NUM_ZOOMS):
        edges = _around_mode(edges, _log_marginal(_middles(edges), hits, sizes, uniform), _NUM_COARSE)
    edges = _around_mode(edges, _log_marginal(_middles(edges), hits, sizes, uniform), _NUM_FINE)
    log_mass = _log_marginal(_middles(edges), hits, sizes, uniform)
    mass = np.exp(log_mass - log_mass.max())
    return edges, mass / mass.sum()


def _around_mode(
    edges: Float64[np.ndarray, " edges"], log_mass: Float64[np.ndarray, " cells"], num_cells: int
) -> Float64[np.ndarray, " finer"]:
    """Divides the range of the cells that are not negligible, and a cell on each side, anew."""
    kept = np.flatnonzero(log_mass > log_mass.max() - _NEGLIGIBLE)
    return np.linspace(edges[max(kept[0] - 1, 0)], edges[min(kept[-1] + 2, len(edges) - 1)], num_cells + 1)


def _middles(edges: Float64[np.ndarray, " edges"]) -> Float64[np.ndarray, " cells"]:
    return (edges[1:] + edges[:-1]) / 2


def _log_marginal(
    angles: Float64[np.ndarray, " cells"],
    hits: Float64[np.ndarray, " groups"],
    sizes: Float64[np.ndarray, " groups"],
    uniform: UniformPrior,
) -> Float64[np.ndarray, " cells"]:
    """Computes the log likelihood of each p, integrated over the correlation, up to a constant.

    The likelihood of a group is B(a + x, b + n - x) / B(a, b), a = p s, b = (1 - p) s and s = 1 / rho - 1. Groups with
    equal counts are computed once.
    """
    from scipy.special import gammaln

    correlations, weights = _correlations(uniform)
    parts = [np.unique(counts[counts > 0], return_counts=True) for counts in (hits, sizes - hits, sizes)]
    likelihoods = np.empty((len(correlations), len(angles)))
    for index, rho in enumerate(correlations):
        strength = 1 / rho - 1
        shapes = (strength * np.sin(angles) ** 2, strength * np.cos(angles) ** 2, np.array([strength]))
        of_hits, of_misses, of_sizes = (
            (gammaln(shape[:, None] + values) - gammaln(shape)[:, None]) @ times.astype(np.float64)
            for shape, (values, times) in zip(shapes, parts, strict=True)
        )
        likelihoods[index] = of_hits + of_misses - of_sizes
    highest = likelihoods.max(axis=0)
    return highest + np.log(weights @ np.exp(likelihoods - highest))


@lru_cache(maxsize=2)
def _correlations(uniform: UniformPrior) -> tuple[Float64[np.ndarray, " nodes"], Float64[np.ndarray, " nodes"]]:
    """Returns nodes and weights of the prior: Gauss-Legendre in the root, so that they are dense at 0."""
    nodes, weights = np.polynomial.legendre.leggauss(_NUM_CORRELATIONS)
    roots = (nodes + 1) / 2
    return MAX_CORRELATION * roots**2, weights * roots if uniform == "correlation" else weights
