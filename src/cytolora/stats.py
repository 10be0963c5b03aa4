"""How far a number may be off: bootstrap intervals that respect groups."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cytolora.intervals import (
    MIN_GROUPS,
    MIN_WRONG,
    Interval,
    Unit,
    effective_number,
    expanded_tail,
    nominal_tail,
    percentile,
)

__all__ = [
    "MEASURES",
    "MIN_GROUPS",
    "MIN_WRONG",
    "REPLICATES",
    "Counts",
    "Interval",
    "Replicates",
    "Unit",
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
    "unit_confusions",
]

Counts = NDArray[Any]
"""A stack of confusion matrices: … x true class x predicted class."""

REPLICATES = 2000


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
    drawn = draw_metrics(labels, predicted, images=images, groups=groups, **options)
    return {name: drawn.interval(name) for name in drawn.values}


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
    unit: Unit = "group" if any(group is not None for group in groups) else "image"
    pairs = zip(groups, images, strict=True)
    names = [f"group {group}" if group is not None else f"image {path}" for group, path in pairs]
    known, place = np.unique(np.asarray(names, dtype=str), return_inverse=True)
    truth, said, run = np.asarray(labels), np.asarray(predicted), _occurrences(images)
    stacks = [
        _count(truth[run == one], said[run == one], place[run == one], len(known), num_classes)
        for one in range(int(run.max()) + 1)
    ]
    resampled = [resample(stack, seed=seed, replicates=replicates) for stack in stacks]
    return Replicates(
        values={name: np.mean([measure(one) for one in resampled], axis=0) for name, measure in MEASURES.items()},
        observed={
            name: float(np.mean([measure(one.sum(axis=0)) for one in stacks])) for name, measure in MEASURES.items()
        },
        unit=unit,
        num_units=len(known),
        effective_units=effective_number(np.bincount(place)),
        num_wrong=round(float(np.mean([_num_wrong(one) for one in stacks]))),
    )


def _num_wrong(confusions: NDArray[np.int64]) -> int:
    """Counts the units that hold a mistake."""
    right = np.trace(confusions, axis1=1, axis2=2)
    return int((confusions.sum(axis=(1, 2)) > right).sum())


def _occurrences(images: Sequence[str]) -> NDArray[np.int64]:
    """Which time an image is named, from 0: the place of the training seed among those that follow each other."""
    seen: Counter[str] = Counter()
    times = np.empty(len(images), dtype=np.int64)
    for index, image in enumerate(images):
        times[index] = seen[image]
        seen[image] += 1
    return times


def unit_confusions(
    labels: ArrayLike, predicted: ArrayLike, units: Sequence[str], num_classes: int
) -> NDArray[np.int64]:
    """Counts predictions as units x true class x predicted class; units in sorted order."""
    names, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    return _count(np.asarray(labels), np.asarray(predicted), unit, len(names), num_classes)


def _count(labels: Counts, predicted: Counts, unit: Counts, num_units: int, num_classes: int) -> NDArray[np.int64]:
    flat = (unit * num_classes + labels) * num_classes + predicted
    counts = np.bincount(flat, minlength=num_units * num_classes**2)
    return counts.reshape(num_units, num_classes, num_classes)


def resample(confusions: NDArray[np.int64], *, seed: int, replicates: int = REPLICATES) -> NDArray[np.float64]:
    """Draws as many units as there are, with replacement, and adds them up: replicates x true x predicted.

    Equal numbers of units and equal seeds draw the same units: what is compared on one test set is compared in pairs.
    """
    from scipy.sparse import csr_array  # slow to load, and a report whose intervals are kept needs none of it

    units = csr_array(confusions.reshape(len(confusions), -1).T.astype(np.float32))
    sums = units @ _times_drawn(len(confusions), seed, replicates)  # whole numbers far below 2**24: exact in float32
    return sums.T.astype(np.float64).reshape(replicates, *confusions.shape[1:])


@lru_cache(maxsize=2)
def _times_drawn(num_units: int, seed: int, replicates: int) -> NDArray[np.float32]:
    """How often each unit is drawn: units x replicates."""
    rng = np.random.default_rng(seed)
    times = np.empty((num_units, replicates), dtype=np.float32)
    for replicate in range(replicates):
        times[:, replicate] = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
    times.flags.writeable = False
    return times


def accuracy(confusions: Counts) -> NDArray[np.float64]:
    """The share of right predictions, for each matrix of a stack."""
    return np.trace(confusions, axis1=-2, axis2=-1) / confusions.sum(axis=(-2, -1))


def balanced_accuracy(confusions: Counts) -> NDArray[np.float64]:
    """The mean over the classes that occur of the share recognised, for each matrix of a stack."""
    totals = confusions.sum(axis=-1)
    return _mean_of(np.diagonal(confusions, axis1=-2, axis2=-1), totals)


def macro_f1(confusions: Counts) -> NDArray[np.float64]:
    """The mean of the classes' F1 over those that occur or are predicted, for each matrix of a stack."""
    named = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    return _mean_of(2 * np.diagonal(confusions, axis1=-2, axis2=-1), named)


def _mean_of(parts: Counts, wholes: Counts) -> NDArray[np.float64]:
    shares = np.divide(parts, wholes, out=np.zeros(wholes.shape), where=wholes > 0)
    return shares.sum(axis=-1) / (wholes > 0).sum(axis=-1)


MEASURES: Mapping[str, Callable[[Counts], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""What has an interval, from confusion counts."""
