"""How often nominal 95 % intervals hold the truth, where cells of one group resemble each other.

Each group has a chance of its own to be read rightly, drawn from a beta (or logit-normal) distribution; its cells are
then right or wrong by that chance. The truth is known, so that intervals which hold it can be counted: those of the
whole procedure, the choice between Korn-Graubard and credible included, and beside them the bootstrap percentiles that
were printed before, the images taken for independent, and balanced accuracy and macro F1 of four classes.

    python benchmarks/coverage.py --trials 1500
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing import Pool
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cytolora.metrics import bootstrap
from cytolora.metrics.counts import SeedCounts, accuracy, count_by_unit
from cytolora.metrics.intervals import Interval, intervals_of

ACCURACIES = (0.6, 0.8, 0.85, 0.9, 0.97)
GROUPS = (10, 20, 30, 50, 100)
CORRELATIONS = (0.0, 0.1, 0.3)
"""Of two cells of one group, in being read rightly: none, a moderate and a high one."""
MEAN_CELLS = 12
"""Per group."""
PRIORS = (0.5, 0.3, 0.15, 0.05)
"""Frequencies of four classes, equally hard; a wrong cell is said to be of any other class."""
ENOUGH_GROUPS, LOWEST, HIGHEST = 30, 0.93, 0.97
"""Of a share's intervals, 93 to 97 % shall hold the truth from 30 groups on; what does not is named."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is simulated."""

    accuracy: float
    """The true one; of balanced accuracy too."""
    correlation: float
    num_groups: int
    sizes: Literal["equal", "geometric"]
    """Geometric: many groups are small and a few large."""
    chances: Literal["beta", "logit-normal"] = "beta"
    num_seeds: int = 1
    """Classifiers that share how hard groups are; the interval is that of their mean."""
    classes: Sequence[float] = (0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of the trials whose interval held the truth."""

    setting: Setting
    wrong: float
    """Groups with a misread cell, the median of the trials."""
    credible: float
    """Share of trials in which the interval of the accuracy was a credible one."""
    width: float
    """Of the accuracy's interval, mean."""
    held: dict[str, float]
    """By metric; ``bootstrap`` and ``independent`` are the accuracy's in other ways."""


def simulate(setting: Setting, *, trials: int, seed: int = 0) -> Coverage:
    """Counts intervals that hold the truth, over test sets drawn anew."""
    rng = np.random.default_rng([seed, setting.num_groups, round(1000 * setting.accuracy)])
    truth = _truth(setting)
    rows, found = [], []
    for _ in range(trials):
        counts = draw_test_set(rng, setting)
        intervals = intervals_of(counts)
        held = {name: _holds(one, truth[name]) for name, one in intervals.items()}
        rows.append({**held, **_other_ways(counts, setting.accuracy)})
        found.append(intervals["accuracy"])
    return Coverage(
        setting=setting,
        wrong=float(np.median([one.num_wrong for one in found])),
        credible=float(np.mean([one.kind == "credible" for one in found])),
        width=float(np.mean([one.high - one.low for one in found])),
        held={name: float(np.mean([row[name] for row in rows])) for name in rows[0]},
    )


def _truth(setting: Setting) -> dict[str, float]:
    priors, share = np.array(setting.classes), setting.accuracy
    said = share * priors + (1 - share) * (1 - priors) / (len(priors) - 1)  # how often each class is predicted
    f1 = float(np.mean(2 * share * priors / (priors + said)))
    return {"accuracy": share, "balanced_accuracy": share, "macro_f1": f1}


def draw_test_set(rng: np.random.Generator, setting: Setting) -> SeedCounts:
    """Draws a test set with the predictions of all seeds."""
    number, num_classes = setting.num_groups, len(setting.classes)
    sizes = rng.geometric(1 / MEAN_CELLS, number) if setting.sizes == "geometric" else np.full(number, MEAN_CELLS)
    groups = np.repeat(np.arange(number), sizes)
    labels = rng.choice(num_classes, size=len(groups), p=np.array(setting.classes))
    chances = _chances(rng, setting)[groups]
    others = [(labels + rng.integers(1, num_classes, len(groups))) % num_classes for _ in range(setting.num_seeds)]
    said = [np.where(rng.random(len(groups)) < chances, labels, other) for other in others]
    return count_by_unit(
        np.tile(labels, setting.num_seeds),
        np.concatenate(said),
        images=_NAMES[: len(groups)] * setting.num_seeds,
        groups=[_NAMES[group] for group in groups] * setting.num_seeds,
        num_classes=num_classes,
    )


_NAMES = [f"{number:06}" for number in range(20_000)]


def _chances(rng: np.random.Generator, setting: Setting) -> NDArray[np.float64]:
    """Draws how likely a cell of each group is read rightly."""
    share, number = setting.accuracy, setting.num_groups
    if setting.correlation == 0:
        return np.full(number, share)
    if setting.chances == "beta":
        strength = 1 / setting.correlation - 1
        return rng.beta(share * strength, (1 - share) * strength, size=number)
    centre, deviation = _logit_normal(share, setting.correlation)
    return 1 / (1 + np.exp(-rng.normal(centre, deviation, size=number)))


def _logit_normal(share: float, correlation: float) -> tuple[float, float]:
    """Finds centre and standard deviation of logits that have this mean and correlation."""
    from scipy.optimize import fsolve

    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()

    def off(parameters: NDArray[np.float64]) -> list[float]:
        values = 1 / (1 + np.exp(-(parameters[0] + np.exp(parameters[1]) * nodes)))
        mean = float(weights @ values)
        return [mean - share, float(weights @ (values - mean) ** 2) / (share * (1 - share)) - correlation]

    solved: Any = fsolve(off, [1.5 * np.log(share / (1 - share)), 0.5])
    return float(solved[0]), float(np.exp(solved[1]))


def _other_ways(counts: SeedCounts, truth: float) -> dict[str, bool]:
    """The bootstrap percentiles printed before, and the normal interval of independent images."""
    values = np.mean([accuracy(bootstrap.resample(of_seed, seed=0)) for of_seed in counts.of_seeds], axis=0)
    kish = counts.effective_units
    before = bootstrap.percentile(values, unit="group", num_units=counts.num_units, effective_units=kish)
    centre, half = counts.observed("accuracy"), 1.96 * np.sqrt(truth * (1 - truth) / counts.num_images)
    return {"bootstrap": _holds(before, truth), "independent": bool(centre - half <= truth <= centre + half)}


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def shares(accuracies: Sequence[float], groups: Sequence[int]) -> Iterator[Setting]:
    """Lists the settings of a share."""
    for sizes, correlation, share, number in product(("geometric", "equal"), CORRELATIONS, accuracies, groups):
        yield Setting(accuracy=share, correlation=correlation, num_groups=number, sizes=sizes)


def further(groups: Sequence[int]) -> Iterator[Setting]:
    """Lists settings of another distribution, of means over seeds, and of four classes."""
    for correlation, share, number in product(CORRELATIONS[1:], (0.85, 0.97), groups):
        plain = Setting(accuracy=share, correlation=correlation, num_groups=number, sizes="geometric")
        yield replace(plain, chances="logit-normal")
        yield replace(plain, num_seeds=3)
        yield replace(plain, classes=PRIORS)


def reason(found: Coverage) -> str | None:
    """Says why a share's interval holds the truth less or more often than it should; None where it does not."""
    one, share = found.setting, found.held["accuracy"]
    if one.num_groups < ENOUGH_GROUPS or LOWEST <= share <= HIGHEST:
        return None
    if share < LOWEST:
        return "too narrow"
    if one.correlation == 0:
        return "wide: images are independent, n_eff is at most n, and few groups leave the variance uncertain"
    if one.num_seeds > 1:
        return "wide: n_eff is at most the number of images, though several seeds average chance out"
    return "wide: the posterior takes over just where mistakes happen to be few, exact limits where they are not"


COLUMNS = ("accuracy", "bootstrap", "independent", "balanced_accuracy", "macro_f1")


def header() -> str:
    """Opens the Markdown table."""
    head = ["sizes", "correlation", "true accuracy", "groups", "with a mistake", "credible", "width", "accuracy"]
    head += ["accuracy before (bootstrap)", "cells as independent", "balanced accuracy", "macro F1", "outside 93-97 %"]
    return "\n".join(["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 2) + " --- |"])


def line(found: Coverage) -> str:
    """Prints one setting."""
    one = found.setting
    label = ", ".join(
        [one.sizes]
        + [one.chances] * (one.chances != "beta")
        + [f"{one.num_seeds} seeds"] * (one.num_seeds > 1)
        + [f"{len(one.classes)} classes"] * (len(one.classes) > 2)
    )
    cells: list[Any] = [label, one.correlation, one.accuracy, one.num_groups, f"{found.wrong:g}"]
    cells += [f"{100 * found.credible:.0f} %", f"{100 * found.width:.1f}"]
    cells += [f"{100 * found.held[name]:.1f}" for name in COLUMNS]
    return "| " + " | ".join(map(str, [*cells, reason(found) or ""])) + " |"


def _simulate(job: tuple[Setting, int]) -> Coverage:
    return simulate(job[0], trials=job[1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--groups", type=int, nargs="+", default=GROUPS)
    parser.add_argument("--accuracies", type=float, nargs="+", default=ACCURACIES)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = perf_counter()
    settings = [*shares(options.accuracies, options.groups), *further(options.groups)]
    print(header())
    rows = []
    with Pool(options.workers) as pool:
        for row in pool.imap(_simulate, [(setting, options.trials) for setting in settings]):
            print(line(row), flush=True)
            rows.append(row)
    missed = [row for row in rows if reason(row)]
    many = [row for row in rows if row.setting.num_groups >= ENOUGH_GROUPS]
    low, high = (pick(row.held["accuracy"] for row in many) for pick in (min, max))
    print(f"\nAccuracy from {ENOUGH_GROUPS} groups on: {100 * low:.1f} to {100 * high:.1f} %, ", end="")
    print(f"{len(missed)} of {len(many)} settings outside 93-97 %, of them below: ", end="")
    print(sum(row.held["accuracy"] < LOWEST for row in missed))
    print(f"{options.trials} test sets each; {perf_counter() - start:.0f} s.")
