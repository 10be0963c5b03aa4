"""Operating point: the threshold on the probability of positive classes that reaches a target sensitivity."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.margins import below
from cytolora.classifier.decision.rules import OperatingPoint
from cytolora.errors import ConfigError, DataError, unknown_name
from cytolora.metrics.intervals import IntervalKind, share_interval

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of images with its 95 % interval over groups."""

    value: float
    low: float
    high: float
    kind: IntervalKind
    n_eff: float | None
    num_images: int


def check_asked(positive: Sequence[str], sensitivity: float, classes: Sequence[str]) -> None:
    """Raises a ConfigError if the positive classes are not some of the classes, or the sensitivity is no share."""
    for index, label in enumerate(positive):
        if label not in classes:
            raise unknown_name("class", label, classes)
        if label in positive[:index]:
            raise ConfigError(f"--positive names {label!r} twice; its probability counts once. Leave one out.")
    if positive and set(positive) == set(classes):
        raise ConfigError("--positive names every class; leave at least one for what is negative.")
    if not 0 < sensitivity <= 1:
        raise ConfigError(f"sensitivity is a share in (0, 1], got {sensitivity}. For 95 % write 0.95.")


def choose(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    classes: Sequence[str],
    positive: Sequence[str],
    asked: float,
    paths: Sequence[str],
    groups: Sequence[str | None],
) -> OperatingPoint:
    """Takes the highest threshold that finds the share ``asked`` of the positive images, with one image to spare.

    At the highest threshold that finds just the share, new images would fall short of it on average: of n calibration
    images and a new one, at most (1 - asked) (n + 1) may lie below, the new one among them. It is the quantile of
    split conformal prediction (Vovk et al. 2005), here over images, not groups. Where that leaves none, none is missed.
    It lies a little below the image that sets it, which would else be positive on one machine and not on another.

    Args:
        probabilities: Probabilities of the calibration images.

    Raises:
        DataError: If no calibration image is positive, or none is negative.
    """
    score, is_positive = summed(probabilities, classes, positive), np.isin(labels, [classes.index(p) for p in positive])
    if is_positive.all() or not is_positive.any():
        raise DataError(
            f"An operating point needs positive and negative images among those held out; {int(is_positive.sum())} of "
            f"{len(labels)} are of {', '.join(positive)}. Add images, or leave --positive out."
        )
    positive_scores = np.sort(score[is_positive])
    num_missed = max(0, floor((1 - asked) * (len(positive_scores) + 1) + _ROUNDING) - 1)
    threshold = below(float(positive_scores[num_missed]))
    is_above = score >= threshold
    sensitivity = share(is_above[is_positive], _of(paths, is_positive), _of(groups, is_positive))
    specificity = share(~is_above[~is_positive], _of(paths, ~is_positive), _of(groups, ~is_positive))
    return OperatingPoint(
        positive=tuple(positive),
        asked=asked,
        threshold=threshold,
        sensitivity=sensitivity.value,
        sensitivity_low=sensitivity.low,
        sensitivity_high=sensitivity.high,
        specificity=specificity.value,
        specificity_low=specificity.low,
        specificity_high=specificity.high,
        num_positive=len(positive_scores),
    )


def summed(probabilities: NDArray[np.float64], classes: Sequence[str], positive: Sequence[str]) -> NDArray[np.float64]:
    """Adds up the probabilities of the positive classes."""
    return probabilities[:, [classes.index(label) for label in positive]].sum(axis=1)


def share(hits: NDArray[np.bool_], paths: Sequence[str], groups: Sequence[str | None]) -> Share:
    """Returns the share of images that are hits, with an interval over groups; at least one image."""
    found = share_interval(hits, images=paths, groups=groups)
    return Share(
        value=float(hits.mean()),
        low=found.low,
        high=found.high,
        kind=found.kind,
        n_eff=found.n_eff,
        num_images=len(hits),
    )


def _of(items: Sequence[Any], chosen: NDArray[np.bool_]) -> list[Any]:
    return [item for item, keep in zip(items, chosen, strict=True) if keep]
