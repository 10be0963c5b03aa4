"""Coverage of the interval over repeated divisions (Nadeau & Bengio 2003), by simulation with drawn features.

Every trial draws a new dataset: groups with an effect of their own, cells around class means. It is divided J times by
group into 60 / 20 / 20 %, a head is fitted on train and scored on test. The truth is the head's accuracy on unseen
groups, averaged over new datasets. "Naive" is Student's interval as if the J divisions shared no image.

    python benchmarks/divisions.py --trials 400
"""

import argparse
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from scipy.stats import t as student_t

from cytolora.config.run import HeadSpec
from cytolora.metrics.divisions import over_divisions
from cytolora.training.heads.fitted import HEADS
from cytolora.training.heads.labelled import Labelled

_CLASSES, _FEATURES, _CELLS = 3, 16, 8
"""Classes; features; cells of a group."""
_TRAIN, _TEST = 0.6, 0.2


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table."""

    head: str
    groups: int
    divisions: int
    effect: float
    """Standard deviation of a group's shift, in units of the cells' own."""
    shots: int | None = None


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """Shares of the intervals that hold the truth, and of a further division of the same data."""

    corrected: float
    naive: float
    next_division: float
    truth: float
    width: float


def drawn(rng: np.random.Generator, groups: int, effect: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws features, labels and groups around fixed class means."""
    means = np.random.default_rng(5).normal(size=(_CLASSES, _FEATURES)) * 0.55
    group = np.repeat(np.arange(groups), _CELLS)
    labels = rng.integers(0, _CLASSES, size=group.size)
    shifts = rng.normal(scale=effect, size=(groups, _FEATURES))
    return means[labels] + shifts[group] + rng.normal(size=(group.size, _FEATURES)), labels, group


def accuracy(case: Case, train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]) -> float:
    """Fits the head and scores it."""
    known = Labelled(
        features=torch.from_numpy(train[0]).float(), labels=torch.from_numpy(train[1]), num_classes=_CLASSES
    )
    head = HEADS.get(case.head)
    state = head.fit(known, known, HeadSpec(), 0)
    found = head.probabilities(state, known, torch.from_numpy(test[0]).float()).argmax(dim=1).numpy()
    return float((found == test[1]).mean())


def on_division(
    case: Case, rng: np.random.Generator, cells: tuple[np.ndarray, np.ndarray, np.ndarray], unseen: bool = False
) -> float:
    """Divides by group and returns the accuracy on test, or on a large unseen set."""
    features, labels, group = cells
    order = rng.permutation(case.groups)
    train = np.isin(group, order[: round(_TRAIN * case.groups)])
    test = np.isin(group, order[round((1 - _TEST) * case.groups) :])
    chosen = np.flatnonzero(train)
    if case.shots is not None:
        chosen = np.concatenate([rng.permutation(chosen[labels[chosen] == c])[: case.shots] for c in range(_CLASSES)])
    held_out = drawn(rng, 250, case.effect)[:2] if unseen else (features[test], labels[test])
    return accuracy(case, (features[chosen], labels[chosen]), held_out)


def coverage(case: Case, trials: int, seed: int = 0) -> Coverage:
    """Simulates one case."""
    rng = np.random.default_rng(seed)
    truth = float(
        np.mean([on_division(case, rng, drawn(rng, case.groups, case.effect), unseen=True) for _ in range(2 * trials)])
    )
    corrected, naive, further, widths = [], [], [], []
    for _ in range(trials):
        cells = drawn(rng, case.groups, case.effect)
        values = [on_division(case, rng, cells) for _ in range(case.divisions)]
        found = over_divisions([[value] for value in values], test_over_train=_TEST / _TRAIN)
        assert found.low is not None
        assert found.high is not None
        corrected.append(found.low <= truth <= found.high)
        further.append(found.low <= on_division(case, rng, cells) <= found.high)
        reach = student_t.ppf(0.975, case.divisions - 1) * found.std_divisions / sqrt(case.divisions)
        naive.append(abs(found.mean - truth) <= reach)
        widths.append(found.high - found.low)
    return Coverage(
        corrected=float(np.mean(corrected)),
        naive=float(np.mean(naive)),
        next_division=float(np.mean(further)),
        truth=truth,
        width=float(np.mean(widths)),
    )


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--groups", type=int, nargs="+", default=[30, 100])
    trials = parser.parse_args().trials
    groups = parser.parse_args().groups
    torch.set_num_threads(1)
    print(
        "| head | groups | group effect | images | J | accuracy | corrected | naive | next division | width, points |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for shots in (None, 4):
        for head in ("nearest-mean", "gda"):
            for number in groups:
                for effect in (0.0, 0.5):
                    for divisions in (5, 10):
                        case = Case(head=head, groups=number, divisions=divisions, effect=effect, shots=shots)
                        found = coverage(case, trials)
                        amount = "all" if shots is None else f"{shots} shots"
                        shares = (found.truth, found.corrected, found.naive, found.next_division, found.width)
                        numbers = " | ".join(f"{100 * share:.1f}" for share in shares)
                        print(f"| {head} | {number} | {effect} | {amount} | {divisions} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
