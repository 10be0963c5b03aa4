"""Sums over labelled images from which closed-form heads follow, by fold, and the solution of their equations."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
from jaxtyping import Float, Float64, Int64

from cytolora.training.heads.folds import Fold

Rows = Float[np.ndarray, "images features"]
"""In float32 or float64."""
Labels = Int64[np.ndarray, " images"]
Squares = Float64[np.ndarray, "features features"]
_BLOCK = 512
"""Images at a time: few enough to stay in the cache while they are turned into float64."""


@dataclass(frozen=True, kw_only=True)
class ClassSums:
    """Images of each class, counted and added up; those of some of them can be taken from those of all."""

    counts: Float64[np.ndarray, " classes"]
    sums: Float64[np.ndarray, "classes features"]

    @staticmethod
    def of(rows: Rows, labels: Labels, num_classes: int) -> "ClassSums":
        """Adds up images.

        Args:
            labels: Class indices from 0.
        """
        counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
        return ClassSums(counts=counts, sums=class_sums(rows, labels, num_classes))

    def plus(self, other: "ClassSums") -> "ClassSums":
        """Returns the sums over both."""
        return ClassSums(counts=self.counts + other.counts, sums=self.sums + other.sums)

    def less(self, part: "ClassSums") -> "ClassSums":
        """Returns the sums over the images that are not in the part."""
        return ClassSums(counts=self.counts - part.counts, sums=self.sums - part.sums)

    @property
    def means(self) -> Float64[np.ndarray, "classes features"]:
        """Of the images of each class."""
        return self.sums / self.counts[:, None]


@dataclass(frozen=True, kw_only=True)
class Divided:
    """Images by the fold that leaves them out, and sums over those and over all."""

    everything: ClassSums
    left_out: Sequence[ClassSums]
    rows: Sequence[Float64[np.ndarray, "_ features"]]
    """Left out by each fold, in its order."""
    rest: Float64[np.ndarray, "_ features"]
    """Images that no fold leaves out."""

    @staticmethod
    def of(rows: Rows, labels: Labels, folds: Sequence[Fold]) -> "Divided":
        """Adds up every image once."""
        num_classes = int(labels.max()) + 1
        is_rest = np.ones(len(rows), dtype=bool)
        for _, left in folds:
            is_rest[left] = False
        indices = [*(left for _, left in folds), np.flatnonzero(is_rest)]
        own = np.split(np.empty(rows.shape), np.cumsum([len(each) for each in indices[:-1]], dtype=np.int64))
        sums = []
        for part, index in zip(own, indices, strict=True):
            for start in range(0, len(index), _BLOCK):
                part[start : start + _BLOCK] = rows[index[start : start + _BLOCK]]
            sums.append(ClassSums.of(part, labels[index], num_classes))
        return Divided(everything=reduce(ClassSums.plus, sums), left_out=sums[:-1], rows=own[:-1], rest=own[-1])

    @cached_property
    def squares(self) -> tuple[Squares, Sequence[Squares]]:
        """``rows' rows`` of all images, around no centre, and of those that each fold trains on."""
        dim = self.rest.shape[1]
        memory = np.empty((len(self.rows) + 1, dim, dim))  # one piece, which is quicker to get
        everything, *parts = memory
        np.matmul(self.rest.T, self.rest, out=everything)
        for rows, part in zip(self.rows, parts, strict=True):
            everything += np.matmul(rows.T, rows, out=part)
        return everything, [np.subtract(everything, part, out=part) for part in parts]


def class_sums(rows: Rows, labels: Labels, num_classes: int) -> Float64[np.ndarray, "classes features"]:
    """Adds up the images of each class."""
    one_hot = np.eye(num_classes)[:, labels]
    sums = np.zeros((num_classes, rows.shape[1]))
    for start in range(0, len(rows), _BLOCK):
        sums += one_hot[:, start : start + _BLOCK] @ rows[start : start + _BLOCK]
    return sums


def positive_solution(
    squares: Squares, right: Float64[np.ndarray, "features columns"]
) -> Float64[np.ndarray, "features columns"] | None:
    """Solves symmetric positive definite equations; None where they are not definite.

    Args:
        squares: Rows one after the other in memory; the lower triangle alone is read, and written over.
    """
    from scipy.linalg import get_lapack_funcs  # slow to load

    (posv,) = get_lapack_funcs(("posv",), (squares,))
    # transposed it is the upper triangle, which lies in memory as LAPACK takes it, and is quicker than the lower one
    _, found, fault = posv(squares.T, right, lower=False, overwrite_a=True)
    return None if fault else found
