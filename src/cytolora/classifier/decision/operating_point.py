"""Operating point: the threshold on the probability of positive classes that reaches a target sensitivity.

The sensitivity is that for new groups (patients or slides): images of one group resemble each other, so a quantile over
images would promise more than it keeps.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.conformal import needed_groups
from cytolora.classifier.decision.margins import below
from cytolora.classifier.decision.rules import OperatingPoint
from cytolora.display.format import count, percent, whole_percent
from cytolora.errors import ConfigError, DataError, unknown_name
from cytolora.metrics.intervals import IntervalKind, share_interval
from cytolora.metrics.korn_graubard import jackknife_variance, korn_graubard
from cytolora.metrics.units import unit_names

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


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupShare:
    """The mean over groups of a share of their images, with an approximate 95 % interval for new groups."""

    value: float
    low: float
    high: float
    num_groups: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TooFewGroups:
    """No operating point: calibration groups are too few for any threshold to promise the sensitivity asked for."""

    positive: tuple[str, ...]
    asked: float
    num_groups: int
    """Calibration groups that hold a positive image; an image whose group is not known is one of its own."""

    @property
    def attainable(self) -> float:
        """Sensitivity for a new group that so many groups can promise."""
        return attainable(self.num_groups)

    @property
    def num_needed(self) -> int | None:
        """Groups that could promise what was asked; None if no number could, as for 100 %."""
        return needed_groups(self.asked) if self.asked < 1 else None

    def plain(self) -> dict[str, Any]:
        """Returns the numbers and the sentence for JSON."""
        return {
            "positive": list(self.positive),
            "asked": self.asked,
            "num_groups": self.num_groups,
            "num_needed": self.num_needed,
            "attainable": self.attainable,
            "text": str(self),
        }

    def __str__(self) -> str:
        needed = "however many there are" if self.num_needed is None else f"with fewer than {self.num_needed}"
        return (
            f"No operating point was set: no threshold can promise a sensitivity of {whole_percent(self.asked)} for "
            f"new groups {needed}, and {count(self.num_groups, 'calibration group')} with {', '.join(self.positive)} "
            f"can promise {percent(self.attainable)} %. Take that with --lower-sensitivity, or add groups."
        )


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
    is_lower_allowed: bool = False,
) -> OperatingPoint | TooFewGroups:
    """Takes the highest threshold that finds the share ``asked`` of the positive images of a new group, on average.

    Every calibration group that holds a positive image weighs the same, shared among its positive images, and a group
    to come as much again, all of it missed: the quantile of hierarchical conformal prediction (Lee, Barber & Willett
    2023, arXiv:2306.06342) of the score, by class as in Vovk 2012 (arXiv:1209.2673). It lies a little below the image
    that sets it, which would else be positive on one machine and not on another.

    Args:
        probabilities: Probabilities of the calibration images.
        is_lower_allowed: Takes what the groups can promise where they are too few for ``asked``.

    Raises:
        DataError: If no calibration image is positive, or none is negative.
    """
    score, is_positive = summed(probabilities, classes, positive), np.isin(labels, [classes.index(p) for p in positive])
    if is_positive.all() or not is_positive.any():
        raise DataError(
            f"An operating point needs positive and negative images among those held out; {int(is_positive.sum())} of "
            f"{len(labels)} are of {', '.join(positive)}. Add images, or leave --positive out."
        )
    units = _of(unit_names(groups, paths), is_positive)
    num_groups = len(set(units))
    if attainable(num_groups) < asked - _ROUNDING and not is_lower_allowed:
        return TooFewGroups(positive=tuple(positive), asked=asked, num_groups=num_groups)
    promised = min(asked, attainable(num_groups))
    threshold = _threshold(score[is_positive], units, promised)
    is_above = score >= threshold
    sensitivity = share(is_above[is_positive], _of(paths, is_positive), _of(groups, is_positive))
    specificity = share(~is_above[~is_positive], _of(paths, ~is_positive), _of(groups, ~is_positive))
    return OperatingPoint(
        positive=tuple(positive),
        asked=asked,
        promised=promised,
        threshold=threshold,
        sensitivity=sensitivity.value,
        sensitivity_low=sensitivity.low,
        sensitivity_high=sensitivity.high,
        specificity=specificity.value,
        specificity_low=specificity.low,
        specificity_high=specificity.high,
        num_positive=int(is_positive.sum()),
        num_groups=num_groups,
    )


def attainable(num_groups: int) -> float:
    """Returns the sensitivity that a threshold below every positive image of so many groups promises for a new one."""
    return num_groups / (num_groups + 1)


def _threshold(scores: NDArray[np.float64], units: Sequence[str], promised: float) -> float:
    """Returns the highest threshold at which the groups' shares found, over one group more, reach the promise."""
    sizes = Counter(units)
    weights = np.array([1 / ((len(sizes) + 1) * sizes[unit]) for unit in units])
    order = np.argsort(-scores, kind="stable")
    reached = np.cumsum(weights[order]) >= promised - _ROUNDING
    return below(float(scores[order][reached.argmax()]))


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


def share_over_groups(hits: NDArray[np.bool_], units: Sequence[str]) -> GroupShare:
    """Returns the mean over groups of the share of their images that are hits; at least one image.

    The interval is that of Korn & Graubard from the jackknife variance of the mean, in which groups weigh the same.
    """
    by_group = _shares_by_group(hits, units)
    value, number = float(by_group.mean()), len(by_group)
    left_out = (by_group.sum() - by_group) / max(1, number - 1)
    variance = jackknife_variance(value, left_out)
    limits = korn_graubard(value, variance, num_images=len(hits), effective_units=number)
    return GroupShare(value=value, low=limits.low, high=limits.high, num_groups=number)


def _shares_by_group(hits: NDArray[np.bool_], units: Sequence[str]) -> NDArray[np.float64]:
    _, index, sizes = np.unique(np.asarray(units), return_inverse=True, return_counts=True)
    return np.bincount(index, weights=hits) / sizes


def _of(items: Sequence[Any], chosen: NDArray[np.bool_]) -> list[Any]:
    return [item for item, keep in zip(items, chosen, strict=True) if keep]
