"""How predictions agree with labels: confusion matrix, kappa, AUROC, each class's sensitivity and specificity."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[Any]
"""A confusion matrix: true class x predicted class."""

Weights = Literal["linear", "quadratic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class against the rest, with the counts behind every share."""

    found: int
    """Images of the class that were given to it."""
    num_images: int
    """Images of the class."""
    spared: int
    """Images of other classes that were not given to it."""
    num_others: int

    @property
    def sensitivity(self) -> float | None:
        """Found among the images of the class; None without any."""
        return self.found / self.num_images if self.num_images else None

    @property
    def specificity(self) -> float | None:
        """Spared among the images of other classes; None without any."""
        return self.spared / self.num_others if self.num_others else None

    @property
    def precision(self) -> float | None:
        """Found among all images that were given to the class; None without any."""
        named = self.found + self.num_others - self.spared
        return self.found / named if named else None


def confusion(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> NDArray[np.int64]:
    """Counts images by true class (rows) and predicted class (columns)."""
    pairs = np.asarray(labels, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(matrix: Counts) -> list[ClassScore]:
    """Reads the scores of every class off a confusion matrix, true classes in rows."""
    counts: NDArray[np.int64] = np.asarray(matrix)
    total = int(counts.sum())
    return [
        ClassScore(
            found=int(counts[index, index]),
            num_images=int(counts[index].sum()),
            spared=total - int(counts[index].sum() + counts[:, index].sum() - counts[index, index]),
            num_others=total - int(counts[index].sum()),
        )
        for index in range(len(counts))
    ]


def kappa(matrix: Counts, weights: Weights | None = None) -> float | None:
    """Computes Cohen's kappa; None where chance alone agrees fully, as with a single class.

    Args:
        matrix: True classes in rows; in their order where ``weights`` are given.
        weights: A mistake costs its distance in classes, or the square of it (Cohen 1968); None: all the same.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    places = np.arange(len(counts))
    distance = np.abs(places[:, None] - places)
    costs: dict[str | None, NDArray[Any]] = {None: distance > 0, "linear": distance, "quadratic": distance**2}
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    by_chance = (costs[weights] * expected).sum()
    return float(1 - (costs[weights] * counts).sum() / by_chance) if by_chance else None


def ordered(matrix: Counts, classes: Sequence[str], order: Sequence[str]) -> Counts:
    """Puts rows and columns into another order of the classes."""
    places = [list(classes).index(name) for name in order]
    return np.asarray(matrix)[np.ix_(places, places)]


def one_against_rest(labels: ArrayLike, probabilities: ArrayLike) -> list[float | None]:
    """Computes each class's area under the ROC curve; None for a class without images, or with all of them.

    The area is the chance that an image of the class gets a higher probability of it than another image does, ties
    counting half (Hanley & McNeil 1982): the rank sum of Mann and Whitney, for all classes at once.
    """
    from scipy.stats import rankdata

    truth, shares = np.asarray(labels), np.asarray(probabilities, dtype=np.float64)
    ranks = rankdata(shares, axis=0)
    areas: list[float | None] = []
    for index in range(shares.shape[1]):
        of_class = truth == index
        inside, outside = int(of_class.sum()), int((~of_class).sum())
        if not inside or not outside:
            areas.append(None)
            continue
        wins = ranks[of_class, index].sum() - inside * (inside + 1) / 2
        areas.append(float(wins / (inside * outside)))
    return areas


def macro(values: Sequence[float | None]) -> float | None:
    """Averages over the classes that have a value; None where none has."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
