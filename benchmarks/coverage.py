"""How often a nominal 95 % interval holds the truth, where cells of one group resemble each other.

Each group has a chance of its own to be read rightly, drawn from a beta distribution; its cells are then right or wrong
by that chance (beta-binomial). The truth is known, so that intervals which hold it can be counted.

    python benchmarks/coverage.py --trials 2000
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from cytolora.metrics import bootstrap as stats

GROUPS = (10, 20, 50, 100)
ACCURACIES = (0.85, 0.97)
"""The second is that of a dataset on which few cells are misread: the fewer mistakes, the more skewed the draws."""
CORRELATIONS = (0.1, 0.3)
"""Of two cells of one group, in being read rightly: a moderate and a high one."""
MEAN_CELLS = 12
"""Per group; sizes are geometric, so that many are small and a few large."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of the trials whose interval held the truth."""

    num_groups: int
    correlation: float
    accuracy: float
    """The true one."""
    wrong: float
    """Groups with a misread cell, the median of the trials."""
    ours: float
    """Groups drawn, interval widened for few of them: what reports print."""
    plain: float
    """Groups drawn, the middle 95 % of the replicates as they are."""
    ungrouped: float
    """Cells drawn as if they knew nothing of each other."""
    balanced: float
    """As ``ours``, of the balanced accuracy."""


def simulate(
    num_groups: int,
    correlation: float,
    *,
    trials: int,
    accuracy: float = ACCURACIES[0],
    seed: int = 0,
    replicates: int = 1000,
) -> Coverage:
    """Counts intervals that hold the true accuracy, over test sets drawn anew."""
    rng = np.random.default_rng([seed, num_groups])
    held: list[list[bool]] = []
    wrong: list[int] = []
    for trial in range(trials):
        labels, predicted, groups = draw_test_set(rng, num_groups, correlation, accuracy)
        wrong.append(len(np.unique(groups[labels != predicted])))
        counts = stats.unit_counts(labels, predicted, groups, num_groups, 2)
        resampled = stats.resample(counts, seed=trial, replicates=replicates)
        values, balanced = stats.accuracy(resampled), stats.balanced_accuracy(resampled)
        effective = stats.effective_number(np.bincount(groups))
        ours = stats.percentile(values, unit="group", num_units=num_groups, effective_units=effective)
        both = stats.percentile(balanced, unit="group", num_units=num_groups, effective_units=effective)
        low, high = np.quantile(values, [0.025, 0.975])
        half = 1.96 * np.sqrt(accuracy * (1 - accuracy) / len(labels))  # what drawing single cells comes to
        centre = float((labels == predicted).mean())
        held.append(
            [
                ours.low <= accuracy <= ours.high,
                low <= accuracy <= high,
                centre - half <= accuracy <= centre + half,
                both.low <= accuracy <= both.high,
            ]
        )
    shares = np.mean(held, axis=0)
    return Coverage(
        num_groups=num_groups,
        correlation=correlation,
        accuracy=accuracy,
        wrong=float(np.median(wrong)),
        ours=float(shares[0]),
        plain=float(shares[1]),
        ungrouped=float(shares[2]),
        balanced=float(shares[3]),
    )


def draw_test_set(
    rng: np.random.Generator, num_groups: int, correlation: float, accuracy: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draws labels, predictions and groups; each group holds cells of both classes, equally hard."""
    strength = 1 / correlation - 1
    chances = rng.beta(accuracy * strength, (1 - accuracy) * strength, size=num_groups)
    sizes = rng.geometric(1 / MEAN_CELLS, size=num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    labels = rng.integers(0, 2, size=len(groups))
    right = rng.random(len(groups)) < chances[groups]
    return labels, np.where(right, labels, 1 - labels), groups


def table(found: Sequence[Coverage]) -> str:
    """Prints Markdown."""
    lines = [
        "| true accuracy | correlation | groups | of them with a mistake | accuracy | balanced accuracy | without "
        "widening | as if cells were independent |"
    ]
    lines.append("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for one in found:
        shares = (one.ours, one.balanced, one.plain, one.ungrouped)
        known = f"| {one.accuracy} | {one.correlation} | {one.num_groups} | {one.wrong:g} | "
        lines.append(known + " | ".join(f"{100 * share:.1f} %" for share in shares) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--accuracies", type=float, nargs="+", default=ACCURACIES)
    options = parser.parse_args()
    start = perf_counter()
    rows = [
        simulate(number, correlation, trials=options.trials, accuracy=accuracy)
        for accuracy in options.accuracies
        for correlation in CORRELATIONS
        for number in options.groups
    ]
    print(table(rows))
    print(f"\n{options.trials} test sets each; {perf_counter() - start:.0f} s.")
