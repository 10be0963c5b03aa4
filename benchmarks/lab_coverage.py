"""How often operating points and label forecasts keep what they say, in simulation.

    python benchmarks/lab_coverage.py --trials 150

Operating points: groups of geometric sizes, each easier or harder by a draw of its own, with and without large groups
being the harder ones; the sensitivity that a threshold reaches on new groups, and that of the quantile over images.
Forecasts: learning curves of four forms, measured on groups that are easier or harder; how many forecasts are withheld,
and how many of the others hold the true number of labels.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import floor
from multiprocessing import Pool
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.operating_point import choose
from cytolora.classifier.decision.rules import OperatingPoint
from cytolora.classifier.learning_curve.curve import Curve, Draw
from cytolora.classifier.learning_curve.forecast import Forecast, forecast
from cytolora.metrics.units import unit_names

ASKED = 0.95
SHOTS = (1, 2, 4, 8, 16, 32)
REACHES = (1.7, 2.4, 4.0, 7.0)
"""Target: what the true curve gives at so many times the most labels measured."""
LOWEST = 0.9
"""Of the forecasts given for one form of curve, at least so many shall hold the true number."""
MEAN_CELLS, CELLS, NUM_DRAWS = 8, 12, 5
"""Positive cells of a group; cells of a tested group; seeds of a learning curve."""

Accuracy = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def power_law(asymptote: float, scale: float, exponent: float) -> Accuracy:
    return lambda labels: asymptote - scale * labels**-exponent


def hyperbola(half: float) -> Accuracy:
    """From 0.25 to 0.9, half of the way at ``half`` labels."""
    return lambda labels: 0.9 - 0.65 * half / (labels + half)


def plateau(start: float, slope: float, end: float) -> Accuracy:
    """Rises by ``slope`` with every doubling, and no more from ``end`` labels on."""
    return lambda labels: start + slope * np.log2(np.minimum(labels, end))


def sigmoid(middle: float, width: float) -> Accuracy:
    """From 0.25 to 0.9, sigmoid in the logarithm to base 2, steepest at 2 ** ``middle`` labels."""
    return lambda labels: 0.25 + 0.65 / (1 + np.exp((middle - np.log2(labels)) / width))


CURVES: dict[str, tuple[Accuracy, ...]] = {
    "power law": (power_law(0.9, 0.6, 0.5), power_law(0.95, 0.7, 0.25), power_law(0.85, 0.5, 0.8)),
    "hyperbola": (hyperbola(3), hyperbola(8), hyperbola(20)),
    "plateau": (plateau(0.4, 0.07, 64), plateau(0.3, 0.09, 64), plateau(0.45, 0.05, 128), plateau(0.4, 0.07, 40)),
    "sigmoid": (sigmoid(4, 1), sigmoid(4, 1.5), sigmoid(3, 1), sigmoid(2, 1.5), sigmoid(4, 2.5), sigmoid(5, 2)),
}


@dataclass(frozen=True, kw_only=True)
class Reached:
    """Sensitivity on new groups, of each calibration."""

    by_group: NDArray[np.float64]
    by_image: NDArray[np.float64]
    before: NDArray[np.float64]
    """By group, of the quantile over images."""


def calibrations(num_groups: int, *, size_matters: bool, trials: int, seed: int) -> Reached:
    """Sets operating points on drawn groups, and measures them on 5,000 new ones."""
    random = np.random.default_rng(seed)
    new, groups = _positives(5000, random, size_matters)
    sizes, rows = np.bincount(groups), []
    for _ in range(trials):
        scores, names = _positives(num_groups, random, size_matters)
        thresholds = _chosen(scores, names), _over_images(scores)
        hits = [new >= threshold for threshold in thresholds]
        over_groups = [(np.bincount(groups, weights=hit) / sizes).mean() for hit in hits]
        rows.append((over_groups[0], hits[0].mean(), over_groups[1]))
    by_group, by_image, before = np.array(rows).T
    return Reached(by_group=by_group, by_image=by_image, before=before)


def _positives(
    num_groups: int, random: np.random.Generator, size_matters: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities of positive images, and the group of each."""
    sizes = random.geometric(1 / MEAN_CELLS, num_groups)
    ease = random.normal(2 - 0.1 * sizes * size_matters, 1, num_groups)
    groups = np.repeat(np.arange(num_groups), sizes)
    return 1 / (1 + np.exp(-ease[groups] - random.normal(0, 1, len(groups)))), groups


def _chosen(scores: NDArray[np.float64], groups: NDArray[np.int64]) -> float:
    probability = np.append(scores, 1e-6)
    point = choose(
        np.stack([1 - probability, probability], axis=1),
        np.array([1] * len(scores) + [0]),
        classes=("negative", "positive"),
        positive=("positive",),
        asked=ASKED,
        paths=[str(place) for place in range(len(probability))],
        groups=[*map(str, groups), "negative"],
        is_lower_allowed=True,
    )
    assert isinstance(point, OperatingPoint)
    return point.threshold


def _over_images(scores: NDArray[np.float64]) -> float:
    """The rule of earlier bundles, for comparison."""
    return float(np.sort(scores)[max(0, floor((1 - ASKED) * (len(scores) + 1) + 1e-9) - 1)])


@dataclass(frozen=True, kw_only=True)
class Forecasts:
    """Forecasts of one curve for one target."""

    is_given: NDArray[np.bool_]
    """Whether a number was given: neither withheld, nor far, nor out of reach."""
    is_withheld: NDArray[np.bool_]
    holds: NDArray[np.bool_]
    """Whether the interval holds the true number."""
    intervals: NDArray[np.float64]
    """[trials, 2]"""

    @property
    def coverage(self) -> float:
        """Of what is not withheld, with a number or without."""
        return float(self.holds[~self.is_withheld].mean()) if not self.is_withheld.all() else float("nan")

    @property
    def median_interval(self) -> str:
        """Median ends of the intervals that are not withheld."""
        if self.is_withheld.all():
            return "-"
        low, high = np.quantile(self.intervals[~self.is_withheld], 0.5, axis=0, method="inverted_cdf")
        return f"{low:.0f} to {high:.0f}"


def forecasts(true: Accuracy, num_groups: int, *, trials: int, seed: int) -> dict[float, Forecasts]:
    """Measures one curve many times, and forecasts every target from each; by reach."""
    rows: dict[float, list[tuple[bool, bool, bool, float, float]]] = {reach: [] for reach in REACHES}
    measured = true(np.array(SHOTS, dtype=np.float64))
    for trial in range(trials):
        first = forecast(drawn_curve(measured, num_groups, seed=seed + trial), 0.5)
        for reach in REACHES:
            labels, target = needed(true, SHOTS[-1] * reach)
            found = replace(first, target=target)
            rows[reach].append((*_verdict(found), found.interval[0] <= labels <= found.interval[1], *found.interval))
    return {reach: _gathered(each) for reach, each in rows.items()}


def _verdict(found: Forecast) -> tuple[bool, bool]:
    return found.verdict in ("reached", "within reach"), found.verdict == "withheld"


def _gathered(rows: list[tuple[bool, bool, bool, float, float]]) -> Forecasts:
    table = np.array(rows, dtype=np.float64)
    given, withheld, holds = (table[:, column] > 0 for column in range(3))
    return Forecasts(is_given=given, is_withheld=withheld, holds=holds, intervals=table[:, 3:])


def needed(true: Accuracy, labels: float) -> tuple[float, float]:
    """Returns the fewest labels that reach what ``labels`` give, and that accuracy."""
    target = float(true(np.array(labels)))
    numbers = np.geomspace(1, labels, 20_001)
    return float(numbers[np.argmax(true(numbers) >= target - 1e-9)]), target


def drawn_curve(measured: NDArray[np.float64], num_groups: int, *, seed: int) -> Curve:
    """Draws what is measured of a true curve: groups easier or harder, a third of them tested by each seed."""
    random = np.random.default_rng(seed)
    ease, draws = random.normal(0, 0.05, num_groups), []
    for number in range(NUM_DRAWS):
        tested = random.choice(num_groups, num_groups // 3, replace=False)
        group, label = np.repeat(tested, CELLS), np.tile(np.arange(4), len(tested) * CELLS // 4)
        luck = random.normal(0, 0.02, len(measured))
        chance = np.clip(measured[:, None] + ease[group][None, :] + luck[:, None], 0, 1)
        draws.append(
            Draw(
                seed=number,
                test_labels=label,
                test_units=np.array(unit_names([str(one) for one in group], [""] * len(group)), dtype=str),
                is_right=random.random(chance.shape) < chance,
                learning_rates=(0.01,) * len(measured),
            )
        )
    return Curve(shots=SHOTS, draws=tuple(draws), available={"a": 40}, by_group=True, split_rule="by group")


def print_operating_points(trials: int) -> None:
    print(f"Operating point, {ASKED:.0%} asked; {trials} calibrations each; sensitivity on new groups, in percent:")
    print("| groups | large ones harder | over images before | over groups | over images | below 90 % |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for size_matters in (False, True):
        for num_groups in (10, 19, 30, 50, 100):
            found = calibrations(num_groups, size_matters=size_matters, trials=trials, seed=num_groups)
            means = [100 * one.mean() for one in (found.before, found.by_group, found.by_image, found.by_group < 0.9)]
            label = f"{num_groups} (asked for less)" if num_groups < 19 else str(num_groups)
            print(
                f"| {label} | {'yes' if size_matters else 'no'} | " + " | ".join(f"{one:.1f}" for one in means) + " |"
            )


Job = tuple[str, int, int, int]
"""Form, its variant, groups, trials."""


def _simulate(job: Job) -> tuple[Job, dict[float, Forecasts]]:
    form, variant, num_groups, trials = job
    return job, forecasts(CURVES[form][variant], num_groups, trials=trials, seed=1000 * num_groups)


def _jobs(trials: int) -> Iterator[Job]:
    for form, variants in CURVES.items():
        for variant in range(len(variants)):
            for num_groups in (60, 100, 300):
                yield form, variant, num_groups, trials


def print_forecasts(trials: int, workers: int) -> None:
    print(f"\nForecasts, measured at {SHOTS[0]} to {SHOTS[-1]} labels; {trials} curves each:")
    print("| curve | groups | target at | withheld | number given | hold the true number | median interval | true |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- | ---: |")
    kept: dict[str, list[NDArray[np.bool_]]] = {form: [] for form in CURVES}
    with Pool(workers) as pool:
        for (form, variant, num_groups, _), found in pool.imap(_simulate, _jobs(trials)):
            for reach, one in found.items():
                kept[form].append(one.holds[~one.is_withheld])
                interval = one.median_interval
                true = needed(CURVES[form][variant], SHOTS[-1] * reach)[0]
                print(
                    f"| {form} {variant + 1} | {num_groups} | x {reach:g} | {one.is_withheld.mean():.0%} | "
                    f"{one.is_given.mean():.0%} | {one.coverage:.0%} | {interval} | {true:.0f} |",
                    flush=True,
                )
    print()
    for form, parts in kept.items():
        held = np.concatenate(parts)
        share = held.mean() if len(held) else float("nan")
        word = "" if share >= LOWEST else f"  BELOW {LOWEST:.0%}"
        print(f"{form}: {share:.1%} of {len(held)} forecasts that were not withheld hold the true number{word}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100, help="learning curves of each kind")
    parser.add_argument("--calibrations", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    start = perf_counter()
    print_operating_points(options.calibrations)
    print_forecasts(options.trials, options.workers)
    print(f"{perf_counter() - start:.0f} s.")
