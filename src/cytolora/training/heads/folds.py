"""Division of training images into folds for cross-validation that tears no group."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

MAX_FOLDS = 5
_SEEDS = 10
"""Divisions tried for each number of folds. They differ only in the order of groups whose classes vary equally in
size."""

Fold = tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]
"""Indices of the images to train on, and of those left out."""


def num_folds(
    labels: NDArray[np.int64] | Sequence[int], groups: Sequence[str], is_scored: NDArray[np.bool_] | None = None
) -> int:
    """Returns the groups of the class with fewest, at most ``MAX_FOLDS``: fewer than 2 leave nothing to divide.

    Args:
        is_scored: Which images count; None: all.
    """
    _, counts = _images_of(labels, groups, is_scored)
    return min(MAX_FOLDS, int((counts > 0).sum(axis=0).min()))


def divide(labels: NDArray[np.int64], groups: Sequence[str], number: int, *, seed: int) -> list[Fold]:
    """Divides images into so many folds, stratified by class, each group whole.

    The rule and the folds are those of scikit-learn's ``StratifiedGroupKFold(number, shuffle=True,
    random_state=seed)``, in less than half of its time and without the second of processor time that loads it.
    """
    by_group, counts = _images_of(labels, groups)
    order = np.arange(len(counts))
    np.random.RandomState(seed % 2**32).shuffle(order)
    fold_of_group = np.empty_like(order)
    fold_of_group[order] = _dealt(counts[order], number)
    fold_of = fold_of_group[by_group]
    return [(np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)) for fold in range(number)]


def complete_folds(
    labels: NDArray[np.int64], groups: Sequence[str], is_scored: NDArray[np.bool_] | None = None, *, seed: int
) -> list[Fold]:
    """Divides images into folds that all train on every class; none where no division found does.

    Groups of several classes can leave all groups of one class in one fold. Then other seeds follow, then more folds,
    which leave fewer groups out, up to ``MAX_FOLDS``, then fewer.

    Args:
        is_scored: Which images count towards the number of folds; None: all.
    """
    most = num_folds(labels, groups, is_scored)
    if most < 2:
        return []
    more = range(most + 1, min(MAX_FOLDS, len(set(groups))) + 1)
    for number in (most, *more, *range(most - 1, 1, -1)):
        for step in range(_SEEDS):
            folds = divide(labels, groups, number, seed=seed + step)
            if len(_training_every_class(folds, labels)) == number:
                return folds
    return []


def _training_every_class(folds: Sequence[Fold], labels: NDArray[np.int64]) -> tuple[Fold, ...]:
    num_classes = len(np.unique(labels))
    return tuple(fold for fold in folds if len(np.unique(labels[fold[0]])) == num_classes)


def _images_of(
    labels: NDArray[np.int64] | Sequence[int], groups: Sequence[str], is_counted: NDArray[np.bool_] | None = None
) -> tuple[Int64[np.ndarray, " images"], Float64[np.ndarray, "groups classes"]]:
    """Returns the place of each image's group among the groups, sorted, and the images of each group and class."""
    place = {group: index for index, group in enumerate(sorted(set(groups)))}
    by_group = np.array([place[group] for group in groups], dtype=np.int64)
    classes, by_class = np.unique(labels, return_inverse=True)
    counts = np.zeros((len(place), len(classes)))
    np.add.at(counts, (by_group, by_class), 1.0 if is_counted is None else is_counted.astype(np.float64))
    return by_group, counts


def _dealt(counts: Float64[np.ndarray, "groups classes"], number: int) -> Int64[np.ndarray, " groups"]:
    """Returns the fold of each group: first those whose classes differ most in size.

    Each goes where the share of a class then varies least between folds, and of those about equal to the smallest.
    Sums are added up in scikit-learn's order: what is equal there is equal here.

    Args:
        counts: Images of each class.
    """
    in_folds, sizes = np.zeros((number, counts.shape[1])), [0.0] * number
    tried = np.empty((number, number, counts.shape[1]))  # images of a fold, were the group in another
    apart = np.empty_like(tried)
    with_group = tried.reshape(number * number, -1)[:: number + 1]
    found, group_sizes, class_sizes = np.empty(len(counts), dtype=np.int64), counts.sum(axis=1), counts.sum(axis=0)
    for group in np.argsort(-np.std(counts, axis=1), kind="stable").tolist():
        tried[:] = in_folds[:, None]
        with_group += counts[group]
        np.divide(tried, class_sizes, out=apart)
        apart -= np.add.reduce(apart, axis=0) / number  # numpy.std, less its cost of many calls
        apart *= apart
        deviations = np.sqrt(np.add.reduce(apart, axis=0) / number)
        spread = (np.add.reduce(deviations, axis=1) / counts.shape[1]).tolist()
        best = 0
        for fold in range(1, number):
            above = spread[fold] - spread[best]
            if above < 0 or (sizes[fold] < sizes[best] and above <= 1e-8 + 1e-5 * spread[best]):  # numpy.isclose
                best = fold
        found[group] = best
        in_folds[best] += counts[group]
        sizes[best] += float(group_sizes[group])
    return found


def group_folds(labels: Int64[np.ndarray, " images"], groups: Sequence[str], *, seed: int) -> list[Fold]:
    """Divides images into folds, stratified by class; none where a class comes from one group only.

    Every class has at least as many groups as there are folds, at most ``MAX_FOLDS``. A fold whose training images
    lack a class nevertheless, as groups of several classes allow, is left out: its images stay unscored.

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
    return _training_every_class(divide(labels, groups, number, seed=seed), labels)


def forget_folds() -> None:
    """Forgets divisions made before, so that a measurement makes them."""
    _group_folds.cache_clear()
