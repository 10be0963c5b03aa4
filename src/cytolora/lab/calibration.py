"""Probabilities that can be taken at their word: one temperature, fitted on held-out images."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cytolora.lab.decisions import probabilities

_BOUNDS = (np.log(0.05), np.log(20.0))
"""Of the temperature's logarithm; beyond, the logits are of no use anyway."""
_NUM_BINS = 15
_SMALLEST = 1e-12


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Returns the temperature with the lowest cross-entropy (Guo et al. 2017, arXiv:1706.04599, Sec. 4.2).

    Args:
        logits: Images x classes, of images that the model was not trained on.
        labels: Class indices.
    """
    found = minimize_scalar(
        lambda log_temperature: cross_entropy(probabilities(logits, float(np.exp(log_temperature))), labels),
        bounds=_BOUNDS,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def cross_entropy(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the mean over images of -log p(true class), nats."""
    return float(-np.log(np.maximum(shares[np.arange(len(labels)), labels], _SMALLEST)).mean())


def reliability(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> list[dict[str, float]]:
    """Compares confidence with accuracy in 15 equal bins of confidence (Guo et al. 2017, Sec. 2); empty ones left out.

    Returns:
        For each bin ``confidence`` and ``accuracy``, both means in [0, 1], and ``n``.
    """
    confidence, hits = shares.max(axis=1), shares.argmax(axis=1) == labels
    bins = np.minimum((confidence * _NUM_BINS).astype(int), _NUM_BINS - 1)
    return [
        {"confidence": float(confidence[bins == at].mean()), "accuracy": float(hits[bins == at].mean()), "n": int(n)}
        for at, n in enumerate(np.bincount(bins, minlength=_NUM_BINS))
        if n
    ]


def calibration_error(shares: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the expected calibration error: the gap of each bin of ``reliability``, by its share of the images."""
    bins = reliability(shares, labels)
    return sum(one["n"] * abs(one["confidence"] - one["accuracy"]) for one in bins) / len(labels)
