"""Cluster bootstrap confidence intervals of metrics: whole groups are resampled, not single images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Num
from numpy.typing import ArrayLike

from cytolora.metrics.units import Unit, unit_kind, unit_names

MIN_GROUPS = 50
"""With fewer groups intervals come out too narrow (docs/statistics.md measures by how much). Cameron, Gelbach & Miller
2008 (Review of Economics and Statistics 90(3)) call five to thirty clusters few, MacKinnon & Webb 2017 (Journal of
Applied Econometrics 32(2)) find fifty unequal ones not to be many."""

MIN_WRONG = 20
"""With fewer units that hold a mistake the draws are skewed, and intervals come out too narrow however many units there
are (docs/statistics.md measures by how much)."""

REPLICATES = 2000
"""Bootstrap resamples of the test set."""

UnitCounts = Any
"""(correct, true, predicted, one after the other, by class) x units: a scipy.sparse.csc_array, which has no types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A bootstrap interval."""

    low: float
    high: float
    level: float
    """Nominal coverage, in (0, 1)."""
    unit: Unit
    num_units: int
    num_wrong: int | None = None
    """Units that hold a mistake, on average over the training seeds; None where none were counted."""

    @property
    def warnings(self) -> dict[str, str]:
        """Reasons why the interval may be too narrow: a sentence under a short name."""
        warnings = {}
        if self.num_units < MIN_GROUPS:
            only = f"The interval is drawn from {self.num_units} {self.unit}s only; under about {MIN_GROUPS}"
            warnings[f"few {self.unit}s"] = f"{only} it comes out too narrow."
        if self.low == self.high:
            warnings["no width"] = "Every resample gave the same value; the interval knows nothing of rarer mistakes."
        elif self.num_wrong is not None and self.num_wrong < MIN_WRONG <= self.num_units:
            only = f"Mistakes lie in {self.num_wrong} of {self.num_units} {self.unit}s; under about {MIN_WRONG}"
            warnings["few mistakes"] = f"{only} the interval comes out too narrow."
        return warnings


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
class Replicates:
    """Metrics of the resampled test sets, as the mean over the training seeds."""

    values: Mapping[str, Float64[np.ndarray, " replicates"]]
    """By metric, one value per resample."""
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
        interval = percentile(
            self.values[metric], unit=self.unit, num_units=self.num_units, effective_units=self.effective_units
        )
        return replace(interval, num_wrong=self.num_wrong)

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
    """Resamples the test set; see ``metric_intervals``.

    Equal images, groups and seeds give equal resamples in all calls.
    """
    units, unit_index = _indices(unit_names(groups, images))
    truth, answers, seed_index = np.asarray(labels), np.asarray(predicted), _occurrences(images)
    of_seeds = [seed_index == index for index in range(int(seed_index.max()) + 1)]
    counts = [unit_counts(truth[rows], answers[rows], unit_index[rows], len(units), num_classes) for rows in of_seeds]
    resampled = [resample(of_seed, seed=seed, replicates=replicates) for of_seed in counts]
    wrong = [np.unique(unit_index[rows & (truth != answers)]).size for rows in of_seeds]
    return Replicates(
        values={
            name: np.mean([measure(of_seed) for of_seed in resampled], axis=0) for name, measure in MEASURES.items()
        },
        observed={
            name: float(np.mean([measure(_split(of_seed.sum(axis=1, dtype=np.float64))) for of_seed in counts]))
            for name, measure in MEASURES.items()
        },
        unit=unit_kind(groups),
        num_units=len(units),
        effective_units=effective_number(np.bincount(unit_index)),
        num_wrong=round(float(np.mean(wrong))),
    )


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


def resample(counts: UnitCounts, *, seed: int, replicates: int = REPLICATES) -> Tally:
    """Draws as many units as there are, with replacement, and adds up their counts.

    Equal numbers of units and equal seeds draw the same units, so that methods are compared in pairs.
    """
    times = _times_drawn(counts.shape[1], seed, replicates)
    sums = counts @ times  # whole numbers far below 2**24: exact in float32
    return _split(sums.T.astype(np.float64))


def _split(counts: Float64[np.ndarray, "*replicates _"]) -> Tally:
    correct, true, predicted = np.split(counts, 3, axis=-1)
    return Tally(correct=correct, true=true, predicted=predicted)


@lru_cache(maxsize=2)
def _times_drawn(num_units: int, seed: int, replicates: int) -> Float32[np.ndarray, "units replicates"]:
    """Counts how often each unit is drawn in each replicate."""
    rng = np.random.default_rng(seed)
    times = np.empty((num_units, replicates), dtype=np.float32)
    for replicate in range(replicates):
        times[:, replicate] = np.bincount(rng.integers(num_units, size=num_units), minlength=num_units)
    times.flags.writeable = False
    return times


def accuracy(counts: Tally) -> Float64[Any, "*replicates"]:
    """Computes the share of correct predictions."""
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


def percentile(
    values: Float64[np.ndarray, " replicates"],
    *,
    unit: Unit,
    num_units: int,
    effective_units: float | None = None,
    level: float = 0.95,
) -> Interval:
    """Computes the expanded percentile interval of the replicates.

    It holds a middle share of them that is a little more than ``level``, the more so the fewer units there are
    (Hesterberg 2015, The American Statistician 69(4)): this makes up for the missing n / (n - 1) of the bootstrap's
    variance, and replaces the normal quantile by Student's. Where units differ in size, n is their effective number,
    which brings the measured coverage near the nominal one (docs/statistics.md).

    Args:
        effective_units: See ``effective_number``; None: all are of one size.
    """
    tail = expanded_tail((1 - level) / 2, effective_units or num_units)
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(low=float(low), high=float(high), level=level, unit=unit, num_units=num_units)


@lru_cache(maxsize=64)
def expanded_tail(tail: float, num_units: float) -> float:
    """Returns the share of replicates to cut off at each end, for a nominal ``tail``; equal for very many units."""
    from scipy.special import ndtr, stdtrit

    if num_units <= 1:
        return 0.0
    return float(ndtr(sqrt(num_units / (num_units - 1)) * stdtrit(num_units - 1, tail)))


def nominal_tail(tail: float, num_units: float) -> float:
    """Inverts ``expanded_tail``: from a share of the replicates to the one-sided p-value."""
    from scipy.special import ndtri, stdtr

    if num_units <= 1:
        return 0.5
    return float(stdtr(num_units - 1, ndtri(min(tail, 0.5)) / sqrt(num_units / (num_units - 1))))
