"""Counts of a test set by group and class, and the metrics computed from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Num
from numpy.typing import ArrayLike

from cytolora.metrics.units import Unit, unit_kind, unit_names

UnitCounts = Any
"""(correct, true, predicted, one after the other, by class) x units: a scipy.sparse.csc_array, which has no types."""

_BLOCK = 2_000_000
"""Numbers at once, where every unit is left out in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of images by class, from which every metric is computed."""

    correct: Num[np.ndarray, "*replicates classes"]
    """Images of the class that are predicted as it."""
    true: Num[np.ndarray, "*replicates classes"]
    """Images of the class."""
    predicted: Num[np.ndarray, "*replicates classes"]
    """Images that are predicted as the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedCounts:
    """A test set by unit, with the predictions of each training seed."""

    of_seeds: Sequence[UnitCounts]
    unit: Unit
    num_units: int
    num_images: int
    """Distinct ones."""
    effective_units: float
    """See ``effective_number``."""
    num_wrong: int
    """Units that hold a mistake, on average over the training seeds."""
    num_right: int
    """Units that hold a correct prediction, on average over the training seeds."""

    def observed(self, metric: str) -> float:
        """The metric on the test set as it is, mean over the seeds."""
        measure = MEASURES[metric]
        return float(np.mean([measure(split_counts(_total(of_seed))) for of_seed in self.of_seeds]))

    def left_out(self, metric: str) -> Float64[np.ndarray, " units"]:
        """The metric with each unit left out in turn, mean over the seeds; not a number where no image is left."""
        measure = MEASURES[metric]
        return np.mean(
            [np.concatenate([measure(one) for one in _each_left_out(of_seed)]) for of_seed in self.of_seeds], axis=0
        )

    def hits(self) -> Float64[np.ndarray, " units"]:
        """Correct predictions of each unit, mean over the seeds."""
        return self._mean_sum(0)

    def sizes(self) -> Float64[np.ndarray, " units"]:
        """Predictions of each unit, mean over the seeds."""
        return self._mean_sum(1)

    def _mean_sum(self, part: int) -> Float64[np.ndarray, " units"]:
        third = self.of_seeds[0].shape[0] // 3
        rows = slice(part * third, (part + 1) * third)
        return np.mean([of_seed[rows].sum(axis=0, dtype=np.float64) for of_seed in self.of_seeds], axis=0)


def count_by_unit(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    num_classes: int,
) -> SeedCounts:
    """Counts predictions by unit, class and training seed.

    Predictions of several training seeds may follow each other: an image that occurs again is of the next seed.

    Args:
        images: Names the image of each prediction.
        groups: Patient, slide or field of each; if none is known, images are the units. An image without a group
            among others with one counts as a group of its own.
    """
    units, unit_index = _indices(unit_names(groups, images))
    truth, answers, seed_index = np.asarray(labels), np.asarray(predicted), _occurrences(images)
    of_seeds = [seed_index == index for index in range(int(seed_index.max()) + 1)]
    counts = [unit_counts(truth[rows], answers[rows], unit_index[rows], len(units), num_classes) for rows in of_seeds]
    is_right = truth == answers
    return SeedCounts(
        of_seeds=counts,
        unit=unit_kind(groups),
        num_units=len(units),
        num_images=int((seed_index == 0).sum()),
        effective_units=effective_number(np.bincount(unit_index)),
        num_wrong=_mean_number([unit_index[rows & ~is_right] for rows in of_seeds]),
        num_right=_mean_number([unit_index[rows & is_right] for rows in of_seeds]),
    )


def _mean_number(units: Sequence[Int64[np.ndarray, " _"]]) -> int:
    return round(float(np.mean([np.unique(of_seed).size for of_seed in units])))


def _indices(names: Sequence[str]) -> tuple[list[str], Int64[np.ndarray, " images"]]:
    """Returns the distinct names in sorted order, and for each name its index among them."""
    distinct = sorted(set(names))
    index_of = {name: index for index, name in enumerate(distinct)}
    return distinct, np.fromiter((index_of[name] for name in names), dtype=np.int64, count=len(names))


def _occurrences(images: Sequence[str]) -> Int64[np.ndarray, " images"]:
    """Counts for each image how often it was named before: the index of the training seed of that prediction."""
    _, index = _indices(images)
    order, named = np.argsort(index, kind="stable"), np.bincount(index)
    times = np.empty(len(images), dtype=np.int64)
    times[order] = np.arange(len(images)) - np.repeat(np.cumsum(named) - named, named)
    return times


def tally(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> Tally:
    """Counts images by class."""
    truth, answers = (np.asarray(indices, dtype=np.int64) for indices in (labels, predicted))
    correct, true, given = (
        np.bincount(indices, minlength=num_classes) for indices in (truth[truth == answers], truth, answers)
    )
    return Tally(correct=correct, true=true, predicted=given)


def unit_counts(
    labels: ArrayLike, predicted: ArrayLike, units: ArrayLike, num_units: int, num_classes: int
) -> UnitCounts:
    """Counts the predictions of each unit by class.

    Args:
        units: The index of each image's unit.
    """
    from scipy.sparse import csc_array  # slow to load, and a report whose intervals are kept needs none of it

    truth, answers, unit = (np.asarray(indices, dtype=np.int64) for indices in (labels, predicted, units))
    is_correct: Bool[np.ndarray, " images"] = truth == answers
    rows = np.concatenate([truth[is_correct], num_classes + truth, 2 * num_classes + answers])
    columns = np.concatenate([unit[is_correct], unit, unit])
    ones = np.ones(len(rows), dtype=np.float32)
    return csc_array((ones, (rows, columns)), shape=(3 * num_classes, num_units))


def split_counts(counts: Float64[np.ndarray, "*replicates _"]) -> Tally:
    """Takes correct, true and predicted apart."""
    correct, true, predicted = np.split(counts, 3, axis=-1)
    return Tally(correct=correct, true=true, predicted=predicted)


def _total(counts: UnitCounts) -> Float64[np.ndarray, " _"]:
    return counts.sum(axis=1, dtype=np.float64)


def _each_left_out(counts: UnitCounts) -> Iterator[Tally]:
    """Subtracts each unit from the whole, a block of units at a time."""
    total, size = _total(counts), max(1, _BLOCK // counts.shape[0])
    for start in range(0, counts.shape[1], size):
        yield split_counts(total - counts[:, start : start + size].toarray().T.astype(np.float64))


def accuracy(counts: Tally) -> Float64[Any, "*replicates"]:
    """Computes the share of correct predictions; not a number without images."""
    with np.errstate(invalid="ignore"):
        return counts.correct.sum(axis=-1) / counts.true.sum(axis=-1)


def balanced_accuracy(counts: Tally) -> Float64[Any, "*replicates"]:
    """Computes the mean recall over the classes that occur."""
    return _mean_ratio(counts.correct, counts.true)


def macro_f1(counts: Tally) -> Float64[Any, "*replicates"]:
    """Computes the mean F1 over the classes that occur or are predicted."""
    return _mean_ratio(2 * counts.correct, counts.true + counts.predicted)


def _mean_ratio(
    parts: Num[np.ndarray, "*replicates classes"], wholes: Num[np.ndarray, "*replicates classes"]
) -> Float64[Any, "*replicates"]:
    ratios = np.divide(parts, wholes, out=np.zeros(wholes.shape), where=wholes > 0)
    with np.errstate(invalid="ignore"):
        return ratios.sum(axis=-1) / (wholes > 0).sum(axis=-1)


MEASURES: Mapping[str, Callable[[Tally], Float64[Any, "*replicates"]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""Metrics that have an interval."""


def effective_number(sizes: ArrayLike) -> float:
    """Computes Kish's effective number of units: how many of equal size hold as much information as these.

    The square of the sum over the sum of squares (Kish 1965, Survey Sampling, Sec. 11.7).
    """
    counts = np.asarray(sizes, dtype=np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum())
