"""Agreement of predictions with labels: confusion matrix, kappa, AUROC, sensitivity and specificity by class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64, Num
from numpy.typing import ArrayLike

Counts = Num[np.ndarray, "classes classes"]
"""A confusion matrix: true classes in rows, predicted classes in columns."""

Weights = Literal["linear", "quadratic"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One class against the rest, with the counts behind every ratio."""

    true_positives: int
    """Images of the class that are predicted as it."""
    num_images: int
    """Images of the class."""
    true_negatives: int
    """Images of other classes that are predicted as another class than this."""
    num_others: int
    """Images of other classes."""

    @property
    def sensitivity(self) -> float | None:
        """Share of the images of the class that are predicted as it; None without any."""
        return self.true_positives / self.num_images if self.num_images else None

    @property
    def specificity(self) -> float | None:
        """Share of the images of other classes that are not predicted as the class; None without any."""
        return self.true_negatives / self.num_others if self.num_others else None

    @property
    def precision(self) -> float | None:
        """Share of the images predicted as the class that are of it; None without any."""
        num_predicted = self.true_positives + self.num_others - self.true_negatives
        return self.true_positives / num_predicted if num_predicted else None


def confusion(labels: ArrayLike, predicted: ArrayLike, num_classes: int) -> Int64[np.ndarray, "classes classes"]:
    """Counts images by true class (rows) and predicted class (columns)."""
    pairs = np.asarray(labels, dtype=np.int64) * num_classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(matrix: Counts) -> list[ClassScore]:
    """Computes the scores of every class from a confusion matrix."""
    counts = np.asarray(matrix)
    total = int(counts.sum())
    return [
        ClassScore(
            true_positives=int(counts[index, index]),
            num_images=int(counts[index].sum()),
            true_negatives=total - int(counts[index].sum() + counts[:, index].sum() - counts[index, index]),
            num_others=total - int(counts[index].sum()),
        )
        for index in range(len(counts))
    ]


def kappa(matrix: Counts, weights: Weights | None = None) -> float | None:
    """Computes Cohen's kappa; None where chance alone agrees fully, as with a single class.

    Args:
        matrix: A confusion matrix; with ``weights`` its classes are in their natural order.
        weights: Cost of an error: its distance in classes, or the square of it (Cohen 1968); None: all errors cost 1.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    index = np.arange(len(counts))
    distance = np.abs(index[:, None] - index)
    costs: dict[str | None, Counts] = {
        None: distance > 0,
        "linear": distance,
        "quadratic": distance**2,
    }
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    by_chance = (costs[weights] * expected).sum()
    return float(1 - (costs[weights] * counts).sum() / by_chance) if by_chance else None


def ordered(matrix: Counts, classes: Sequence[str], order: Sequence[str]) -> Counts:
    """Reorders rows and columns of a confusion matrix."""
    indices = [list(classes).index(name) for name in order]
    return np.asarray(matrix)[np.ix_(indices, indices)]


def one_against_rest(labels: ArrayLike, probabilities: ArrayLike) -> list[float | None]:
    """Computes each class's area under the ROC curve; None for a class without images, or with all of them.

    The area is the chance that an image of the class gets a higher probability of it than another image does, ties
    counting half (Hanley & McNeil 1982): the rank sum of Mann and Whitney, for all classes at once.
    """
    from scipy.stats import rankdata

    truth = np.asarray(labels)
    by_class: Float64[np.ndarray, "images classes"] = np.asarray(probabilities, dtype=np.float64)
    ranks = rankdata(by_class, axis=0)
    areas: list[float | None] = []
    for index in range(by_class.shape[1]):
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
