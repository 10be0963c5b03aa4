"""Confidence and credible intervals of metrics for new patients, slides or images: closed forms, nothing is drawn."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool
from numpy.typing import ArrayLike

from cytolora.metrics.beta_binomial import MAX_CORRELATION, beta_binomial_interval
from cytolora.metrics.counts import MEASURES, SeedCounts, count_by_unit
from cytolora.metrics.korn_graubard import (
    Limits,
    clopper_pearson,
    jackknife_variance,
    jeffreys,
    korn_graubard,
)
from cytolora.metrics.units import Unit

IntervalKind = Literal["korn-graubard", "credible", "approximate", "bootstrap"]

"""Limits of a share at its effective number of images; the beta-binomial posterior of a share; the limits of a
metric that is no share, from its jackknife variance; percentiles of bootstrap draws, of a difference."""

MIN_GROUPS = 30
"""With fewer groups a share's interval may be too narrow (docs/statistics.md measures by how much)."""

MIN_GROUPS_APPROXIMATE = 50
"""The same for other metrics and for differences. Cameron, Gelbach & Miller 2008 (Review of Economics and Statistics
90(3)) call five to thirty clusters few, MacKinnon & Webb 2017 (Journal of Applied Econometrics 32(2)) find fifty
unequal ones not to be many."""

MIN_WRONG = 20
"""With fewer units that hold a mistake the variance over units is under-estimated, however many there are: of a share
the beta-binomial posterior is given instead."""

LEVEL = 0.95

LEGEND = (
    f"Of accuracy and other shares: Korn-Graubard, or credible (beta-binomial) where fewer than {MIN_WRONG} groups or "
    "images hold a mistake or a hit. Of balanced accuracy and macro F1: approximate (jackknife)."
)
"""Names the kinds of intervals wherever they are printed; docs/statistics.md measures how often they hold the truth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An interval of a metric for other patients, slides or images."""

    low: float
    high: float
    level: float
    """Nominal coverage, in (0, 1)."""
    kind: IntervalKind
    unit: Unit
    num_units: int
    num_images: int | None = None
    n_eff: float | None = None
    """Independent images that would know as much; None where none were counted."""
    num_wrong: int | None = None
    """Units that hold a mistake, on average over the training seeds; None where none were counted."""

    @property
    def warnings(self) -> dict[str, str]:
        """Reasons why the interval may not hold the truth as often as it says: a sentence under a short name."""
        warnings = {}
        if self.num_units < self._enough:
            only = f"The interval rests on {self.num_units} {self.unit}s only; under about {self._enough}"
            warnings[f"few {self.unit}s"] = f"{only} it may be too narrow."
        if self.low == self.high:
            warnings["no width"] = "Every resample gave the same value; the interval knows nothing of rarer mistakes."
        elif self.num_wrong is not None and self.num_wrong < MIN_WRONG <= self.num_units:
            found = f"Mistakes lie in {self.num_wrong} of {self.num_units} {self.unit}s; under about {MIN_WRONG}"
            warnings["few mistakes"] = f"{found} {_OF_FEW_MISTAKES[self.kind]}."
        return warnings

    @property
    def _enough(self) -> int:
        """Units from which an interval of this kind is about as wide as it should be."""
        return MIN_GROUPS if self.kind in ("korn-graubard", "credible") else MIN_GROUPS_APPROXIMATE


def joint_warnings(intervals: Iterable[Interval]) -> list[tuple[str, str]]:
    """Returns the warnings of intervals over the same units, each a short name and a sentence, sorted by sentence.

    Of too few units the strictest stands alone: kinds of intervals need more or fewer.
    """
    texts, strictest = set[tuple[str, str]](), dict[str, Interval]()
    for one in intervals:
        for tag, text in one.warnings.items():
            if tag not in FEW_UNITS:
                texts.add((tag, text))
            elif tag not in strictest or one._enough > strictest[tag]._enough:
                strictest[tag] = one
    return sorted(texts | {(tag, one.warnings[tag]) for tag, one in strictest.items()}, key=lambda pair: pair[1])


FEW_UNITS = ("few groups", "few images")
"""Short names of the warning that there are too few units."""
_OF_FEW_MISTAKES: dict[IntervalKind, str] = {
    "korn-graubard": "the interval rests on how few units there are, each counted as one image",
    "credible": "the interval is that of a model (beta-binomial), which takes large and small groups for equally hard",
    "approximate": "the interval may be too narrow",
    "bootstrap": "the interval may be too narrow",
}


def metric_intervals(
    labels: ArrayLike,
    predicted: ArrayLike,
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    num_classes: int,
) -> dict[str, Interval]:
    """Computes 95 % intervals of accuracy, balanced accuracy and macro F1 for new patients, slides or images.

    Predictions of several training seeds may follow each other: the interval is that of the mean over the seeds. See
    ``count_by_unit`` for the arguments.
    """
    counts = count_by_unit(labels, predicted, images=images, groups=groups, num_classes=num_classes)
    return intervals_of(counts)


def share_interval(
    hits: Bool[np.ndarray, " predictions"] | Sequence[bool],
    *,
    images: Sequence[str],
    groups: Sequence[str | None],
    level: float = LEVEL,
    is_conservative: bool = True,
) -> Interval:
    """Computes the interval of the share of images that are hits: a sensitivity, a coverage, a referral rate.

    Args:
        level: Nominal coverage, in (0, 1).
        is_conservative: Whether to hold the truth at least as often as the level says, not about as often, where groups
            are few: exact limits instead of Jeffreys', and a uniform prior of the correlation within groups instead of
            that of the deviation between them. Where all or none are hits the limits are exact in either case.
    """
    misses = ~np.asarray(hits, dtype=bool)
    counts = count_by_unit(np.zeros(len(misses), int), misses.astype(int), images=images, groups=groups, num_classes=2)
    return interval_of(counts, "accuracy", level, is_conservative=is_conservative)


def intervals_of(counts: SeedCounts) -> dict[str, Interval]:
    """Returns the 95 % interval of every metric, by name."""
    return {metric: interval_of(counts, metric) for metric in MEASURES}


def interval_of(counts: SeedCounts, metric: str, level: float = LEVEL, *, is_conservative: bool = True) -> Interval:
    """Returns the interval of one metric; accuracy alone is a share of images."""
    if metric == "accuracy":
        kind, limits = _of_share(counts, level, is_conservative)
    else:
        value, variance = counts.observed(metric), _variance(counts, metric)
        kind, limits = "approximate", _limits(counts, value, variance, level, is_conservative)
    return Interval(
        low=limits.low,
        high=limits.high,
        level=level,
        kind=kind,
        unit=counts.unit,
        num_units=counts.num_units,
        num_images=counts.num_images,
        n_eff=limits.n_eff,
        num_wrong=counts.num_wrong,
    )


def _of_share(counts: SeedCounts, level: float, is_conservative: bool) -> tuple[IntervalKind, Limits]:
    """Chooses between the two intervals of a share.

    The posterior stands in where few units hold a mistake, or few a hit, but some do: without any, nothing is known of
    how mistakes cluster, and each unit counts as one image. Where the data deny its model, the variance over units
    decides: copies of one image are more alike than the prior allows, and where the posterior does not hold the share
    that was seen, large units differ from small ones.
    """
    value, variance = counts.observed("accuracy"), _variance(counts, "accuracy")
    is_few = 0 < value < 1 and min(counts.num_wrong, counts.num_right) < MIN_WRONG
    if is_few and _correlation(counts, value, variance) <= MAX_CORRELATION:
        limits = beta_binomial_interval(
            counts.hits(), counts.sizes(), level, uniform="correlation" if is_conservative else "deviation"
        )
        if limits.low <= value <= limits.high:
            return "credible", limits
    return "korn-graubard", _limits(counts, value, variance, level, is_conservative)


def _correlation(counts: SeedCounts, value: float, variance: float) -> float:
    """Estimates the correlation of two images of one unit from the design effect, 1 + rho (mean size - 1) (Kish 1965).

    The mean size is the one that an image sees, so that large units count more.
    """
    design_effect = counts.num_images * variance / (value * (1 - value))
    mean_size = counts.num_images / counts.effective_units
    return (design_effect - 1) / (mean_size - 1) if mean_size > 1 else 0.0


def _variance(counts: SeedCounts, metric: str) -> float:
    if counts.num_units == 1:
        return 0.0
    return jackknife_variance(counts.observed(metric), counts.left_out(metric))


def _limits(counts: SeedCounts, value: float, variance: float, level: float, is_conservative: bool) -> Limits:
    return korn_graubard(
        value,
        variance,
        num_images=counts.num_images,
        effective_units=counts.effective_units,
        level=level,
        limits_of=clopper_pearson if is_conservative else jeffreys,
    )
