"""Classes that hang on a tree: how right a classifier of the leaves is higher up, and how far off its mistakes are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Tree = Mapping[str, tuple[str, ...]]
"""By class, its ancestors from the coarsest level down, and itself."""

_Node = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeScore:
    """One classifier on the whole tree."""

    accuracies: tuple[float, ...]
    """At level 1, 2, … : the probabilities of the classes below a node are added up, the most probable node is taken.
    A class that ends above a level stands for itself there."""
    mistake_distance: float | None
    """Edges from the true to the predicted class in the tree, mean over the mistakes; None without any."""
    consistency: float
    """Share of images whose nodes at all levels, each taken for itself, lie on one path."""


def tree_score(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str], tree: Tree) -> TreeScore:
    """Scores class probabilities at every level.

    Args:
        labels: Indices into ``classes``.
        probabilities: Images x classes.
    """
    truth, shares = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    paths = [tree[name] for name in classes]
    accuracies: list[float] = []
    chosen: list[tuple[list[_Node], NDArray[np.int64]]] = []
    for level in range(1, max(map(len, paths)) + 1):
        nodes, place = _nodes(paths, level)
        sums = shares @ np.eye(len(nodes))[place]
        picked = sums.argmax(axis=1)
        accuracies.append(float((picked == place[truth]).mean()))
        chosen.append((nodes, picked))
    predicted = shares.argmax(axis=1)
    wrong = predicted != truth
    apart = distances(paths)[truth, predicted][wrong]
    return TreeScore(
        accuracies=tuple(accuracies),
        mistake_distance=float(apart.mean()) if wrong.any() else None,
        consistency=float(_on_one_path(chosen).mean()),
    )


def distances(paths: Sequence[_Node]) -> NDArray[np.int64]:
    """Counts the edges between every two nodes of a tree, each given by its path from the top."""
    return np.array([[len(one) + len(two) - 2 * _shared(one, two) for two in paths] for one in paths])


def tree_order(classes: Sequence[str], tree: Tree) -> list[int]:
    """Sorts class indices so that classes of one branch stand together, branches in the order of their first class."""
    first: dict[_Node, int] = {}
    for index, name in enumerate(classes):
        for depth in range(1, len(tree[name]) + 1):
            first.setdefault(tree[name][:depth], index)
    return sorted(
        range(len(classes)),
        key=lambda index: [first[tree[classes[index]][: depth + 1]] for depth in range(len(tree[classes[index]]))],
    )


def restricted_accuracy(labels: ArrayLike, probabilities: ArrayLike, kept: Sequence[int]) -> float | None:
    """Scores a classifier as if it knew some of its classes only: their images, and the most probable among them.

    Args:
        kept: Indices of the classes.

    Returns:
        The accuracy, or None where no image is of a kept class.
    """
    chosen, right = restricted_hits(labels, probabilities, kept)
    return float(right.mean()) if chosen.any() else None


def restricted_hits(
    labels: ArrayLike, probabilities: ArrayLike, kept: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Returns which images are of a kept class, and which of these the classifier gets right among these classes."""
    truth, shares, places = np.asarray(labels), np.asarray(probabilities), np.asarray(kept)
    chosen = np.isin(truth, places)
    return chosen, places[shares[chosen][:, places].argmax(axis=1)] == truth[chosen]


def _nodes(paths: Sequence[_Node], level: int) -> tuple[list[_Node], NDArray[np.int64]]:
    """Returns the nodes at a level, and for each class the index of its own."""
    nodes = list(dict.fromkeys(path[:level] for path in paths))
    return nodes, np.array([nodes.index(path[:level]) for path in paths])


def _on_one_path(chosen: Sequence[tuple[list[_Node], NDArray[np.int64]]]) -> NDArray[np.bool_]:
    together = np.ones(len(chosen[0][1]), dtype=bool)
    for (upper, above), (lower, below) in pairwise(chosen):
        fits = np.array([[node[: len(one)] == one for node in lower] for one in upper])
        together &= fits[above, below]
    return together


def _shared(one: _Node, two: _Node) -> int:
    return next((depth for depth, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
