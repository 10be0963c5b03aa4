"""Sums over labelled images from which closed-form heads follow, and their division by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
from jaxtyping import Float64, Int64

from cytolora.training.heads.folds import Fold

Rows = Float64[np.ndarray, "images features"]
Labels = Int64[np.ndarray, " images"]


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Sums over images; those over some of them can be taken from those over all."""

    counts: Float64[np.ndarray, " classes"]
    """Images of each class."""
    sums: Float64[np.ndarray, "classes features"]
    """Over the images of each class."""
    squares: Float64[np.ndarray, "features features"]
    """``rows' rows``, around no centre."""

    @staticmethod
    def of(rows: Rows, labels: Labels, num_classes: int) -> "Moments":
        """Adds up images.

        Args:
            labels: Class indices from 0.
        """
        return Moments(
            counts=np.bincount(labels, minlength=num_classes).astype(np.float64),
            sums=class_sums(rows, labels, num_classes),
            squares=rows.T @ rows,
        )

    def copy(self) -> "Moments":
        """Returns the same sums with squares of their own."""
        return replace(self, squares=self.squares.copy())

    def plus(self, other: "Moments") -> "Moments":
        """Returns the sums over both; they take the memory of these squares, which are lost."""
        return Moments(
            counts=self.counts + other.counts,
            sums=self.sums + other.sums,
            squares=np.add(self.squares, other.squares, out=self.squares),
        )

    def less(self, part: "Moments") -> "Moments":
        """Returns the sums over the images that are not in the part."""
        return Moments(
            counts=self.counts - part.counts, sums=self.sums - part.sums, squares=self.squares - part.squares
        )


@dataclass(frozen=True, kw_only=True)
class Divided:
    """Sums over all images, and those that each fold leaves out with the sums over them."""

    everything: Moments
    left_out: Sequence[Moments]
    rows: Sequence[Float64[np.ndarray, "_ features"]]
    """Left out by each fold, in its order."""

    @staticmethod
    def of(rows: Rows, labels: Labels, folds: Sequence[Fold]) -> "Divided":
        """Adds up every image once."""
        num_classes = int(labels.max()) + 1
        is_rest = np.ones(len(rows), dtype=bool)
        for _, left in folds:
            is_rest[left] = False
        own = [rows[left] for _, left in folds]
        parts = [Moments.of(each, labels[left], num_classes) for each, (_, left) in zip(own, folds, strict=True)]
        has_rest = bool(is_rest.any())
        first = Moments.of(rows[is_rest], labels[is_rest], num_classes) if has_rest else parts[0].copy()
        everything = reduce(Moments.plus, parts if has_rest else parts[1:], first)
        return Divided(everything=everything, left_out=parts, rows=own)


def class_sums(rows: Rows, labels: Labels, num_classes: int) -> Float64[np.ndarray, "classes features"]:
    """Adds up the images of each class."""
    return np.eye(num_classes)[:, labels] @ rows
