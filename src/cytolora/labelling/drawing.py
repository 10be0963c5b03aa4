"""Choice of the next training cells: coverage before there is a classifier, a mixture of reasons afterwards.

All functions are pure; ties go to the lower number. Test cells are drawn by chance alone (shares.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float32, Int64

from cytolora.core.text import counted
from cytolora.errors import ConfigError

Reason = Literal["coverage", "doubt", "mistakes", "rare", "test", "second"]

PARTS = ("doubt", "diversity", "mistakes", "rare", "test")
"""Of a mixture. ``mistakes``, ``rare`` and ``test`` are shares of the queue; what is left of it is drawn by doubt and
diversity, weighed against each other by these two."""
_NUM_COVERED = 4000
"""Cells among which those of the first labels are chosen, at most."""
_NUM_DOUBTFUL = 400
"""Cells of highest doubt among which diverse ones are chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A cell of the queue, and why it is there."""

    cell: int
    reason: Reason
    why: str
    """One sentence for the reader."""


def checked_mixture(mixture: Mapping[str, float]) -> dict[str, float]:
    """Returns a mixture whose shares fit into the queue.

    Raises:
        ConfigError: If a part is unknown, outside [0, 1], or the shares leave nothing to train on.
    """
    unknown = sorted(set(mixture) - set(PARTS))
    if unknown:
        raise ConfigError(f"The mixture has no part {unknown[0]!r}; its parts are {', '.join(PARTS)}.")
    parts = {name: float(mixture.get(name, 0.0)) for name in PARTS}
    wrong = next((name for name, share in parts.items() if not 0 <= share <= 1), None)
    if wrong is not None:
        raise ConfigError(f"A part of the mixture is a share in [0, 1], got {parts[wrong]} for {wrong}.")
    if parts["mistakes"] + parts["rare"] + parts["test"] > 1:
        raise ConfigError("The shares mistakes, rare and test add up to more than the whole queue. Lower one of them.")
    return parts


def coverage_order(
    features: Float32[np.ndarray, "cells features"],
    allowed: Sequence[int] | Int64[np.ndarray, " allowed"],
    units: Int64[np.ndarray, " cells"],
    *,
    number: int,
    seed: int,
) -> list[int]:
    """Orders cells such that the first ones cover feature space: farthest first, one per group before a second one.

    Greedy k-centre (Sener & Savarese 2018, arXiv:1708.00489); it starts at the cell nearest to the mean.

    Args:
        features: Scaled to length 1.
        allowed: Cells to choose from; of more than 4,000 as many are drawn.
        units: Group of every cell, as a number.
        number: Of cells to return, at most.
    """
    pool = np.asarray(allowed, dtype=np.int64)
    if len(pool) > _NUM_COVERED:
        pool = np.sort(np.random.default_rng(seed).choice(pool, _NUM_COVERED, replace=False))
    if not len(pool):
        return []
    rows, unit = np.asarray(features[pool]), units[pool]
    first = int((rows @ rows.mean(axis=0)).argmax())
    nearest = np.full(len(pool), -np.inf, dtype=np.float32)
    times = np.zeros(int(unit.max()) + 1, dtype=np.int64)
    chosen: list[int] = []
    for place in range(min(number, len(pool))):
        if place:
            of_unit = times[unit].astype(np.float64)
            of_unit[chosen] = np.inf
            fewest = of_unit == of_unit.min()
            best = int(np.where(fewest, nearest, np.inf).argmin())
        else:
            best = first
        chosen.append(best)
        times[unit[best]] += 1
        nearest = np.maximum(nearest, rows @ rows[best])
        nearest[best] = np.inf
    return pool[chosen].tolist()


def seeded_order(allowed: Sequence[int], units: Sequence[str], *, seed: int) -> list[int]:
    """Orders cells by chance, one per group before a second one: while there are no features yet."""
    order = np.random.default_rng(seed).permutation(len(allowed))
    shuffled = [allowed[int(place)] for place in order]
    times: dict[str, int] = {}
    turn: dict[int, int] = {}
    for cell in shuffled:
        turn[cell] = times.get(units[cell], 0)
        times[units[cell]] = turn[cell] + 1
    return sorted(shuffled, key=turn.__getitem__)  # stable


def by_doubt(
    doubt: Float32[np.ndarray, " cells"],
    features: Float32[np.ndarray, "cells features"],
    allowed: Bool[np.ndarray, " cells"],
    units: Int64[np.ndarray, " cells"],
    *,
    number: int,
    diversity: float,
) -> list[int]:
    """Chooses doubtful cells that differ from each other, one per group while there are others.

    Greedy: the next one has the highest ``(1 - diversity) doubt + diversity d``, d being half of the squared distance
    to the nearest one that was chosen, among the 400 most doubtful.

    Args:
        doubt: In [0, 1]; NaN of cells that cannot be read.
        features: Scaled to length 1.
        diversity: In [0, 1]; 0 takes the most doubtful.
    """
    pool = np.flatnonzero(allowed & ~np.isnan(doubt))
    if len(pool) > _NUM_DOUBTFUL:
        top = np.argpartition(-doubt[pool], _NUM_DOUBTFUL)[:_NUM_DOUBTFUL]
        pool = np.sort(pool[top])
    rows, own = np.asarray(features[pool]), doubt[pool]
    distance, is_left = np.ones(len(pool), dtype=np.float32), np.ones(len(pool), dtype=bool)
    is_taken = np.zeros(int(units.max(initial=0)) + 1, dtype=bool)
    chosen: list[int] = []
    while len(chosen) < min(number, len(pool)):
        fresh = is_left & ~is_taken[units[pool]]
        among = fresh if fresh.any() else is_left
        worth = (1 - diversity) * own + diversity * distance
        best = int(np.where(among, worth, -np.inf).argmax())
        chosen.append(best)
        is_left[best], is_taken[units[pool[best]]] = False, True
        distance = np.minimum(distance, 1 - rows @ rows[best])
    return pool[chosen].tolist()


def rare_cells(
    predictions: Int64[np.ndarray, " cells"],
    probabilities: Float32[np.ndarray, "cells classes"],
    labelled: Int64[np.ndarray, " classes"],
    allowed: Bool[np.ndarray, " cells"],
    *,
    number: int,
) -> list[int]:
    """Chooses cells of the classes with the fewest labels that the classifier is surest of, classes in turn.

    Args:
        labelled: Training labels of each class.
    """
    by_class: list[Iterator[int]] = []
    for index in np.argsort(labelled, kind="stable"):
        of_class = np.flatnonzero(allowed & (predictions == index))
        best = of_class[np.argsort(-probabilities[of_class, index], kind="stable")[:number]]
        if len(best):
            by_class.append(iter(best.tolist()))
    fewest = by_class[: max(1, len(by_class) // 2)]
    chosen: list[int] = []
    while fewest and len(chosen) < number:
        for cells in list(fewest):
            cell = next(cells, None)
            if cell is None:
                fewest.remove(cells)
            elif len(chosen) < number:
                chosen.append(cell)
    return chosen


def mixed(
    parts: Mapping[Reason, Iterable[int]], shares: Mapping[Reason, float], number: int
) -> list[tuple[int, Reason]]:
    """Merges lists of cells so that each prefix holds them by their shares as nearly as it can; no cell comes twice.

    Where a list ends the others take its place.
    """
    queues: dict[Reason, Iterator[int]] = {
        reason: iter(cells) for reason, cells in parts.items() if shares.get(reason, 0) > 0
    }
    given: dict[Reason, int] = dict.fromkeys(queues, 0)
    chosen: list[tuple[int, Reason]] = []
    seen = set[int]()
    while queues and len(chosen) < number:
        place = len(chosen) + 1
        reason = max(queues, key=lambda one: (shares[one] * place - given[one], shares[one]))
        cell = next((one for one in queues[reason] if one not in seen), None)
        if cell is None:
            del queues[reason]
            continue
        given[reason] += 1
        seen.add(cell)
        chosen.append((cell, reason))
    return chosen


def sentence(reason: Reason, *, prediction: str = "", doubt: float = 0.0, label: str = "", in_class: int = 0) -> str:
    """Says why a cell is in the queue."""
    if reason == "doubt":
        return f"The classifier is in doubt ({100 * doubt:.0f} of 100) and the cell differs from others in the queue."
    if reason == "mistakes":
        return f"It is labelled {label}, and its neighbours in other groups look like {prediction}: a mistake?"
    if reason == "rare":
        return f"It looks like {prediction}, which has {counted(in_class, 'label')} so far."
    sentences: dict[Reason, str] = {
        "coverage": "It differs from the cells that are labelled: the first ones cover all that there is.",
        "test": "Drawn by chance for the test: the prediction is hidden, and no training sees it.",
        "second": "Another reader labelled it: a second reading, blind.",
    }
    return sentences[reason]
