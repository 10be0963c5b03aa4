"""Ensembles: weighted means of class probabilities, and weights chosen on validation images."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MAX_STEPS, _TOLERANCE = 2000, 1e-10


def mean_probabilities(members: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """Returns the weighted mean of arrays of images x classes; weights are non-negative and add up to 1."""
    return np.einsum("m,mic->ic", np.asarray(weights, dtype=np.float64), np.stack(members))


def likeliest_weights(members: Sequence[NDArray[np.float64]], labels: NDArray[np.int64]) -> list[float]:
    """Returns the weights of the mean under which the true classes are most probable.

    Mixture weights by expectation maximisation from equal ones: the likelihood is concave in the weights, so that there
    is one optimum. Members that are equal on these images keep equal weights.

    Args:
        members: Probabilities of images x classes, all of images that chose no test score.
        labels: Their true classes; at least one.
    """
    truth = np.stack([np.maximum(one[np.arange(len(labels)), labels], 1e-12) for one in members])
    weights = np.full(len(members), 1 / len(members))
    for _ in range(_MAX_STEPS):
        shares = weights[:, None] * truth
        updated = (shares / shares.sum(axis=0)).mean(axis=1)
        if np.abs(updated - weights).max() < _TOLERANCE:
            break
        weights = updated
    return (weights / weights.sum()).tolist()
