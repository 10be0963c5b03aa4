"""Timed trial of a few training steps, or a few images through an encoder, on this machine."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import median
from time import perf_counter

import torch

from cytolora.config.run import RunSpec
from cytolora.core.progress import SILENT, Progress
from cytolora.data.manifest import Sample
from cytolora.experiments.cost import (
    BackboneMethod,
    Cost,
    adapter_runs,
    fit_cost,
    mean_batch,
    num_passes,
    seconds_left,
    stored_costs,
)
from cytolora.experiments.execute import open_session
from cytolora.experiments.plan import Plan
from cytolora.experiments.store import Store
from cytolora.experiments.workload import Kind, adapters, features
from cytolora.training.adapt import train_adapter
from cytolora.training.features import batch_size
from cytolora.training.protocol import PASSES_OF_TRAINING
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

_WORTH_TRIALS = 10
"""Less work than so many trials is hardly more than a trial itself."""
_TRIAL_STEPS = 1 + 3
"""Of one size of batch."""
_WORTH_FEATURES = 500
"""Fewer images than this go through an encoder before a trial has told how long they take."""
_NUM_TIMED = 8
"""Images of such a trial, at least."""
_LONG_STEP = 2.0
"""Seconds; where one step of the smallest batch takes longer, larger ones are not tried."""


def costs_here(
    plan: Plan, inputs: Inputs, store: Store, *, device: torch.device, progress: Progress
) -> dict[BackboneMethod, Cost]:
    """Returns what a step costs, for each backbone and method to do: from stored runs of this device, else by trial.

    What is hardly more than a trial itself is left out; scoring counts as work.
    """
    costs = stored_costs(store.runs(), device=str(device), threads=torch.get_num_threads())
    for encoder, runs in adapter_runs(plan).items():
        tried = PASSES_OF_TRAINING * _num_tried(runs, inputs)
        if encoder not in costs and num_passes(runs, inputs) > _WORTH_TRIALS * tried:
            progress.say(f"a few steps of {' with '.join(reversed(encoder))}, for the time")
            costs[encoder] = _tried(runs, inputs, store, device)
    return costs


def adapter_rates(plan: Plan, inputs: Inputs, costs: Mapping[BackboneMethod, Cost]) -> dict[Kind, float]:
    """Returns seconds an image pass of each backbone and method to do, as far as known."""
    rates = {}
    for encoder, runs in adapter_runs(plan).items():
        present = [run for run in runs if run.dataset in inputs.data]
        if present and encoder in costs:
            rates[adapters(present[0])] = seconds_left(present, inputs, costs[encoder]) / num_passes(present, inputs)
    return rates


def feature_rates(
    plan: Plan, inputs: Inputs, store: Store, *, device: torch.device, progress: Progress
) -> dict[Kind, float]:
    """Times a few of the images whose frozen features a plan lacks, for each encoder that lacks many.

    Of evaluation views: what a preset computes of augmented ones comes on top. One encoder is held at a time, as in the
    run itself; the features are kept.
    """
    absent: dict[str, int] = defaultdict(int)
    sessions: dict[str, tuple[Session, RunSpec]] = {}
    for run in _heads(plan):
        session = open_session(run, inputs, store, device=device, progress=SILENT)
        if num_missing := session.num_missing_features(run.preprocess):
            sessions.setdefault(run.backbone, (session, run))
            absent[run.backbone] += num_missing
    rates = {}
    for name, num_images in absent.items():
        if num_images > _WORTH_FEATURES:
            progress.say(f"a few images through {name}, for the time")
            rates[features(name)] = _seconds_an_image(*sessions.pop(name))
    return {kind: rate for kind, rate in rates.items() if rate}


def _seconds_an_image(session: Session, run: RunSpec) -> float:
    """Times images from file to feature, after some that warm up; 0 where too few are not kept."""
    num_first = batch_size(session.device)
    number = num_first + max(_NUM_TIMED, num_first)
    candidates = session.manifest.samples[:: max(1, len(session.manifest.samples) // (2 * number))]
    lacking = [one for one in candidates if _of(session, [one]).num_missing_features(run.preprocess)][:number]
    seconds = 0.0
    for some in (lacking[:num_first], lacking[num_first:]):
        started = perf_counter()
        for _ in _of(session, some).feature_chunks(preprocess=run.preprocess):
            pass
        seconds = perf_counter() - started
    return seconds / max(1, len(lacking) - num_first)


def _of(session: Session, samples: Sequence[Sample]) -> Session:
    return replace(session, manifest=replace(session.manifest, samples=tuple(samples)))


def _heads(plan: Plan) -> list[RunSpec]:
    """One run to do on frozen features for each dataset and backbone."""
    first_runs = {(run.dataset, run.backbone): run for run in plan.to_do if run.kind != "adapter"}
    return list(first_runs.values())


def _num_tried(runs: list[RunSpec], inputs: Inputs) -> float:
    """Counts the images that a trial trains on."""
    sizes = {mean_batch(run, inputs) for run in runs}
    return _TRIAL_STEPS * sum({min(sizes), max(sizes)})


def _tried(runs: list[RunSpec], inputs: Inputs, store: Store, device: torch.device) -> Cost:
    by_size = sorted(runs, key=lambda run: (mean_batch(run, inputs), run.run_id))
    small, large = by_size[0], by_size[-1]
    session = open_session(small, inputs, store, device=device, progress=SILENT)
    points = [(mean_batch(small, inputs), _step_seconds(session, small))]
    if mean_batch(large, inputs) > points[0][0] and points[0][1] < _LONG_STEP:
        if large.dataset != small.dataset:
            session = open_session(large, inputs, store, device=device, progress=SILENT, before=session)
        points.append((mean_batch(large, inputs), _step_seconds(session, large)))
    return fit_cost(points)


def _step_seconds(session: Session, run: RunSpec) -> float:
    """Times steps, after one that warms up."""
    if session.device.type != "cpu":  # which computes on its own: only the end of a training waits for it
        train_adapter(session, _cut(run, 1))  # a GPU loads its kernels in the first step of all
        one, three = (train_adapter(session, _cut(run, steps)).seconds for steps in (1, 3))
        return max(three - one, three / 100) / 2
    ends: list[float] = []
    watched = replace(session, progress=replace(SILENT, done=lambda passes: ends.append(perf_counter())))
    train_adapter(watched, _cut(run, _TRIAL_STEPS))
    return median(end - begin for begin, end in pairwise(ends))


def _cut(run: RunSpec, steps: int) -> RunSpec:
    return replace(run, train=replace(run.train, budget=replace(run.train.budget, max_steps=steps)))
