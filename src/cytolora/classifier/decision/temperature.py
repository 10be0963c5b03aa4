"""Temperature scaling, fitted on held-out images."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from cytolora.classifier.decision.decide import probabilities
from cytolora.metrics import calibration

_BOUNDS = (np.log(0.05), np.log(20.0))
"""Of the temperature's logarithm; beyond, the logits are of no use anyway."""
_SMALLEST = 1e-12


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Returns the temperature with the lowest cross-entropy (Guo et al. 2017, arXiv:1706.04599, Sec. 4.2).

    Args:
        logits: Images x classes, of images that the model was not trained on.
        labels: Class indices.
    """
    optimum = minimize_scalar(
        lambda log_temperature: cross_entropy(probabilities(logits, float(np.exp(log_temperature))), labels),
        bounds=_BOUNDS,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(optimum.x))


def cross_entropy(by_image: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the mean over images of -log p(true class), nats."""
    return float(-np.log(np.maximum(by_image[np.arange(len(labels)), labels], _SMALLEST)).mean())


def reliability(by_image: NDArray[np.float64], labels: NDArray[np.int64]) -> list[dict[str, float]]:
    """Compares confidence with accuracy in 15 equal bins of confidence (Guo et al. 2017, Sec. 2); empty ones left out.

    Returns:
        For each bin ``confidence`` and ``accuracy``, both means in [0, 1], and ``n``.
    """
    return [
        {"confidence": bin_.confidence, "accuracy": bin_.accuracy, "n": bin_.num_images}
        for bin_ in calibration.reliability(labels, by_image)
        if bin_.num_images
    ]


def calibration_error(by_image: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Returns the expected calibration error: the gap of each bin of ``reliability``, by its share of the images."""
    return calibration.expected_error(calibration.reliability(labels, by_image))
