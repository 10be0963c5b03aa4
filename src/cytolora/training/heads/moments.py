"""Sums over labelled images from which closed-form heads follow, and their division by cross-validation."""

from collections.abc import Sequence
from dataclasses import dataclass
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

    def plus(self, other: "Moments") -> "Moments":
        """Returns the sums over both."""
        return Moments(
            counts=self.counts + other.counts, sums=self.sums + other.sums, squares=self.squares + other.squares
        )

    def less(self, part: "Moments") -> "Moments":
        """Returns the sums over the images that are not in the part."""
        return Moments(
            counts=self.counts - part.counts, sums=self.sums - part.sums, squares=self.squares - part.squares
        )


@dataclass(frozen=True, kw_only=True)
class Divided:
    """Sums over all images, and over those that each fold leaves out."""

    everything: Moments
    left_out: Sequence[Moments]

    @staticmethod
    def of(rows: Rows, labels: Labels, folds: Sequence[Fold]) -> "Divided":
        """Adds up every image once."""
        num_classes = int(labels.max()) + 1
        parts = [Moments.of(rows[left], labels[left], num_classes) for _, left in folds]
        is_left = np.zeros(len(rows), dtype=bool)
        for _, left in folds:
            is_left[left] = True
        rest = [] if is_left.all() else [Moments.of(rows[~is_left], labels[~is_left], num_classes)]
        return Divided(everything=reduce(Moments.plus, [*parts, *rest]), left_out=parts)


def class_sums(rows: Rows, labels: Labels, num_classes: int) -> Float64[np.ndarray, "classes features"]:
    """Adds up the images of each class."""
    return np.eye(num_classes)[:, labels] @ rows
