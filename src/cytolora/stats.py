"""How far a number may be off: bootstrap intervals that respect groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

Unit = Literal["group", "image"]
"""What is drawn again: cells of one patient, slide or field resemble each other, so where groups are known they are."""

MIN_GROUPS = 20
"""With fewer groups intervals come out too narrow. The usual rule of thumb: Cameron, Gelbach & Miller 2008 (Review of
Economics and Statistics 90(3)) call five to thirty clusters few."""

REPLICATES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A percentile bootstrap interval."""

    low: float
    high: float
    level: float
    """Nominal coverage, in (0, 1)."""
    unit: Unit
    num_units: int

    @property
    def warnings(self) -> dict[str, str]:
        """What a reader must know before trusting the interval: a sentence under a short name."""
        found = {}
        if self.num_units < MIN_GROUPS:
            only = f"The interval is drawn from {self.num_units} {self.unit}s only; under about {MIN_GROUPS}"
            found[f"few {self.unit}s"] = f"{only} it comes out too narrow."
        if self.low == self.high:
            found["no width"] = "Every resample gave the same value; the interval knows nothing of rarer mistakes."
        return found


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
    """Computes 95 % intervals of ``accuracy`` and ``balanced_accuracy`` for new patients, slides or images.

    Predictions of several training seeds may follow each other: an image that occurs more than once is drawn
    with all its predictions, so that the interval is that of the mean over the seeds.

    Args:
        images: Names the image of each prediction.
        groups: Patient, slide or field of each; if none is known, images are drawn. An image without a group
            among others with one counts as a group of its own.
    """
    unit: Unit = "group" if any(group is not None for group in groups) else "image"
    pairs = zip(groups, images, strict=True)
    names = [f"group {group}" if group is not None else f"image {path}" for group, path in pairs]
    confusions = unit_confusions(labels, predicted, names, num_classes)
    resampled = resample(confusions, seed=seed, replicates=replicates)
    measures = {"accuracy": accuracy(resampled), "balanced_accuracy": balanced_accuracy(resampled)}
    return {name: percentile(values, unit=unit, num_units=len(confusions)) for name, values in measures.items()}


def unit_confusions(
    labels: ArrayLike, predicted: ArrayLike, units: Sequence[str], num_classes: int
) -> NDArray[np.int64]:
    """Counts predictions as units x true class x predicted class; units in sorted order."""
    names, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    flat = (unit * num_classes + np.asarray(labels)) * num_classes + np.asarray(predicted)
    counts = np.bincount(flat, minlength=len(names) * num_classes**2)
    return counts.reshape(len(names), num_classes, num_classes)


def resample(confusions: NDArray[np.int64], *, seed: int, replicates: int = REPLICATES) -> NDArray[np.float64]:
    """Draws as many units as there are, with replacement, and adds them up: replicates x true x predicted.

    Equal numbers of units and equal seeds draw the same units: what is compared on one test set is compared in pairs.
    """
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


def accuracy(confusions: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """The share of right predictions, for each matrix of a stack."""
    return np.trace(confusions, axis1=-2, axis2=-1) / confusions.sum(axis=(-2, -1))


def balanced_accuracy(confusions: NDArray[np.floating | np.integer]) -> NDArray[np.float64]:
    """The mean over the classes that occur of the share recognised, for each matrix of a stack."""
    totals = confusions.sum(axis=-1)
    right = np.diagonal(confusions, axis1=-2, axis2=-1)
    recalls = np.divide(right, totals, out=np.zeros(totals.shape), where=totals > 0)
    return recalls.sum(axis=-1) / (totals > 0).sum(axis=-1)


def percentile(values: NDArray[np.float64], *, unit: Unit, num_units: int, level: float = 0.95) -> Interval:
    """Turns the values of the replicates into the interval that holds the middle share ``level`` of them."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level, unit=unit, num_units=num_units)
