"""Shift between sites: a head fitted without a scanner, stain or site, and tested on it at its frozen threshold.

For every value of a metadata column, heads are fitted on the cells that do not have it, in folds over groups. Their
temperature and threshold are chosen on held-out cells without it, and frozen; then cells of held-out groups with it are
classified.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cytolora.classifier.decision.margins import below
from cytolora.classifier.leakage.cells import SourcedCells, metadata_columns
from cytolora.classifier.leakage.divisions import divisible, predicted
from cytolora.classifier.leakage.report import SiteScores, SiteShift
from cytolora.metrics.calibration import expected_calibration_error, fit_temperature, probabilities, reliability
from cytolora.metrics.intervals import share_interval
from cytolora.metrics.scores import score
from cytolora.training.heads.folds import group_folds

MAX_VALUES = 30
"""Of a column; one with more is no scanner, stain or site, but a number or a name."""
_MAX_SLOPE = 19.9
"""And one by it: the ends of the search for a temperature are 20 and 0.05."""
MIN_CELLS = 20
"""Of a value, and of all others together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tested:
    """Cells that were held out once, and their logits."""

    at: Int64[np.ndarray, " tested"]
    logits: Float64[np.ndarray, "tested classes"]

    def only(self, kept: Bool[np.ndarray, " tested"]) -> "_Tested":
        return _Tested(at=self.at[kept], logits=self.logits[kept])


def measure_sites(
    cells: SourcedCells,
    *,
    head: str = "gda",
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    seed: int = 0,
    on_value: Callable[[], None] = lambda: None,
) -> tuple[SiteShift, ...]:
    """Tests every value of every metadata column without which all classes are left to be trained on.

    Args:
        positive: Classes that must not be missed; with none there is no threshold.
        sensitivity: What the threshold shall reach on cells without the value.
        on_value: Called after each of at most ``num_values``.
    """
    kept, _ = divisible(cells)
    shifts = []
    for column, value in _values(kept):
        found = _shift(kept, column, value, head=head, positive=positive, asked=sensitivity, seed=seed)
        shifts += [found] if found is not None else []
        on_value()
    return tuple(shifts)


def num_values(cells: SourcedCells) -> int:
    """Counts the metadata values that heads are fitted without."""
    return len(list(_values(divisible(cells)[0])))


def _values(cells: SourcedCells) -> Iterator[tuple[str, str]]:
    for column, number in metadata_columns(cells.samples).items():
        if number <= MAX_VALUES:
            yield from ((column, value) for value in sorted({one for one in cells.column(column) if one}))


def _shift(
    cells: SourcedCells, column: str, value: str, *, head: str, positive: Sequence[str], asked: float, seed: int
) -> SiteShift | None:
    has_it = np.array([one == value for one in cells.column(column)])
    if min(has_it.sum(), (~has_it).sum()) < MIN_CELLS:
        return None
    tested = _held_out(cells, has_it, head, seed)
    if tested is None:
        return None
    here, elsewhere = tested.only(has_it[tested.at]), tested.only(~has_it[tested.at])
    if not len(here.at):
        return None
    temperature = fit_temperature(elsewhere.logits, cells.labels[elsewhere.at])
    is_positive = np.isin(np.array(cells.classes), list(positive))
    threshold = _threshold(cells, elsewhere, temperature, is_positive, asked)
    scores = [_scores(cells, part, temperature, is_positive, threshold) for part in (here, elsewhere)]
    return SiteShift(column=column, value=value, threshold=threshold, here=scores[0], elsewhere=scores[1])


def _held_out(cells: SourcedCells, has_it: Bool[np.ndarray, " cells"], head: str, seed: int) -> _Tested | None:
    """Fits heads on cells without the value, and predicts all cells of the groups left out.

    A slide that two scanners recorded stands in one fold, so that neither of its recordings is trained on.
    """
    at, logits = [], []
    needed = np.unique(cells.labels)
    for train, test in group_folds(cells.labels, [str(group) for group in cells.groups], seed=seed):
        without = train[~has_it[train]]
        if len(np.unique(cells.labels[without])) == len(needed):
            at.append(test)
            logits.append(predicted(cells, head, without, test))
    tested = _Tested(at=np.concatenate(at), logits=np.concatenate(logits)) if at else None
    if tested is None or len(np.unique(cells.labels[tested.at[~has_it[tested.at]]])) < len(needed):
        return None
    return tested


def _threshold(
    cells: SourcedCells, tested: _Tested, temperature: float, is_positive: Bool[np.ndarray, " classes"], asked: float
) -> float | None:
    """Returns the highest threshold that finds the share ``asked`` of the positive cells."""
    found = is_positive[cells.labels[tested.at]]
    if not is_positive.any() or not found.any():
        return None
    summed = np.sort(probabilities(tested.logits, temperature)[:, is_positive].sum(axis=1)[found])
    return below(float(summed[int((1 - asked) * len(summed))]))


def _scores(
    cells: SourcedCells,
    tested: _Tested,
    temperature: float,
    is_positive: Bool[np.ndarray, " classes"],
    threshold: float | None,
) -> SiteScores:
    labels, by_cell = cells.labels[tested.at], probabilities(tested.logits, temperature)
    samples = [cells.samples[at] for at in tested.at.tolist()]
    found, interval, specificity = None, None, None
    if threshold is not None:
        is_above, of_positive = by_cell[:, is_positive].sum(axis=1) >= threshold, is_positive[labels]
        if of_positive.any():
            own = [sample for sample, counts in zip(samples, of_positive, strict=True) if counts]
            found = float(is_above[of_positive].mean())
            interval = share_interval(
                is_above[of_positive], images=[one.path for one in own], groups=[one.group for one in own]
            )
        specificity = float((~is_above[~of_positive]).mean()) if (~of_positive).any() else None
    return SiteScores(
        num_cells=len(labels),
        num_groups=len({one.group for one in samples}),
        balanced_accuracy=float(score(labels, by_cell)["balanced_accuracy"]),
        calibration_slope=_slope(tested.logits / temperature, labels),
        calibration_error=expected_calibration_error(reliability(labels, by_cell)),
        sensitivity=found,
        sensitivity_interval=interval,
        specificity=specificity,
    )


def _slope(logits: Float64[np.ndarray, "tested classes"], labels: Int64[np.ndarray, " tested"]) -> float | None:
    slope = 1 / fit_temperature(logits, labels)
    return slope if 1 / _MAX_SLOPE < slope < _MAX_SLOPE else None
