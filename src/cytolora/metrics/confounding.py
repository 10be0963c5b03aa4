"""Classes confounded with their sources: the groups of a class hold no other, those of other classes are mixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

HIGH, LOW = 0.9, 0.6
"""A class is its source where more than 0.9 of its groups hold it alone, and less than 0.6 of another class's do."""
_MIN_GROUPS = 2
"""Of a class; all cells of one slide say nothing of other slides."""
_NUM_PERMUTATIONS = 199
_QUANTILE = 0.995


@dataclass(frozen=True, slots=True, kw_only=True)
class Purity:
    """How many groups of a class hold no other class."""

    label: str
    num_groups: int
    """With two cells or more, at least one of the class."""
    share_alone: float
    """Of these groups, those that hold the class alone."""
    is_source: bool
    """Whether the class cannot be told from its source."""


def purities(
    labels: Int64[np.ndarray, " cells"], groups: Sequence[str | None], classes: Sequence[str]
) -> tuple[Purity, ...]:
    """Counts for each class the groups that hold it alone; a class without a group of two cells or more is left out.

    A group of one cell always holds one class alone, and so do most groups of a class that nearly all cells have:
    neither is confounding. Permutations of classes over cells, drawn with seed 0, tell what frequency alone gives.
    Cells without a known group are left out.
    """
    known = [index for index, group in enumerate(groups) if group is not None]
    if not known:
        return ()
    _, codes = np.unique([str(groups[index]) for index in known], return_inverse=True)
    numbers, width = np.asarray(labels)[known], len(classes)
    number, shares = _alone(numbers, codes, width)
    is_candidate = (shares > HIGH) & (number >= _MIN_GROUPS) & bool((shares[number > 0] < LOW).any())
    chance = _by_chance(numbers, codes, width) if is_candidate.any() else np.zeros(width)
    return tuple(
        Purity(
            label=label,
            num_groups=int(number[index]),
            share_alone=float(shares[index]),
            is_source=bool(is_candidate[index] and shares[index] > chance[index]),
        )
        for index, label in enumerate(classes)
        if number[index]
    )


def _by_chance(
    labels: Int64[np.ndarray, " cells"], groups: Int64[np.ndarray, " cells"], num_classes: int
) -> Float64[np.ndarray, " classes"]:
    order = np.random.default_rng(0)
    drawn = [_alone(order.permutation(labels), groups, num_classes)[1] for _ in range(_NUM_PERMUTATIONS)]
    return np.quantile(np.nan_to_num(np.stack(drawn)), _QUANTILE, axis=0)


def _alone(
    labels: Int64[np.ndarray, " cells"], groups: Int64[np.ndarray, " cells"], num_classes: int
) -> tuple[Int64[np.ndarray, " classes"], Float64[np.ndarray, " classes"]]:
    """Returns for each class its groups of two cells or more, and the share of them that hold it alone."""
    cells = groups * num_classes + labels
    table = np.bincount(cells, minlength=(int(groups.max()) + 1) * num_classes).reshape(-1, num_classes)
    holds = table[table.sum(axis=1) > 1] > 0
    number = holds.sum(axis=0)
    alone = (holds & (holds.sum(axis=1) == 1)[:, None]).sum(axis=0)
    return number, np.divide(alone, number, out=np.full(num_classes, np.nan), where=number > 0)
