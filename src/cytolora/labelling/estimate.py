"""Estimates from test labels: accuracy and sensitivities with intervals over groups, and a hint when to stop.

Test cells are drawn without replacement, each with a recorded probability. LURE weighs the m-th of M draws from N by
``v = 1 + (N - M) / (N - m) (1 / ((N - m + 1) q) - 1)`` (Farquhar et al. 2021, arXiv:2101.11665); of draws by chance
alone, q = 1 / (N - m + 1), every weight is 1.

The hint is an interim analysis. A reader who stops when the interval looks good would see one that holds the truth less
often than it says. So it is looked at after 50, 100, 200, 400, ... test labels and at no other moment, the j-th time
at level 1 - 0.05 / (j (j + 1)): what may go wrong at all looks together is at most 5 % (a union bound), whichever
classifier is there at each, for no test label trains any.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float64

from cytolora.metrics.beta_binomial import MAX_CORRELATION, beta_binomial_interval
from cytolora.metrics.counts import effective_number
from cytolora.metrics.intervals import MIN_GROUPS, MIN_WRONG
from cytolora.metrics.korn_graubard import jackknife_variance, korn_graubard

LEVEL = 0.95
MAX_WIDTH = 0.15
"""Of the interval at a look, from which the hint may say stop."""
MAX_CHANGED = 0.05
"""Share of the cells whose class half of the training labels would change, from which the hint may say stop."""
_FIRST_LOOK = 50

Triple = tuple[float, float, float]
"""Value and both ends of its interval."""


def lure_weights(drawn_with: Sequence[float], pool: int) -> Float64[np.ndarray, " draws"]:
    """Computes the weight of every draw.

    Args:
        drawn_with: Probability of the drawn cell among those that were left, in the order of drawing.
        pool: Cells before the first draw.
    """
    number = len(drawn_with)
    step = np.arange(1, number + 1)
    left = pool - step
    factor = np.divide(pool - number, left, out=np.zeros(number), where=left > 0)
    return 1 + factor * (1 / ((left + 1) * np.asarray(drawn_with, dtype=np.float64)) - 1)


def uniform_draws(number: int, pool: int) -> Float64[np.ndarray, " draws"]:
    """Returns the probability of each draw where every cell that is left is as likely."""
    return 1 / (pool - np.arange(number, dtype=np.float64))


def share_interval(
    hits: Sequence[bool] | np.ndarray,
    groups: Sequence[str] | np.ndarray,
    weights: Float64[np.ndarray, " draws"] | None = None,
    *,
    level: float = LEVEL,
) -> Triple:
    """Estimates a weighted share (Hajek: the sum of weighted hits by that of weights) with an interval over groups.

    As ``metrics.intervals`` does: Korn-Graubard limits from the jackknife variance over groups, or the beta-binomial
    posterior where few groups hold a miss, or few a hit, and all weights are equal.

    Args:
        hits: At least one.
        level: Nominal coverage, in (0, 1).
    """
    right = np.asarray(hits, dtype=np.float64)
    weight = np.ones(len(right)) if weights is None else weights
    _, unit = np.unique(np.asarray(groups), return_inverse=True)
    of_hits, of_all = (np.bincount(unit, weight * one) for one in (right, np.ones(len(right))))
    sizes = np.bincount(unit).astype(np.float64)
    value = float(of_hits.sum() / of_all.sum())
    others = of_all.sum() - of_all
    variance = 0.0
    if len(sizes) > 1:
        variance = jackknife_variance(value, (of_hits.sum() - of_hits) / others)
    with_miss, with_hit = int((of_hits < of_all).sum()), int((of_hits > 0).sum())
    is_equal = bool(np.allclose(weight, weight[0]))
    if is_equal and 0 < value < 1 and min(with_miss, with_hit) < MIN_WRONG:
        mean_size = len(right) / effective_number(sizes)
        effect = len(right) * variance / (value * (1 - value))
        correlation = (effect - 1) / (mean_size - 1) if mean_size > 1 else 0.0
        if correlation <= MAX_CORRELATION:
            limits = beta_binomial_interval(of_hits / weight[0], sizes, level)
            if limits.low <= value <= limits.high:
                return value, limits.low, limits.high
    limits = korn_graubard(
        value, variance, num_images=len(right), effective_units=effective_number(of_all), level=level
    )
    return value, limits.low, limits.high


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one interim analysis."""

    number: int
    """From 1."""
    test_labels: int
    level: float
    """Of its interval."""
    accuracy: Triple
    changed: float
    """Share of all cells to which a classifier of half of the training labels gives another class."""
    classifier: int
    """Number of the refit that was looked at."""

    @property
    def says_stop(self) -> bool:
        """Whether more labels would change little: the accuracy is known well, and the predictions hold still."""
        return self.accuracy[2] - self.accuracy[1] <= MAX_WIDTH and self.changed <= MAX_CHANGED

    def plain(self) -> dict[str, object]:
        """Returns its fields, for the journal."""
        return asdict(self)


def look_at(number: int) -> int:
    """Returns the number of test labels at the look of that number: 50, 100, 200, 400, ..."""
    return _FIRST_LOOK * 2 ** (number - 1)


def look_level(number: int) -> float:
    """Returns the level of the interval at a look: the errors of all looks together are at most 5 %."""
    return 1 - (1 - LEVEL) / (number * (number + 1))


def hint(looks: Sequence[Look], test_labels: int) -> dict[str, object]:
    """Words the last look.

    Args:
        test_labels: That there are now.
    """
    if not looks:
        left = max(look_at(1) - test_labels, 1)
        return {"stop": False, "sentence": f"Too few test labels to say when to stop: {left} more until the first look."}
    last = looks[-1]
    value, low, high = (f"{100 * one:.0f}" for one in last.accuracy)
    seen = (
        f"After {last.test_labels} test labels accuracy was {value} % ({low} to {high} %, an interval that stays valid "
        f"if you stop because of it), and half of the training labels gave another class to {100 * last.changed:.0f} % "
        "of the cells."
    )
    if last.says_stop:
        return {"stop": True, "sentence": f"{seen} More labels will change little: you may stop."}
    return {"stop": False, "sentence": f"{seen} Go on; the next look is after {look_at(last.number + 1)} test labels."}


def marks(*, groups_known: bool, num_groups: int, unsure: int, not_cells: int) -> list[str]:
    """Says what a reader must know of the estimate."""
    found = []
    if not groups_known:
        found.append("Groups are not known: cells of one patient may stand on both sides, so results may be too good.")
    if 0 < num_groups < MIN_GROUPS:
        found.append(f"The interval rests on {num_groups} groups; under about {MIN_GROUPS} it may be too narrow.")
    if unsure:
        found.append(f"{unsure} test cells were marked unsure and count neither as right nor as wrong.")
    if not_cells:
        found.append(f"{not_cells} drawn test images are no cells and do not count.")
    return found
