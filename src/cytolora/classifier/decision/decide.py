"""From a model's logits and features to what is said of an image; needs no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.bundle.manifest import Contents
from cytolora.classifier.decision.ood import Features, distances
from cytolora.metrics.calibration import probabilities

COLUMNS = ("path", "predicted", "positive", "prediction_set", "referred", "unfamiliar", "error")
"""Beside one column per class, in a table of predictions."""

SET_SEPARATOR = "|"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What is said of one image; of one that cannot be read, nothing but the error."""

    name: str
    """Path of the image as it was given, or its number among the images of the call, from 0."""
    error: str = ""
    probabilities: tuple[float, ...] | None = None
    """By class, after the temperature; together 1."""
    predicted: str | None = None
    """The most probable class."""
    positive: bool | None = None
    """Whether the image is positive at the operating point; None where the bundle has none."""
    prediction_set: tuple[str, ...] | None = None
    """The classes that the true one is among at the nominal coverage; may be empty."""
    is_referred: bool | None = None
    """Whether a person should decide: the set is not exactly one class, or the image is unfamiliar."""
    is_unfamiliar: bool | None = None

    def row(self, classes: Sequence[str]) -> dict[str, Any]:
        """Returns the columns of a table: those of ``COLUMNS``, and each class's probability under its own name."""
        shares = self.probabilities or (None,) * len(classes)
        found = None if self.prediction_set is None else SET_SEPARATOR.join(self.prediction_set)
        return {
            "path": self.name,
            "predicted": self.predicted,
            **dict(zip(classes, shares, strict=True)),
            "positive": self.positive,
            "prediction_set": found,
            "referred": self.is_referred,
            "unfamiliar": self.is_unfamiliar,
            "error": self.error,
        }


def decide(
    contents: Contents,
    names: Sequence[str],
    logits: NDArray[np.floating],
    features: Features | None = None,
    bank: Features | None = None,
) -> list[Prediction]:
    """Says of each image what the bundle's thresholds make of it.

    Args:
        logits: Images x classes.
        features: Images x width; None, or no bank: nothing is said about familiarity.
        bank: Features of the training images (``unfamiliar.from_bytes``).
    """
    shares = probabilities(logits, contents.temperature)
    strange = _unfamiliar(contents, len(names), features, bank)
    positive = _positive(contents, shares)
    classes, found = contents.classes, []
    for row, name in enumerate(names):
        chosen = _set(contents, shares[row])
        doubts = [chosen is not None and len(chosen) != 1, bool(strange[row])]
        found.append(
            Prediction(
                name=name,
                probabilities=tuple(map(float, shares[row])),
                predicted=classes[int(shares[row].argmax())],
                positive=positive[row],
                prediction_set=chosen,
                is_referred=any(doubts),
                is_unfamiliar=strange[row],
            )
        )
    return found


def _set(contents: Contents, shares: NDArray[np.float64]) -> tuple[str, ...] | None:
    if contents.conformal is None:
        return None
    high = contents.conformal.quantile  # compared as it was calibrated: 1 - (1 - p) is not p to the last bit
    return tuple(label for label, share in zip(contents.classes, shares, strict=True) if 1 - share <= high)


def _positive(contents: Contents, shares: NDArray[np.float64]) -> list[bool | None]:
    point = contents.operating_point
    if point is None:
        return [None] * len(shares)
    columns = [contents.classes.index(label) for label in point.positive]
    return [bool(total >= point.threshold) for total in shares[:, columns].sum(axis=1)]


def _unfamiliar(
    contents: Contents, num_images: int, features: Features | None, bank: Features | None
) -> list[bool | None]:
    if contents.unfamiliar is None or features is None or bank is None or not num_images:
        return [None] * num_images
    far = distances(features, bank, contents.unfamiliar.neighbours)
    return [bool(distance > contents.unfamiliar.threshold) for distance in far]
