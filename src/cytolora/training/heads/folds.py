"""Division of training images into folds for cross-validation that tears no group."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64
from sklearn.model_selection import StratifiedGroupKFold

MAX_FOLDS = 5

Fold = tuple[Int64[np.ndarray, " train"], Int64[np.ndarray, " held_out"]]
"""Indices of the images to train on, and of those left out."""


def group_folds(labels: Int64[np.ndarray, " images"], groups: Sequence[str], *, seed: int) -> list[Fold]:
    """Divides images into folds, stratified by class; none where a class comes from one group only.

    Every class has at least as many groups as there are folds, at most ``MAX_FOLDS``, so that training holds all
    classes; a division that leaves one out nevertheless is not used.

    Args:
        groups: Unit of each image: its group, or itself where that is unknown.
    """
    pairs = set(zip(labels.tolist(), groups, strict=True))
    num_folds = min(MAX_FOLDS, *(sum(label == each for label, _ in pairs) for each in np.unique(labels).tolist()))
    if num_folds < 2:
        return []
    splitter = StratifiedGroupKFold(n_splits=num_folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class in y has only")
        folds = list(splitter.split(np.zeros((len(labels), 1)), labels, groups))
    num_classes = len(np.unique(labels))
    return [fold for fold in folds if len(np.unique(labels[fold[0]])) == num_classes]
