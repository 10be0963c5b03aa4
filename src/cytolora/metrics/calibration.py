"""Temperature scaling and calibration error of class probabilities: reliability bins, ECE, Brier score."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int, Int64
from numpy.typing import ArrayLike

NUM_BINS = 15
"""Of equal width, as in Guo, Pleiss, Sun & Weinberger 2017 (ICML; arXiv:1706.04599, Sec. 2)."""

_LOG_TEMPERATURES = (np.log(0.05), np.log(20.0))
"""Range of the search; logits that need a temperature beyond it carry no information."""
_MIN_PROBABILITY = 1e-12
_MAX_TANGENTS, _BOUND_TOLERANCE = 10, 0.01
"""Of the bound of a loss: most tangents, and how near it has to come to the loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The images whose predicted class has a probability in (low, high]."""

    low: float
    high: float
    num_images: int
    confidence: float
    """Mean probability of the predicted class; 0 in an empty bin."""
    accuracy: float
    """Share of correct predictions; 0 in an empty bin."""


def probabilities(
    logits: Float[np.ndarray, "images classes"], temperature: float
) -> Float64[np.ndarray, "images classes"]:
    """Applies a temperature and the softmax to logits."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def fit_temperature(logits: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, " images"]) -> float:
    """Returns the temperature with the lowest cross-entropy (Guo et al. 2017, Sec. 4.2), in [0.05, 20].

    Args:
        logits: Of images that the classifier was not trained on.
        labels: Class indices.
    """
    from scipy.optimize import minimize_scalar  # slow to load, and applying a temperature needs none of it

    below_top = np.ascontiguousarray((logits - logits.max(axis=1, keepdims=True)).T, dtype=np.float64)
    of_truth, highest = below_top[labels, np.arange(len(labels))], -np.log(_MIN_PROBABILITY)

    def loss(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        each = np.log(np.exp(factor * below_top).sum(axis=0)) - factor * of_truth  # classes by rows: quick to add up
        return float(np.minimum(each, highest).mean())

    if (end := _end_of_range(below_top, of_truth)) is not None:
        return end
    optimum = minimize_scalar(
        loss,
        bounds=_LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(optimum.x))


def _end_of_range(
    below_top: Float64[np.ndarray, "classes images"], of_truth: Float64[np.ndarray, " images"]
) -> float | None:
    """Returns the end of the range at which the cross-entropy is lowest, which a search comes near in many steps only.

    None where it is inside, or where the limit of the loss of an image may count: without it the loss is convex in the
    inverse temperature, and its slope at an end tells.
    """
    lowest, highest = _LOG_TEMPERATURES
    for log_temperature, sign in ((lowest, 1), (highest, -1)):
        factor = np.exp(-log_temperature)
        powers = np.exp(factor * below_top)
        totals = powers.sum(axis=0)
        if log_temperature == lowest and (np.log(totals) - factor * of_truth).max() >= -np.log(_MIN_PROBABILITY):
            return None
        if sign * ((powers * below_top).sum(axis=0) / totals - of_truth).sum() <= 0:
            return float(np.exp(log_temperature))
    return None


def least_cross_entropy(logits: Float[np.ndarray, "images classes"], labels: Int[np.ndarray, " images"]) -> float:
    """Returns what ``cross_entropy`` is not below at any temperature in [0.05, 20], and close to its minimum; nats.

    Up to the rounding of float64: 1e-15 of a nat where the loss is next to nothing.

    Without its limit the loss is convex in the inverse temperature, so that it lies above its tangents: those at both
    ends of a range meet at a bound, and the tangent there narrows the range. Images of which the limit may count cost
    at least nothing.
    """
    gaps = (logits - logits[np.arange(len(labels)), labels][:, None]).T.astype(np.float64)  # to the true class
    hottest, coldest = (float(np.exp(-end)) for end in reversed(_LOG_TEMPERATURES))
    is_counted = coldest * gaps.max(axis=0) + np.log(len(gaps)) < -np.log(_MIN_PROBABILITY)
    gaps, share = np.ascontiguousarray(gaps if is_counted.all() else gaps[:, is_counted]), 1 / len(labels)

    def tangent(factor: float) -> tuple[float, float, float]:
        powers = np.exp(factor * gaps)
        totals = powers.sum(axis=0)
        return factor, float(np.log(totals).sum()) * share, float(((powers * gaps).sum(axis=0) / totals).sum()) * share

    low, high = tangent(hottest), tangent(coldest)
    if low[2] >= 0 or high[2] <= 0:  # lowest at an end
        return low[1] if low[2] >= 0 else high[1]
    bound = 0.0
    for _ in range(_MAX_TANGENTS):
        meet = (low[1] - low[2] * low[0] - high[1] + high[2] * high[0]) / (high[2] - low[2])
        bound = low[1] + low[2] * (meet - low[0])
        middle = tangent(meet)
        if middle[1] - bound <= _BOUND_TOLERANCE * middle[1]:
            break
        low, high = (low, middle) if middle[2] > 0 else (middle, high)
    return max(0.0, bound)


def cross_entropy(labels: Int[np.ndarray, " images"], probabilities: Float64[np.ndarray, "images classes"]) -> float:
    """Computes the mean over images of -log p(true class), nats; a probability counts as 1e-12 at least."""
    of_truth = probabilities[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(of_truth, _MIN_PROBABILITY)).mean())


def bin_index(confidence: ArrayLike, num_bins: int = NUM_BINS) -> Int64[np.ndarray, " images"]:
    """Returns the bin that holds each probability of a predicted class."""
    return np.clip(np.ceil(np.asarray(confidence) * num_bins).astype(np.int64) - 1, 0, num_bins - 1)


def reliability(labels: ArrayLike, probabilities: ArrayLike, num_bins: int = NUM_BINS) -> list[Bin]:
    """Sorts images by the probability of their predicted class into bins of equal width.

    Args:
        labels: Class indices, one an image.
        probabilities: A row an image, a column a class.
    """
    by_class: Float64[np.ndarray, "images classes"] = np.asarray(probabilities, dtype=np.float64)
    confidence, is_correct = by_class.max(axis=1), by_class.argmax(axis=1) == np.asarray(labels)
    bins = bin_index(confidence, num_bins)
    counts = np.bincount(bins, minlength=num_bins)
    sums = (np.bincount(bins, weights=values, minlength=num_bins) for values in (confidence, is_correct))
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


def expected_calibration_error(bins: list[Bin]) -> float:
    """Computes the expected calibration error (ECE): |confidence - accuracy|, averaged over the images."""
    total = sum(entry.num_images for entry in bins)
    return sum(entry.num_images * abs(entry.confidence - entry.accuracy) for entry in bins) / total


def brier(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Computes the Brier score of all classes: the squared distance from the truth, in [0, 2].

    For two classes it is twice what is printed for one of them (Brier 1950, Monthly Weather Review 78(1)).
    """
    errors = np.array(probabilities, dtype=np.float64)
    errors[np.arange(len(errors)), np.asarray(labels)] -= 1
    return float((errors**2).sum(axis=1).mean())
