"""Classification metrics of class probabilities: accuracy, balanced accuracy, macro F1 and cross-entropy."""

import warnings
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import ArrayLike

from cytolora.errors import ConfigError
from cytolora.metrics.counts import MEASURES, tally

_SAME_SCORE = 1e-6
_SAME_LOSS = 1e-3
"""Of a loss plus 1: float32 keeps 7 digits of a probability."""
_CLIPPED_AT = np.finfo(np.float64).eps
"""Where scikit-learn's log_loss clips a probability of float64."""


def score(labels: ArrayLike, probabilities: ArrayLike) -> dict[str, float | int]:
    """Scores class probabilities; the predicted class is the most probable one, the first of equals.

    Balanced accuracy is the mean over the classes that occur in ``labels``; macro F1 over those
    that occur in ``labels`` or among the predictions.

    Args:
        labels: The true class of each image, counted from 0.
        probabilities: A row an image, a column a class; rows add up to 1.

    Returns:
        For JSON: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``loss`` (mean cross-entropy, nats) and ``n``.

    Raises:
        ConfigError: If a probability is not finite, which is what training that diverged leaves behind.
    """
    from sklearn.metrics import (  # a second of processor time
        accuracy_score,
        balanced_accuracy_score,
        f1_score,
        log_loss,
    )

    truth = np.asarray(labels, dtype=np.int64)
    by_class = _normalised(np.asarray(probabilities, dtype=np.float64))
    predicted = by_class.argmax(axis=1)
    with warnings.catch_warnings():
        # Validation sets of few cells miss classes; scikit-learn warns about each and does what is wanted.
        warnings.filterwarnings("ignore", message="y_pred contains classes not in y_true")
        warnings.filterwarnings("ignore", message="A single label was found")
        balanced = balanced_accuracy_score(truth, predicted)
    return {
        "accuracy": float(accuracy_score(truth, predicted)),
        "balanced_accuracy": float(balanced),
        "macro_f1": float(f1_score(truth, predicted, average="macro")),
        "loss": float(log_loss(truth, by_class, labels=np.arange(by_class.shape[1]))),
        "n": len(truth),
    }


def other_scores(
    said: Mapping[str, float | int] | None,
    labels: Int64[np.ndarray, " images"],
    probabilities: Float64[np.ndarray, "images classes"],
) -> str:
    """Compares stored scores with those of stored probabilities, which lost some digits.

    Where the two highest probabilities of an image became equal, its class is not known any more, and accuracy alone is
    compared, with room for those images.

    Returns:
        The first score that differs, with both values; empty where none does, or no scores are stored.
    """
    if said is None:
        return ""
    number, highest = len(labels), np.sort(probabilities, axis=1)[:, -2:]
    tied = int((highest[:, 0] == highest[:, -1]).sum()) if highest.shape[1] == 2 else 0
    found: dict[str, float] = {"n": number, **_from_counts(labels, probabilities)}
    tolerances = {"n": 0.0, "accuracy": tied / number + _SAME_SCORE}
    if not tied:
        tolerances |= dict.fromkeys(("balanced_accuracy", "macro_f1"), _SAME_SCORE)
    if "loss" in said:
        of_truth = probabilities[np.arange(number), labels] / probabilities.sum(axis=1)
        found["loss"] = float(-np.log(np.clip(of_truth, _CLIPPED_AT, 1)).mean())
        tolerances["loss"] = _SAME_LOSS * (1 + found["loss"])
    for name, tolerance in tolerances.items():
        if not abs(said[name] - found[name]) <= tolerance:
            return f"{name} {said[name]:.6g}, its predictions give {found[name]:.6g}"
    return ""


def _from_counts(
    labels: Int64[np.ndarray, " images"], probabilities: Float64[np.ndarray, "images classes"]
) -> dict[str, float]:
    """Computes what counts give, as ``score`` does, in a hundredth of its time."""
    counts = tally(labels, probabilities.argmax(axis=1), probabilities.shape[1])
    return {name: float(MEASURES[name](counts)) for name in ("accuracy", "balanced_accuracy", "macro_f1")}


def _normalised(probabilities: Float64[np.ndarray, "images classes"]) -> Float64[np.ndarray, "images classes"]:
    """Returns rows with sums of exactly 1: those of a float32 softmax are off by 1e-7, which scikit-learn reports."""
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise ConfigError(
            f"The probabilities of {bad} of {len(probabilities)} images are not finite: training diverged. "
            "Take a lower learning rate."
        )
    return probabilities / probabilities.sum(axis=1, keepdims=True)
