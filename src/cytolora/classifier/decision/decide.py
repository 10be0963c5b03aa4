"""Predictions from logits and features by the decision rules of a classifier; needs no torch."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.ood import Features, distances
from cytolora.classifier.decision.rules import DecisionRules
from cytolora.metrics.calibration import probabilities

COLUMNS = ("path", "predicted", "positive", "prediction_set", "referred", "unfamiliar", "error")
"""Beside one column per class, in a table of predictions."""

_SEPARATOR, _ESCAPE = "|", "\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transductive:
    """The answer for one image among all of its slide, beside its own."""

    predicted: str
    """The most probable class."""
    probabilities: tuple[float, ...]
    """By class; together 1."""
    prediction_set: tuple[str, ...] | None
    """At the nominal coverage of each class; None where it is withheld: too few held-out groups of a class."""
    is_applied: bool
    """False: the slide kept the head's answer, as a finding says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The prediction for one image; for one that cannot be read, nothing but the error."""

    name: str
    """Path of the image as it was given, or its number among the images of the call, from 0."""
    error: str = ""
    error_code: str = ""
    """Of the finding that the error is, ``P104``; no column."""
    probabilities: tuple[float, ...] | None = None
    """By class, after the temperature; together 1."""
    predicted: str | None = None
    """The most probable class."""
    positive: bool | None = None
    """Whether the image is positive at the operating point; None where the bundle has none."""
    prediction_set: tuple[str, ...] | None = None
    """The classes that the true one is among at the nominal coverage; may be empty."""
    is_referred: bool | None = None
    """Whether a person should decide: the set is not exactly one class, the image is out-of-distribution, or
    has no content."""
    is_out_of_distribution: bool | None = None
    """The column ``unfamiliar``."""
    is_blank: bool = False
    """Whether the image has no content: one colour or smooth light; no column, a finding says so."""
    transductive: Transductive | None = None
    """Where it was asked for."""

    def row(self, classes: Sequence[str], *, with_transductive: bool = False) -> dict[str, Any]:
        """Returns the columns of a table: those of ``COLUMNS``, and each class's probability (``class_columns``).

        Args:
            with_transductive: Adds ``transductive_columns``, after the others.
        """
        by_class = self.probabilities or (None,) * len(classes)
        labels = None if self.prediction_set is None else join_labels(self.prediction_set)
        return {
            "path": self.name,
            "predicted": self.predicted,
            **dict(zip(class_columns(classes), by_class, strict=True)),
            "positive": self.positive,
            "prediction_set": labels,
            "referred": self.is_referred,
            "unfamiliar": self.is_out_of_distribution,
            "error": self.error,
            **(self._transductive_row(classes) if with_transductive else {}),
        }

    def _transductive_row(self, classes: Sequence[str]) -> dict[str, Any]:
        columns, one = transductive_columns(classes), self.transductive
        if one is None:
            return dict.fromkeys(columns)
        labels = None if one.prediction_set is None else join_labels(one.prediction_set)
        return dict(zip(columns, (one.predicted, *one.probabilities, labels, one.is_applied), strict=True))


def class_columns(classes: Sequence[str]) -> list[str]:
    """Returns the column of each class's probability: its own name, or ``p NAME`` where another column has that.

    A laboratory that tells ``positive`` from ``negative`` keeps both, and the truth value at the operating point.
    """
    taken = {*COLUMNS, *classes}
    columns = []
    for label in classes:
        column = label
        while column in COLUMNS or (column != label and column in taken):
            column = f"p {column}"
        taken.add(column)
        columns.append(column)
    return columns


def transductive_columns(classes: Sequence[str]) -> list[str]:
    """Returns the columns of the transductive answer: class, probability of each class, set, and whether it is one."""
    taken, columns = {*COLUMNS, *class_columns(classes)}, []
    for name in ("predicted", *(f"p {label}" for label in classes), "prediction_set", "applied"):
        column = f"transductive {name}"
        while column in taken:
            column = f"transductive {column}"
        taken.add(column)
        columns.append(column)
    return columns


def join_labels(labels: Sequence[str]) -> str:
    r"""Writes a prediction set as one text: ``a|b``; a ``|`` or ``\`` within a label gets a ``\`` before it."""
    escaped = (label.replace(_ESCAPE, _ESCAPE * 2).replace(_SEPARATOR, _ESCAPE + _SEPARATOR) for label in labels)
    return _SEPARATOR.join(escaped)


def split_labels(text: str) -> tuple[str, ...]:
    """Reads the text of ``join_labels``; an empty one is the empty set."""
    labels = re.findall(r"(?:^|\|)((?:[^\\|]|\\.)*)", text, flags=re.DOTALL) if text else []
    return tuple(re.sub(r"\\(.)", r"\1", label, flags=re.DOTALL) for label in labels)


def decide(
    rules: DecisionRules,
    names: Sequence[str],
    logits: NDArray[np.floating],
    features: Features | None = None,
    bank: Features | None = None,
    *,
    has_content: Sequence[bool] | None = None,
) -> list[Prediction]:
    """Applies the decision rules to the logits and features of images.

    Args:
        logits: [images, classes]
        features: [images, feature_dim]; without them, or without a bank, no image is checked for being
            out-of-distribution.
        bank: Features of the training images (``ood.from_bytes``).
        has_content: By image, whether it shows more than smooth light (data/imaging/content.py): one that does not is
            referred, whatever the rules say. All do if None.
    """
    by_image = probabilities(logits, rules.temperature)
    is_ood = _out_of_distribution(rules, len(names), features, bank)
    positive = _positive(rules, by_image)
    predictions = []
    for row, name in enumerate(names):
        prediction_set = _prediction_set(rules, by_image[row])
        is_ambiguous = prediction_set is not None and len(prediction_set) != 1
        is_blank = has_content is not None and not has_content[row]
        predictions.append(
            Prediction(
                name=name,
                probabilities=tuple(map(float, by_image[row])),
                predicted=rules.classes[int(by_image[row].argmax())],
                positive=positive[row],
                prediction_set=prediction_set,
                is_referred=is_ambiguous or bool(is_ood[row]) or is_blank,
                is_out_of_distribution=is_ood[row],
                is_blank=is_blank,
            )
        )
    return predictions


def _prediction_set(rules: DecisionRules, by_class: NDArray[np.float64]) -> tuple[str, ...] | None:
    if rules.conformal is None:
        return None
    quantile = rules.conformal.quantile  # compared as it was calibrated: 1 - (1 - p) is not p to the last bit
    return tuple(label for label, p in zip(rules.classes, by_class, strict=True) if 1 - p <= quantile)


def _positive(rules: DecisionRules, by_image: NDArray[np.float64]) -> list[bool | None]:
    point = rules.operating_point
    if point is None:
        return [None] * len(by_image)
    columns = [rules.classes.index(label) for label in point.positive]
    return [bool(total >= point.threshold) for total in by_image[:, columns].sum(axis=1)]


def _out_of_distribution(
    rules: DecisionRules, num_images: int, features: Features | None, bank: Features | None
) -> list[bool | None]:
    rule = rules.out_of_distribution
    if rule is None or features is None or bank is None or not num_images:
        return [None] * num_images
    return [bool(distance > rule.threshold) for distance in distances(features, bank, rule.neighbours)]
