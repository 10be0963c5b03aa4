"""How far a number may be off: bootstrap intervals that respect groups."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolora.metrics.intervals import (
    MIN_GROUPS,
    MIN_WRONG,
    Interval,
    effective_number,
    expanded_tail,
    nominal_tail,
    percentile,
)
from cytolora.metrics.units import Unit, unit_kind, unit_names

__all__ = [
    "MEASURES",
    "MIN_GROUPS",
    "MIN_WRONG",
    "REPLICATES",
    "Interval",
    "Replicates",
    "Tally",
    "Unit",
    "UnitCounts",
    "accuracy",
    "balanced_accuracy",
    "draw_metrics",
    "effective_number",
    "expanded_tail",
    "macro_f1",
    "metric_intervals",
    "nominal_tail",
    "percentile",
    "resample",
    "tally",
    "unit_counts",
]

UnitCounts = Any
"""(right, true, said, one after the other, by class) x units: a scipy.sparse.csc_array, which has no types."""

REPLICATES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Images by class, all that the measures ask of predictions; arrays of … x classes."""

    right: NDArray[Any]
    """Images of the class that were given to it."""
    true: NDArray[Any]
    """Images of the class."""
    said: NDArray[Any]
    """Images that were given to the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replicates:
    """Metrics of a test set drawn again and again, as the mean over the training seeds."""

    values: Mapping[str, NDArray[np.float64]]
    """By metric, one value per draw."""
    observed: Mapping[str, float]
    """By metric, on the test set as it is."""
    unit: Unit
    num_units: int
    effective_units: float
    """See ``effective_number``."""
    num_wrong: int
    """Units that hold a mistake, on average over the training seeds."""

    def interval(self, metric: str) -> Interval:
        """The 95 % interval of one metric."""
        found = percentile(
            self.values[metric], unit=self.unit, num_units=self.num_units, effective_units=self.effective_units
        )
        return replace(found, num_wrong=self.num_wrong)

    def intervals(self) -> dict[str, Interval]:
        """The 95 % intervals of all metrics, by name."""
        return {name: self.interval(name) for name in self.values}


def metric_intervals(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    num_classes: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> dict[str, Interval]:
    """Computes 95 % intervals of accuracy, balanced accuracy and macro F1 for new patients, slides or images.

    Predictions of several training seeds may follow each other: an image that occurs more than once is drawn
    with all its predictions, so that the interval is that of the mean over the seeds.

    Args:
        images: Names the image of each prediction.
        groups: Patient, slide or field of each; if none is known, images are drawn. An image without a group
            among others with one counts as a group of its own.
    """
    options: Mapping[str, Any] = {"num_classes": num_classes, "seed": seed, "replicates": replicates}
    return draw_metrics(labels, predicted, images=images, groups=groups, **options).intervals()


def draw_metrics(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    num_classes: int,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> Replicates:
    """Draws the test set again; see ``metric_intervals``. Equal images, groups and seeds draw the same in all calls."""
    known, place = _places(unit_names(groups, images))
    truth, answers, run = np.asarray(labels), np.asarray(predicted), _occurrences(images)
    counts = [
        unit_counts(truth[run == one], answers[run == one], place[run == one], len(known), num_classes)
        for one in range(int(run.max()) + 1)
    ]
    resampled = [resample(one, seed=seed, replicates=replicates) for one in counts]
    wrong = [np.unique(place[(run == one) & (truth != answers)]).size for one in range(len(counts))]
    return Replicates(
        values={name: np.mean([measure(one) for one in resampled], axis=0) for name, measure in MEASURES.items()},
        observed={
            name: float(np.mean([measure(_split(one.sum(axis=1, dtype=np.float64))) for one in counts]))
            for name, measure in MEASURES.items()
        },
        unit=unit_kind(groups),
        num_units=len(known),
        effective_units=effective_number(np.bincount(place)),
        num_wrong=round(float(np.mean(wrong))),
    )


def _places(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """Returns the different names in sorted order, and the place among them of each."""
    known = sorted(set(names))
    index = {name: place for place, name in enumerate(known)}
    return known, np.fromiter((index[name] for name in names), dtype=np.int64, count=len(names))


def _occurrences(images: Sequence[str]) -> NDArray[np.int64]:
    """Which time an image is named, from 0: the place of the training seed among those that follow each other."""
    _, place = _places(images)
    order, named = np.argsort(place, kind="stable"), np.bincount(place)
    times = np.empty(len(images), dtype=np.int64)
    times[order] = np.arange(len(images)) - np.repeat(np.cumsum(named) - named, named)
    return times


def tally(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> Tally:
    """Counts images by class."""
    truth, said = (np.asarray(of, dtype=np.int64) for of in (labels, predicted))
    right, true, given = (np.bincount(of, minlength=num_classes) for of in (truth[truth == said], truth, said))
    return Tally(right=right, true=true, said=given)


def unit_counts(
    labels: ArrayLike, predicted: ArrayLike, units: ArrayLike, num_units: int, num_classes: int
) -> UnitCounts:
    """Counts the predictions of each unit by class.

    Args:
        units: The index of each image's unit.
    """
    from scipy.sparse import csc_array  # slow to load, and a report whose intervals are kept needs none of it

    truth, said, unit = (np.asarray(of, dtype=np.int64) for of in (labels, predicted, units))
    right = truth == said
    rows = np.concatenate([truth[right], num_classes + truth, 2 * num_classes + said])
    columns = np.concatenate([unit[right], unit, unit])
    ones = np.ones(len(rows), dtype=np.float32)
    return csc_array((ones, (rows, columns)), shape=(3 * num_classes, num_units))


def resample(counts: UnitCounts, *, seed: int, replicates: int = REPLICATES) -> Tally:
    """Draws as many units as there are, with replacement, and adds them up; arrays of replicates x classes.

    Equal numbers of units and equal seeds draw the same units: what is compared on one test set is compared in pairs.
    """
    times = _times_drawn(counts.shape[1], seed, replicates)
    sums = counts @ times  # whole numbers far below 2**24: exact in float32
    return _split(sums.T.astype(np.float64))


def _split(counts: NDArray[Any]) -> Tally:
    right, true, said = np.split(counts, 3, axis=-1)
    return Tally(right=right, true=true, said=said)


@lru_cache(maxsize=2)
def _times_drawn(num_units: int, seed: int, replicates: int) -> NDArray[np.float32]:
    """How often each unit is drawn: units x replicates."""
    rng = np.random.default_rng(seed)
    times = np.empty((num_units, replicates), dtype=np.float32)
    for replicate in range(replicates):
        times[:, replicate] = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
    times.flags.writeable = False
    return times


def accuracy(counts: Tally) -> NDArray[np.float64]:
    """The share of right predictions."""
    return counts.right.sum(axis=-1) / counts.true.sum(axis=-1)


def balanced_accuracy(counts: Tally) -> NDArray[np.float64]:
    """The mean over the classes that occur of the share recognised."""
    return _mean_of(counts.right, counts.true)


def macro_f1(counts: Tally) -> NDArray[np.float64]:
    """The mean of the classes' F1 over those that occur or are predicted."""
    return _mean_of(2 * counts.right, counts.true + counts.said)


def _mean_of(parts: NDArray[Any], wholes: NDArray[Any]) -> NDArray[np.float64]:
    shares = np.divide(parts, wholes, out=np.zeros(wholes.shape), where=wholes > 0)
    return shares.sum(axis=-1) / (wholes > 0).sum(axis=-1)


MEASURES: Mapping[str, Callable[[Tally], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""What has an interval."""
