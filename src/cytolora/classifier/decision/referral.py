"""Referral curve: error among the rest against the share of images referred to a person (risk-coverage curve)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_NUM_POINTS = 20


def referral_curve(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Refers images in the order of doubt, the least probable prediction first.

    Returns:
        ``referred`` and ``error``: shares of all images, and of the rest that is predicted wrongly, at 0, 5, … 95 %;
        ``area``: the mean error over all shares referred, the area under the risk-coverage curve (Geifman & El-Yaniv
        2017, arXiv:1705.08500).
    """
    confidence, wrong = probabilities.max(axis=1), probabilities.argmax(axis=1) != labels
    surest_first = np.argsort(-confidence, kind="stable")
    errors = np.cumsum(wrong[surest_first]) / np.arange(1, len(labels) + 1)
    referred = np.arange(_NUM_POINTS) / _NUM_POINTS
    kept = np.maximum(1, np.round((1 - referred) * len(labels)).astype(int))
    return {
        "referred": [float(value) for value in referred],
        "error": [float(errors[number - 1]) for number in kept],
        "area": float(errors.mean()),
    }
