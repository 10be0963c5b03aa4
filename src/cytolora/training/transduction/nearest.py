"""Nearest neighbours among the cells of a slide, in blocks, by a tree or in clusters: never cells x cells in memory."""

import numpy as np
from jaxtyping import Float, Float64, Int64
from numpy.typing import NDArray

MAX_EXACT = 12_000
"""Cells up to which every pair is compared."""
MAX_TREE_DIMENSIONS = 12
"""Up to which more cells are searched by a k-d tree, which is exact; beyond, it would compare nearly all pairs."""
_NUM_PROBES = 64
"""Clusters that the candidates of one cluster come from."""
_CELLS_A_CLUSTER = 200
_MAX_PAIRS = 2**22
"""Distances in memory at once, 32 MiB."""

Points = Float64[np.ndarray, "cells dimensions"]
Rows = Int64[np.ndarray, "cells neighbours"]
AnyPoints = Float[np.ndarray, "cells dimensions"]


def nearest(points: Points, number: int, *, max_exact: int = MAX_EXACT) -> Rows:
    """Finds the nearest other cells of each cell, the nearest first; ties go to the earlier cell.

    Args:
        number: Neighbours of each cell; all others if these are fewer.
        max_exact: Beyond so many cells, in more than ``MAX_TREE_DIMENSIONS``, the search is approximate (``recall``).
    """
    number = min(number, len(points) - 1)
    if len(points) > max_exact:
        return _in_tree(points, number) if points.shape[1] <= MAX_TREE_DIMENSIONS else _clustered(points, number)
    every, found = np.arange(len(points)), np.empty((len(points), number), np.int64)
    for rows in _blocks(every, len(points)):
        found[rows] = _among(points, rows, every, number)
    return found


def recall(points: Points, found: Rows, rows: NDArray[np.int64]) -> float:
    """Returns the share of the exact nearest neighbours of some cells that were found."""
    exact = _among(points, rows, np.arange(len(points)), found.shape[1])
    return float(np.mean([np.isin(one, other) for one, other in zip(exact, found[rows], strict=True)]))


def _among(points: AnyPoints, rows: NDArray[np.int64], candidates: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Finds the nearest candidates of some cells, themselves apart."""
    others = points[candidates]
    closeness = points[rows] @ others.T  # squared distance over -2, up to what is equal within a row
    closeness -= np.einsum("nd,nd->n", others, others) / 2
    closeness[candidates == rows[:, None]] = -np.inf
    found, every = np.empty((len(rows), number), np.int64), np.arange(len(rows))
    for rank in range(number):
        best = closeness.argmax(axis=1)
        closeness[every, best] = -np.inf
        found[:, rank] = candidates[best]
    return found


def _in_tree(points: Points, number: int) -> Rows:
    from scipy.spatial import KDTree

    found = np.asarray(KDTree(points).query(points, k=number + 1)[1], dtype=np.int64)
    is_self = found == np.arange(len(points))[:, None]
    is_self[~is_self.any(axis=1), -1] = True  # among so many equal cells that others came first
    return found[~is_self].reshape(len(points), number)


def _clustered(points: Points, number: int) -> Rows:
    """Compares the cells of each cluster with those of the clusters around it."""
    members, rounded = _clusters(points), points.astype(np.float32)
    centres = np.stack([points[part].mean(axis=0) for part in members])
    lengths = np.einsum("nd,nd->n", centres, centres)
    around = np.argsort(lengths - 2 * (centres @ centres.T), axis=1, kind="stable")[:, :_NUM_PROBES]
    found = np.empty((len(points), number), np.int64)
    for own, probes in zip(members, around, strict=True):
        candidates = np.sort(np.concatenate([members[probe] for probe in probes]))
        for rows in _blocks(own, len(candidates)):
            found[rows] = _among(rounded, rows, candidates, number)
    return found


def _clusters(points: Points) -> list[NDArray[np.int64]]:
    """Halves the cells again and again at the median of the dimension in which they are spread most."""
    parts = [np.arange(len(points))]
    while len(parts[0]) > _CELLS_A_CLUSTER:
        parts = [half for part in parts for half in _halves(points, part)]
    return parts


def _halves(points: Points, part: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    widest = int(points[part].var(axis=0).argmax())
    return np.array_split(part[np.argsort(points[part, widest], kind="stable")], 2)


def _blocks(rows: NDArray[np.int64], num_candidates: int) -> list[NDArray[np.int64]]:
    size = max(1, _MAX_PAIRS // num_candidates)
    return [rows[start : start + size] for start in range(0, len(rows), size)]
