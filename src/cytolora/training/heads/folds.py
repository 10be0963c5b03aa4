"""Division of training images into folds for cross-validation that tears no group."""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

MAX_FOLDS = 5

Fold = tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]
"""Indices of the images to train on, and of those left out."""


def num_folds(
    labels: NDArray[np.int64] | Sequence[int], groups: Sequence[str], is_scored: NDArray[np.bool_] | None = None
) -> int:
    """Returns how many folds leave every class in training in each of them: at most ``MAX_FOLDS``; 1 or 0: none do.

    Args:
        is_scored: Which images count; None: all.
    """
    counted = np.ones(len(labels), dtype=bool) if is_scored is None else is_scored
    pairs = {(label, group) for label, group, counts in zip(labels, groups, counted, strict=True) if counts}
    return min(MAX_FOLDS, *(sum(label == each for label, _ in pairs) for each in np.unique(labels)))


def divide(labels: NDArray[np.int64], groups: Sequence[str], number: int, *, seed: int) -> list[Fold]:
    """Divides images into so many folds, stratified by class, each group whole."""
    splitter = _quick_splitter(n_splits=number, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y has only")
        return list(splitter.split(np.zeros((len(labels), 1)), labels, groups))


def _quick_splitter(**options: Any) -> Any:
    """Returns scikit-learn's splitter with its search for the best fold of a group made at once for all folds.

    The rule is scikit-learn's, and so are the folds. Where another version searches by another name, it is only slower.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second of processor time

    class Quick(StratifiedGroupKFold):
        def _find_best_fold(
            self,
            y_counts_per_fold: NDArray[np.float64],
            y_cnt: NDArray[np.int64],
            group_y_counts: NDArray[np.float64],
        ) -> int:
            num_folds = len(y_counts_per_fold)
            tried = y_counts_per_fold + np.eye(num_folds)[:, :, None] * group_y_counts
            shares = tried / y_cnt
            apart = shares - shares.sum(axis=1, keepdims=True) / num_folds  # numpy.std, less its cost of many calls
            spread = np.sqrt((apart * apart).sum(axis=1) / num_folds).mean(axis=1).tolist()
            sizes = y_counts_per_fold.sum(axis=1).tolist()
            best = 0
            for fold in range(1, num_folds):
                is_close = abs(spread[fold] - spread[best]) <= 1e-8 + 1e-5 * abs(spread[best])  # numpy.isclose
                if spread[fold] < spread[best] or (is_close and sizes[fold] < sizes[best]):
                    best = fold
            return best

    return Quick(**options)


def group_folds(labels: Int64[np.ndarray, " images"], groups: Sequence[str], *, seed: int) -> list[Fold]:
    """Divides images into folds, stratified by class; none where a class comes from one group only.

    Every class has at least as many groups as there are folds, at most ``MAX_FOLDS``, so that training holds all
    classes; a division that leaves one out nevertheless is not used.

    Args:
        groups: Unit of each image: its group, or itself where that is unknown.
    """
    kept = _group_folds(np.asarray(labels, dtype=np.int64).tobytes(), tuple(groups), seed)
    return [(train.copy(), left.copy()) for train, left in kept]


@lru_cache(maxsize=16)
def _group_folds(content: bytes, groups: tuple[str, ...], seed: int) -> tuple[Fold, ...]:
    """Divides once for all heads of a draw: it takes longer than to fit some of them."""
    labels = np.frombuffer(content, dtype=np.int64)
    number = num_folds(labels, groups)
    if number < 2:
        return ()
    num_classes = len(np.unique(labels))
    folds = divide(labels, groups, number, seed=seed)
    return tuple(fold for fold in folds if len(np.unique(labels[fold[0]])) == num_classes)


def forget_folds() -> None:
    """Forgets divisions made before, so that a measurement makes them."""
    _group_folds.cache_clear()
