"""Classes that are shown to be present on a slide: predicted more often than the head's mistakes explain.

The head's rate of mistakes, by true class, is measured on held-out cells. For a new slide it is a draw from a beta
distribution, whose spread over slides (correlation of two cells of a slide) is estimated by analysis of variance.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import NDArray

from cytolora.metrics.korn_graubard import clopper_pearson

LEVEL = 0.95
"""Of the limits on both sides."""
_LEAST_CORRELATION = 0.02
"""Of two cells of a slide in being mistaken; few held-out slides show none, and no slide is like another."""


def shown_present(
    predicted: NDArray[np.int64], false_rates: Float64[np.ndarray, "classes classes"]
) -> Bool[np.ndarray, " classes"]:
    """Says by class whether its predictions on a slide exceed what mistakes at other classes' cells explain.

    Args:
        predicted: Class of each cell, by the head.
        false_rates: Of ``false_rate_limits``, [true class, predicted class].
    """
    counts = np.bincount(predicted, minlength=len(false_rates))
    is_shown = np.zeros(len(counts), dtype=bool)
    for label, number in enumerate(counts):
        others = len(predicted) - number
        if not number:
            continue
        limit = 0.0  # of what mistakes explain, were there no cell of this class
        if others:
            shares = np.delete(counts, label) / others
            limit = float(shares @ np.delete(false_rates[:, label], label))
        is_shown[label] = clopper_pearson(float(number), float(len(predicted)), LEVEL)[0] > limit
    return is_shown


def false_rate_limits(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], groups: Sequence[str], num_classes: int
) -> Float64[np.ndarray, "classes classes"]:
    """Returns upper limits for a new slide of the share of a class's cells that are predicted as another.

    Args:
        labels: Of held-out cells that decided nothing.
        groups: Patient or slide of each.

    Returns:
        [true class, predicted class]; 1 where no cell of the true class was held out.
    """
    limits = np.ones((num_classes, num_classes))
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    for label in range(num_classes):
        own = labels == label
        if not own.any():
            continue
        sizes = np.bincount(group[own], minlength=len(names))
        for other in range(num_classes):
            hits = np.bincount(group[own & (predicted == other)], minlength=len(names))
            limits[label, other] = _upper(hits[sizes > 0], sizes[sizes > 0])
    return limits


def _upper(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Returns the quantile ``LEVEL`` of the share on a new slide."""
    from scipy.special import betaincinv

    total = float(sizes.sum())
    mean = (float(hits.sum()) + 0.5) / (total + 1)  # Jeffreys' prior
    spread = max(_correlation(hits, sizes), _LEAST_CORRELATION) + 1 / (total + 1)
    strength = 1 / min(spread, 0.99) - 1
    return float(betaincinv(mean * strength, (1 - mean) * strength, LEVEL))


def _correlation(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Estimates the correlation of two cells of a group by analysis of variance (Fleiss 1981, Sec. 13.2)."""
    num_groups, total = len(sizes), float(sizes.sum())
    if num_groups < 2 or total <= num_groups:
        return 0.0
    shares, mean = hits / sizes, hits.sum() / total
    between = float((sizes * (shares - mean) ** 2).sum()) / (num_groups - 1)
    within = float((sizes * shares * (1 - shares)).sum()) / (total - num_groups)
    typical = (total - float((sizes**2).sum()) / total) / (num_groups - 1)
    divisor = between + (typical - 1) * within
    return (between - within) / divisor if divisor > 0 else 0.0
