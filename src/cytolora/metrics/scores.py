"""Classification metrics of class probabilities: accuracy, balanced accuracy, macro F1 and cross-entropy."""

import warnings

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from cytolora.errors import ConfigError


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


def _normalised(probabilities: Float64[np.ndarray, "images classes"]) -> Float64[np.ndarray, "images classes"]:
    """Returns rows with sums of exactly 1: those of a float32 softmax are off by 1e-7, which scikit-learn reports."""
    bad = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if bad:
        raise ConfigError(
            f"The probabilities of {bad} of {len(probabilities)} images are not finite: training diverged. "
            "Take a lower learning rate."
        )
    return probabilities / probabilities.sum(axis=1, keepdims=True)
