"""Refit of the classifier: ridge regression on cached features in closed form, its penalty chosen over groups."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from cytolora.labelling.features import Features, open_features
from cytolora.metrics.calibration import cross_entropy, fit_temperature, probabilities
from cytolora.training.heads.folds import group_folds
from cytolora.training.heads.penalties import PENALTIES, UNCHOSEN
from cytolora.training.heads.ridge import RidgeSolver

_ROWS = 8192
"""Cells scored at a time."""


@dataclass(frozen=True, kw_only=True)
class Refit:
    """A classifier with what it says of every cell."""

    number: int
    """Of the refit, from 1."""
    num_labels: int
    probabilities: Float32[np.ndarray, "cells classes"]
    """0 for a class without a label; NaN where a cell could not be read."""
    predictions: Int64[np.ndarray, " cells"]
    """-1 where a cell could not be read."""
    doubt: Float32[np.ndarray, " cells"]
    """1 less the margin between the two highest probabilities: 0 is sure, 1 a tie."""
    left_out: Int64[np.ndarray, " left_out"]
    """Labelled cells in the order of ``left_out_probabilities``; empty where a class comes from one group only."""
    left_out_probabilities: Float64[np.ndarray, "left_out classes"]
    """By classifiers that were not trained on their groups."""
    encoder: str = ""
    """In words, whose features it is fitted to."""

    @cached_property
    def held_out(self) -> dict[int, Float64[np.ndarray, " classes"]]:
        """``left_out_probabilities`` by cell."""
        return dict(zip(self.left_out.tolist(), self.left_out_probabilities, strict=True))


def prepare() -> None:
    """Loads what ``refit`` computes with: before the first refit, not in it."""
    import scipy.linalg
    import scipy.optimize

    del scipy


def refit(
    features: Features,
    is_usable: Bool[np.ndarray, " cells"],
    cells: Sequence[int],
    labels: Sequence[int],
    units: Sequence[str],
    num_classes: int,
    seen: Set[int] = frozenset(),
    *,
    number: int = 1,
) -> Refit | None:
    """Fits ridge regression to labelled cells and scores all; None where fewer than two classes are labelled.

    Args:
        features: Scaled to length 1.
        cells: Labelled ones, none of the test share.
        labels: Class index of each.
        units: Group of each, or the cell itself.
        seen: Cells whose labels have shaped the features. They lie farther apart by class than others do, so that
            penalty and temperature are chosen on the others alone.
    """
    present, encoded = np.unique(np.asarray(labels, dtype=np.int64), return_inverse=True)
    if len(present) < 2:
        return None
    rows = np.asarray(features[np.asarray(cells)], dtype=np.float64)
    folds = group_folds(encoded, list(units), seed=0)
    left = np.concatenate([out for _, out in folds]) if folds else np.empty(0, dtype=np.int64)
    is_new = np.array([cells[at] not in seen for at in left.tolist()], dtype=bool)
    left = left[is_new]
    solver, penalty, temperature = RidgeSolver(rows, encoded), UNCHOSEN, 1.0
    left_out, held_out = np.empty(0, dtype=np.int64), np.empty((0, num_classes))
    if len(left):
        candidates, tried = PENALTIES if seen else solver.contenders(folds, PENALTIES), []
        for candidate, all_scores in zip(candidates, solver.held_out(folds, candidates), strict=True):
            scores = all_scores[is_new]
            scale = fit_temperature(scores, encoded[left])
            by_class = probabilities(scores, scale)
            tried.append((cross_entropy(encoded[left], by_class), candidate, scale, by_class))
        _, penalty, temperature, best = min(tried, key=lambda one: one[0])
        left_out, held_out = np.asarray(cells, dtype=np.int64)[left], np.zeros((len(left), num_classes))
        held_out[:, present] = best
    weight, bias = solver.fit(penalty)
    scores = np.zeros((len(features), num_classes), dtype=np.float32)
    for start in range(0, len(features), _ROWS):
        part = np.asarray(features[start : start + _ROWS])
        scores[start : start + _ROWS, present] = probabilities(part @ weight.T.astype(np.float32) + bias, temperature)
    predictions = scores.argmax(axis=1)
    scores[~is_usable], predictions[~is_usable] = np.nan, -1
    two = np.partition(scores, -2, axis=1)[:, -2:]
    return Refit(
        number=number,
        num_labels=len(cells),
        probabilities=scores,
        predictions=predictions,
        doubt=1 - (two[:, 1] - two[:, 0]),
        left_out=left_out,
        left_out_probabilities=held_out,
    )


def refit_file(path: Path, *arguments: Any) -> Refit | None:
    """Calls ``refit`` with the features of a file: another process need not be sent them.

    Raises:
        DataError: If the file is damaged.
    """
    return refit(open_features(path), *arguments)


def naive_accuracy(fitted: Refit, labels: Mapping[int, int]) -> float | None:
    """Returns the cross-validated accuracy on the labels that were chosen for training: biased by the choice."""
    given = _given(fitted, labels)
    is_known = given >= 0
    predicted = fitted.left_out_probabilities.argmax(axis=1)
    return float((predicted == given)[is_known].mean()) if is_known.any() else None


def suspected_mistakes(fitted: Refit, labels: Mapping[int, int]) -> list[tuple[float, int]]:
    """Ranks labelled cells to which classifiers without their group give another class: (probability of it, cell).

    The confident ones first: the rule of confident learning (Northcutt et al. 2021, arXiv:1911.00068) with the margin
    in the place of class thresholds.
    """
    given, by_class = _given(fitted, labels), fitted.left_out_probabilities
    rows = np.flatnonzero((given >= 0) & (by_class.argmax(axis=1) != given))
    margins = by_class[rows].max(axis=1, initial=0.0) - by_class[rows, given[rows]]
    return sorted(zip(margins.tolist(), fitted.left_out[rows].tolist(), strict=True), key=lambda one: (-one[0], one[1]))


def _given(fitted: Refit, labels: Mapping[int, int]) -> Int64[np.ndarray, " left_out"]:
    """Returns the class of each cell that was left out; -1 where it has none any more."""
    return np.array([labels.get(cell, -1) for cell in fitted.left_out.tolist()], dtype=np.int64)
