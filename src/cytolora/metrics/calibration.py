"""Calibration of probabilities: reliability bins, expected calibration error, Brier score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_BINS = 15
"""Of equal width, as in Guo, Pleiss, Sun & Weinberger 2017 (ICML; arXiv:1706.04599, Sec. 2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The images whose predicted class has a probability in (low, high]."""

    low: float
    high: float
    num_images: int
    confidence: float
    """Mean probability of the predicted class; 0 in an empty bin."""
    accuracy: float
    """Share of right predictions; 0 in an empty bin."""


def bin_index(confidence: ArrayLike, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Returns the bin that holds each probability of a predicted class."""
    return np.clip(np.ceil(np.asarray(confidence) * num_bins).astype(np.int64) - 1, 0, num_bins - 1)


def reliability(labels: ArrayLike, probabilities: ArrayLike, num_bins: int = NUM_BINS) -> list[Bin]:
    """Sorts images by the probability of their predicted class into bins of equal width."""
    shares = np.asarray(probabilities, dtype=np.float64)
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == np.asarray(labels)
    place = bin_index(confidence, num_bins)
    counts = np.bincount(place, minlength=num_bins)
    sums = (np.bincount(place, weights=values, minlength=num_bins) for values in (confidence, right))
    means = [np.divide(total, counts, out=np.zeros(num_bins), where=counts > 0) for total in sums]
    return [
        Bin(
            low=index / num_bins,
            high=(index + 1) / num_bins,
            num_images=int(counts[index]),
            confidence=float(means[0][index]),
            accuracy=float(means[1][index]),
        )
        for index in range(num_bins)
    ]


def expected_error(bins: list[Bin]) -> float:
    """Computes the expected calibration error: the distance of confidence and accuracy, averaged over the images."""
    total = sum(one.num_images for one in bins)
    return sum(one.num_images * abs(one.confidence - one.accuracy) for one in bins) / total


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Computes the Brier score of all classes: the squared distance from the truth, in [0, 2]; for two classes twice
    what is printed for one of them (Brier 1950, Monthly Weather Review 78(1))."""
    shares = np.array(probabilities, dtype=np.float64)
    shares[np.arange(len(shares)), np.asarray(labels)] -= 1
    return float((shares**2).sum(axis=1).mean())
