"""Hierarchical metrics of classes in a tree: accuracy at each level, and the tree distance of wrong predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import ArrayLike

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
        probabilities: A row an image, a column a class.
    """
    truth = np.asarray(labels)
    by_class: Float64[np.ndarray, "images classes"] = np.asarray(probabilities, dtype=np.float64)
    paths = [tree[name] for name in classes]
    chosen = [_picked(by_class, paths, level) for level in range(1, max(map(len, paths)) + 1)]
    predicted = by_class.argmax(axis=1)
    wrong = predicted != truth
    apart = distances(paths)[truth, predicted][wrong]
    return TreeScore(
        accuracies=tuple(level_hits(labels, probabilities, classes, tree).mean(axis=0).tolist()),
        mistake_distance=float(apart.mean()) if wrong.any() else None,
        consistency=float(_on_one_path(chosen).mean()),
    )


def level_hits(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[str], tree: Tree
) -> Bool[np.ndarray, "images levels"]:
    """Returns which images are right at each level, for pairs of classifiers; see ``TreeScore.accuracies``."""
    truth, paths = np.asarray(labels), [tree[name] for name in classes]
    by_class = np.asarray(probabilities, dtype=np.float64)
    hits = []
    for level in range(1, max(map(len, paths)) + 1):
        _, node_of_class = _nodes(paths, level)
        hits.append(_picked(by_class, paths, level)[1] == node_of_class[truth])
    return np.stack(hits, axis=1)


def _picked(
    by_class: Float64[np.ndarray, "images classes"], paths: Sequence[_Node], level: int
) -> tuple[list[_Node], Int64[np.ndarray, " images"]]:
    """Returns the nodes at a level, and the index of the most probable one for each image."""
    nodes, node_of_class = _nodes(paths, level)
    return nodes, (by_class @ np.eye(len(nodes))[node_of_class]).argmax(axis=1)


def distances(paths: Sequence[_Node]) -> Int64[np.ndarray, "classes classes"]:
    """Counts the edges between every two nodes of a tree, each given by its path from the root."""
    return np.array([[len(a) + len(b) - 2 * _num_shared(a, b) for b in paths] for a in paths])


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


def restricted_accuracy(labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[int]) -> float | None:
    """Computes the accuracy on a subset of the classes: on their images, the most probable among them counts.

    Args:
        classes: Indices of the subset.

    Returns:
        The accuracy, or None where no image is of these classes.
    """
    is_of_subset, is_correct = restricted_hits(labels, probabilities, classes)
    return float(is_correct.mean()) if is_of_subset.any() else None


def restricted_hits(
    labels: ArrayLike, probabilities: ArrayLike, classes: Sequence[int]
) -> tuple[Bool[np.ndarray, " images"], Bool[np.ndarray, " of_subset"]]:
    """Returns which images are of the classes of a subset, and which of these are predicted correctly among them."""
    truth, by_class, subset = np.asarray(labels), np.asarray(probabilities), np.asarray(classes)
    is_of_subset = np.isin(truth, subset)
    predicted = subset[by_class[is_of_subset][:, subset].argmax(axis=1)]
    return is_of_subset, predicted == truth[is_of_subset]


def _nodes(paths: Sequence[_Node], level: int) -> tuple[list[_Node], Int64[np.ndarray, " classes"]]:
    """Returns the nodes at a level, and for each class the index of its node."""
    nodes = list(dict.fromkeys(path[:level] for path in paths))
    return nodes, np.array([nodes.index(path[:level]) for path in paths])


def _on_one_path(chosen: Sequence[tuple[list[_Node], Int64[np.ndarray, " images"]]]) -> Bool[np.ndarray, " images"]:
    together = np.ones(len(chosen[0][1]), dtype=bool)
    for (upper, above), (lower, below) in pairwise(chosen):
        fits = np.array([[node[: len(parent)] == parent for node in lower] for parent in upper])
        together &= fits[above, below]
    return together


def _num_shared(a: _Node, b: _Node) -> int:
    return next((depth for depth, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
