"""Estimates from test labels: accuracy and sensitivities with intervals over groups, and a hint when to stop.

Test cells are drawn without replacement, the m-th of N by chance alone among those left: with probability
q = 1 / (N - m + 1). The weight that LURE gives the m-th of M draws,
``1 + (N - M) / (N - m) (1 / ((N - m + 1) q) - 1)`` (Farquhar et al. 2021, arXiv:2101.11665), and that of Hajek are then
equal for all draws: the mean over the draws is unbiased. A sensitivity is the ratio of two such means.

The hint is an interim analysis. A reader who stops when accuracy looks good would see an interval that holds the truth
less often than it says. So the hint looks after 50, 100, 200, 400, ... test labels and at no other moment, and only at
how wide the 95 % interval is (Chow & Robbins 1965, Annals of Mathematical Statistics 36(2): intervals of a fixed width
keep their level as the width gets small), and at how still the predictions hold, which no test label decides. How often
the interval holds the truth at the moment of stopping is computed and simulated in docs/statistics.md.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cytolora.metrics.intervals import MIN_GROUPS, share_interval

MAX_WIDTH = 0.15
"""Of the interval at a look, from which the hint may say stop."""
MAX_CHANGED = 0.05
"""Share of the cells whose class half of the training labels would change, from which the hint may say stop."""
_FIRST_LOOK = 50

Triple = tuple[float, float, float]
"""Value and both ends of its interval."""


def share_of(hits: Sequence[bool], cells: Sequence[str], groups: Sequence[str]) -> Triple:
    """Estimates a share, with its 95 % interval over groups (``metrics.intervals.share_interval``).

    It is mostly narrower than the one of a report, which holds the truth more often than it says where few groups
    hardly differ, and so asks for more test labels than 95 % needs.

    Args:
        hits: Of the drawn cells, at least one.
        cells: Names of the cells.
        groups: Of each cell; empty where it is unknown.
    """
    known = [group or None for group in groups]
    interval = share_interval(np.asarray(hits, dtype=bool), images=cells, groups=known, is_conservative=False)
    return float(np.mean(hits)), interval.low, interval.high


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen at one interim analysis."""

    number: int
    """From 1."""
    test_labels: int
    level: float
    """Of its interval: that of every look now; stored looks of earlier versions have higher ones."""
    accuracy: Triple
    changed: float
    """Share of all cells to which a classifier of half of the training labels gives another class."""
    classifier: int
    """Number of the refit that was looked at."""

    @property
    def says_stop(self) -> bool:
        """Whether more labels would change little: the accuracy is known well, and the predictions hold still."""
        return self.accuracy[2] - self.accuracy[1] <= MAX_WIDTH and self.changed <= MAX_CHANGED

    def plain(self) -> dict[str, Any]:
        """Returns its fields, for the journal."""
        return asdict(self)


def look_at(number: int) -> int:
    """Returns the number of test labels at the look of that number: 50, 100, 200, 400, ..."""
    return _FIRST_LOOK * 2 ** (number - 1)


def hint(looks: Sequence[Look], test_labels: int) -> dict[str, Any]:
    """Words the last look.

    Args:
        test_labels: That there are now.
    """
    if not looks:
        left = max(look_at(1) - test_labels, 1)
        return {
            "stop": False,
            "sentence": f"Too few test labels to say when to stop: {left} more until the first look.",
        }
    last = looks[-1]
    value, low, high = (f"{100 * one:.0f}" for one in last.accuracy)
    seen = (
        f"After {last.test_labels} test labels accuracy was {value} % "
        f"({100 * last.level:.4g} % interval {low} to {high} %), and half of the training labels gave another class to "
        f"{100 * last.changed:.0f} % of the cells."
    )
    if last.says_stop:
        return {"stop": True, "sentence": f"{seen} More labels will change little: you may stop."}
    return {"stop": False, "sentence": f"{seen} Go on; the next look is after {look_at(last.number + 1)} test labels."}


def marks(*, groups_known: bool, num_groups: int, unsure: int, not_cells: int, disputed: int) -> list[str]:
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
    if disputed:
        found.append(
            f"On {disputed} drawn test cells readers differ; adjudicate them, for they do not count until then."
        )
    return found
