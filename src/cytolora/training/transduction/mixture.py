"""Transductive classification: a Gaussian mixture over all cells of a slide, anchored on the training features.

StatA (Zanella, Fuchs, De Vleeschouwer & Ben Ayed, CVPR 2025, arXiv:2501.03729) with its hyper-parameters. Its text
anchors are here the class means of the training features in their discriminant space, where the anchors' covariance is
the identity, and its zero-shot posterior is that of the fitted head. A class without cells keeps its anchor; in the
authors' code it becomes 0/0. Neighbours are those in the same space, each with weight 1. Unlike there, the logarithm of
the variances is part of a density, and class means are not scaled to length one.
"""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64
from numpy.typing import NDArray

from cytolora.training.transduction.nearest import Points, Rows, nearest

Probabilities = Float64[np.ndarray, "cells classes"]
"""Rows add up to 1."""

_SCALE = 50.0
"""Log densities are divided by it: solvers/StatA.py of the authors' code, ``exp(1 / 50 * ...)``."""
_OUTER, _INNER = 10, 5
"""Updates of means and variances; of the assignments before each. StatA.py: ``max_iter``."""
_LEAST_PROBABILITY = 1e-12
_LEAST_VARIANCE = 1e-3
"""The anchors' is 1; cells that are all alike have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixtureOptions:
    """Hyper-parameters of StatA.py."""

    anchor: float = 1.0
    """alpha: cells that an anchor weighs as much as."""
    prior: float = 1.0
    """lambda: exponent of the head's probabilities."""
    laplacian: float = 1.0
    """Weight of the neighbours."""
    neighbours: int = 3


STATA = MixtureOptions()


def transduce(
    points: Points,
    probabilities: Float[np.ndarray, "cells classes"],
    means: Float64[np.ndarray, "classes dimensions"],
    *,
    may_move: Bool[np.ndarray, " classes"] | None = None,
    options: MixtureOptions = STATA,
    neighbours: Rows | None = None,
) -> Probabilities:
    """Classifies all cells of a slide together; their order changes nothing, to the last bit.

    Args:
        points: In the discriminant space, of two cells or more.
        probabilities: Of the head.
        means: The anchors.
        may_move: By class, whether the cells may move its mean and variances; all may if None.
        neighbours: Rows of ``points``; found if None.
    """
    order, copies = _canonical(points, probabilities)
    ordered, prior = np.ascontiguousarray(points[order]), probabilities[order].astype(np.float64)
    if neighbours is None:
        neighbours = nearest(ordered, options.neighbours)
    else:
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        neighbours = place[neighbours[order]]
    moving = np.ones(len(means), dtype=bool) if may_move is None else may_move
    found = _without_ties(_fit(ordered, prior, means, moving, options, neighbours), copies)
    answer = np.empty_like(found)
    answer[order] = found
    return answer


def _fit(
    points: Points,
    prior: Probabilities,
    anchors: Float64[np.ndarray, "classes dimensions"],
    may_move: Bool[np.ndarray, " classes"],
    options: MixtureOptions,
    neighbours: Rows,
) -> Probabilities:
    log_prior = options.prior * np.log(np.maximum(prior, _LEAST_PROBABILITY))
    squares, means, variances, found = points * points, anchors, np.ones_like(anchors), prior
    for step in range(_OUTER + 1):
        if step:
            means, variances = _moved(points, squares, found, anchors, may_move, options.anchor)
        evidence = log_prior + log_densities(points, means, variances) / _SCALE
        for _ in range(_INNER):
            found = _softmax(evidence + options.laplacian * _from_neighbours(found, neighbours))
    return found


def log_densities(
    points: Points,
    means: Float64[np.ndarray, "classes dimensions"],
    variances: Float64[np.ndarray, "classes dimensions"],
) -> Float64[np.ndarray, "cells classes"]:
    """Returns the logarithm of each class's normal density, up to a constant."""
    precisions = 1 / variances
    constants = (means * means * precisions + np.log(variances)).sum(axis=1)
    return points @ (means * precisions).T - ((points * points) @ precisions.T + constants) / 2


def _moved(
    points: Points,
    squares: Points,
    found: Probabilities,
    anchors: Float64[np.ndarray, "classes dimensions"],
    may_move: Bool[np.ndarray, " classes"],
    alpha: float,
) -> tuple[Float64[np.ndarray, "classes dimensions"], Float64[np.ndarray, "classes dimensions"]]:
    """Returns means and variances: those of the cells and the anchors', weighed by the number of cells."""
    counts, mass = np.bincount(found.argmax(axis=1), minlength=found.shape[1]), found.sum(axis=0)
    beta = np.where(may_move & (mass > _LEAST_PROBABILITY), counts / (alpha + counts), 0.0)[:, None]
    divisor = np.maximum(mass, _LEAST_PROBABILITY)[:, None]  # where it is less, beta is 0
    first, second = found.T @ points / divisor, found.T @ squares / divisor
    means = beta * first + (1 - beta) * anchors
    of_cells = second - 2 * means * first + means * means
    of_anchor = 1 + (anchors - means) ** 2
    return means, np.maximum(beta * of_cells + (1 - beta) * of_anchor, _LEAST_VARIANCE)


def _from_neighbours(found: Probabilities, neighbours: Rows) -> Float64[np.ndarray, "cells classes"]:
    """Averages the classes of each cell's neighbours, and those of the cells whose neighbour it is: W q + W' q."""
    number, flat, sums = neighbours.shape[1], neighbours.ravel(), np.empty_like(found)
    for label, column in enumerate(found.T):
        own = np.ascontiguousarray(column)
        of_others = np.bincount(flat, np.repeat(own, number), minlength=len(found))
        sums[:, label] = own[neighbours].sum(axis=1) + of_others
    return sums / (2 * number)


def _softmax(logits: Float64[np.ndarray, "cells classes"]) -> Probabilities:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _canonical(
    points: Points, probabilities: Float[np.ndarray, "cells classes"]
) -> tuple[Int64[np.ndarray, " cells"], Int64[np.ndarray, " cells"]]:
    """Orders cells by their content, so that sums and ties do not depend on how they came.

    Returns:
        The rows in that order; and in it the number of each cell's content, equal for equal cells.
    """
    pairs = zip(points, probabilities, strict=True)
    digests = (blake2b(point.tobytes() + row.tobytes(), digest_size=16) for point, row in pairs)
    keys = np.frombuffer(b"".join(one.digest() for one in digests), dtype=">u8").reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    is_new = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    return order, np.concatenate([[0], np.cumsum(is_new)])


def _without_ties(found: Probabilities, copies: NDArray[np.int64]) -> Probabilities:
    """Gives equal cells the mean of their answers, which ties among neighbours may have told apart."""
    if copies[-1] == len(copies) - 1:
        return found
    sums = np.stack([np.bincount(copies, column) for column in found.T], axis=1)
    return (sums / np.bincount(copies)[:, None])[copies]
