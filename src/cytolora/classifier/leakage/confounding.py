"""Classes confounded with their sources: the groups of a class hold no other, those of other classes are mixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

HIGH, LOW = 0.9, 0.6
"""A class is its source where more than 0.9 of its groups hold it alone, and less than 0.6 of another class's do."""
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
    share_by_chance: float
    """What the frequency of the class would give at most: 99.5 % of permutations of classes over cells stay below."""
    is_source: bool
    """Whether the class cannot be told from its source."""


def purities(
    labels: Int64[np.ndarray, " cells"], groups: Int64[np.ndarray, " cells"], classes: Sequence[str], *, seed: int = 0
) -> tuple[Purity, ...]:
    """Counts for each class the groups that hold it alone; a class without a group of two cells or more is left out.

    A group of one cell always holds one class alone, and so do most groups of a class that nearly all cells have:
    neither is confounding.
    """
    order = np.random.default_rng(seed)
    number, alone = _alone(labels, groups, len(classes))
    shares = _shares(number, alone)
    null = [_shares(*_alone(order.permutation(labels), groups, len(classes))) for _ in range(_NUM_PERMUTATIONS)]
    chance = np.nan_to_num(np.quantile(np.nan_to_num(np.stack(null)), _QUANTILE, axis=0))
    has_mixed = bool((shares[number > 0] < LOW).any())
    return tuple(
        Purity(
            label=label,
            num_groups=int(number[index]),
            share_alone=float(shares[index]),
            share_by_chance=float(chance[index]),
            is_source=has_mixed and bool(shares[index] > max(HIGH, chance[index])),
        )
        for index, label in enumerate(classes)
        if number[index]
    )


def _alone(
    labels: Int64[np.ndarray, " cells"], groups: Int64[np.ndarray, " cells"], num_classes: int
) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, " classes"]]:
    """Returns for each class its groups of two cells or more, and those of them that hold it alone."""
    table = np.zeros((int(groups.max()) + 1, num_classes), dtype=np.int64)
    np.add.at(table, (groups, labels), 1)
    table = table[table.sum(axis=1) > 1]
    holds = table > 0
    return holds.sum(axis=0), (holds & (holds.sum(axis=1) == 1)[:, None]).sum(axis=0)


def _shares(
    number: Int64[np.ndarray, " classes"], alone: Int64[np.ndarray, " classes"]
) -> Float64[np.ndarray, " classes"]:
    return np.divide(alone, number, out=np.full(len(number), np.nan), where=number > 0)
