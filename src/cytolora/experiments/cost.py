"""How long what is left of a plan will take, at the speed of stored runs or of a trial; loads no torch."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from cytolora.config.run import RunSpec
from cytolora.display.format import duration
from cytolora.experiments.plan import Plan
from cytolora.experiments.store import StoredRun
from cytolora.training.resources import Inputs

Encoder = tuple[str, str]
"""Backbone and method."""

_BATCH_SIZE = 32
"""Where a stored spec names none: the default."""
_SCORE_SHARE = 1 / 3
"""Cost of scoring an image over training on it: a forward pass, against one forward and one of twice the work back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one step of training an adapter."""

    seconds: float
    """Whatever the number of images."""
    seconds_per_image: float


def fit_cost(points: Iterable[tuple[float, float]]) -> Cost:
    """Fits a line, nowhere falling, to pairs of images in a step and its seconds; at least one pair."""
    found = list(points)
    mean_images = sum(images for images, _ in found) / len(found)
    mean_seconds = sum(seconds for _, seconds in found) / len(found)
    spread = sum((images - mean_images) ** 2 for images, _ in found)
    together = sum((images - mean_images) * (seconds - mean_seconds) for images, seconds in found)
    most = mean_seconds / mean_images
    slope = min(most, max(0.0, together / spread)) if spread else most
    return Cost(seconds=mean_seconds - slope * mean_images, seconds_per_image=slope)


def stored_costs(
    runs: Iterable[StoredRun], *, device: str | None = None, threads: int | None = None
) -> dict[Encoder, Cost]:
    """Returns what a step cost in stored runs, of the device and number of threads if given."""
    points: dict[Encoder, list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        steps, images = run.metrics["train"]["num_steps"], run.metrics["train"]["num_images"]
        found = run.provenance
        is_ours = device in (None, found.get("device")) and threads in (None, found.get("threads"))
        if run.spec.get("adapter") is not None and steps and images and is_ours and "seconds" in found:
            in_step = images / ceil(images / run.spec["train"].get("batch_size", _BATCH_SIZE))
            points[run.spec["backbone"], run.spec["method"]].append((in_step, found["seconds"] / steps))
    return {encoder: fit_cost(found) for encoder, found in points.items()}


def adapter_runs(plan: Plan) -> dict[Encoder, list[RunSpec]]:
    """Sorts the adapter runs that are to do by backbone and method."""
    found: dict[Encoder, list[RunSpec]] = defaultdict(list)
    for run in plan.to_do:
        if run.adapter is not None:
            found[run.backbone, run.method].append(run)
    return dict(found)


def num_steps(run: RunSpec, num_train: int) -> int:
    """Optimiser steps of a run that sees so many images."""
    return run.train.budget.num_steps(num_train=num_train, batch_size=run.train.batch_size, shots=run.sampling.shots)


def num_passes(runs: Sequence[RunSpec], inputs: Inputs) -> float:
    """Returns the work of adapter runs of one backbone and method, in images trained on; scoring counts its share."""
    total, cells = 0.0, {run.cell_id: run for run in runs}
    for run in runs:
        split = inputs.split(run)
        total += num_steps(run, len(split.train)) * mean_batch(run, inputs) + _SCORE_SHARE * len(split.val)
    for run in cells.values():  # the test set is scored for one rate a cell, with every seed
        num_seeds = len({other.seed for other in runs if other.cell_id == run.cell_id})
        total += num_seeds * _SCORE_SHARE * len(inputs.split(run).test)
    return total


def mean_batch(run: RunSpec, inputs: Inputs) -> float:
    """Returns the images of a step, on average."""
    num_train = len(inputs.split(run).train)
    return num_train / ceil(num_train / run.train.batch_size)


def seconds_left(runs: Sequence[RunSpec], inputs: Inputs, cost: Cost) -> float:
    """Returns how long adapter runs of one backbone and method take one after the other, with their scoring."""
    steps = sum(num_steps(run, len(inputs.split(run).train)) for run in runs)
    return steps * cost.seconds + num_passes(runs, inputs) * cost.seconds_per_image


def describe(plan: Plan, inputs: Inputs, costs: Mapping[Encoder, Cost]) -> str:
    """Says how long the adapter runs to do take, one line, and of which that is not known; empty if of none.

    Not known is the speed of a backbone with a method that was never timed, and the size of a dataset that is not here.
    """
    seconds: dict[str, float] = defaultdict(float)
    numbers: dict[str, int] = defaultdict(int)
    untimed: dict[str, int] = defaultdict(int)
    for (backbone, method), runs in adapter_runs(plan).items():
        here = [run for run in runs if run.dataset in inputs.data]
        for name in sorted({run.dataset for run in runs} - inputs.data.keys()):
            untimed[f"{method} with {backbone} on {name}"] += sum(run.dataset == name for run in runs)
        if here and (backbone, method) not in costs:
            untimed[f"{method} with {backbone}"] += len(here)
        elif here:
            seconds[method] += seconds_left(here, inputs, costs[backbone, method])
            numbers[method] += len(here)
    if not seconds:
        return ""
    known = [f"{method}, {numbers[method]} runs: about {duration(seconds[method])}" for method in seconds]
    whole = [f"together about {duration(sum(seconds.values()))}"] if len(seconds) > 1 else []
    rest = ", ".join(f"{name} ({number} runs)" for name, number in untimed.items())
    return "; ".join([*known, *whole, *([f"not timed yet: {rest}"] if rest else [])])
