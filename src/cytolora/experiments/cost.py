"""Forecast of the time that a plan still takes, from the speed of stored runs or of a trial; loads no torch."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from cytolora.config.run import RunSpec
from cytolora.display.format import about
from cytolora.experiments.plan import Plan
from cytolora.experiments.stored_run import StoredRun
from cytolora.models.adapters.methods import METHODS
from cytolora.training.protocol import PASSES_OF_TRAINING
from cytolora.training.resources import Inputs

BackboneMethod = tuple[str, str]
"""Backbone and method."""

_BATCH_SIZE = 32
"""The default, for a stored spec that names none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one step of training an adapter."""

    seconds: float
    """Whatever the number of images."""
    seconds_per_image: float


def fit_cost(points: Iterable[tuple[float, float]]) -> Cost:
    """Fits a line, nowhere falling, to pairs of images in a step and its seconds; at least one pair."""
    pairs = list(points)
    mean_images = sum(images for images, _ in pairs) / len(pairs)
    mean_seconds = sum(seconds for _, seconds in pairs) / len(pairs)
    variation = sum((images - mean_images) ** 2 for images, _ in pairs)
    covariation = sum((images - mean_images) * (seconds - mean_seconds) for images, seconds in pairs)
    most = mean_seconds / mean_images
    slope = min(most, max(0.0, covariation / variation)) if variation else most
    return Cost(seconds=mean_seconds - slope * mean_images, seconds_per_image=slope)


def stored_costs(
    runs: Iterable[StoredRun], *, device: str | None = None, threads: int | None = None
) -> dict[BackboneMethod, Cost]:
    """Returns what a step cost in stored runs, of the device and number of threads if given."""
    points: dict[BackboneMethod, list[tuple[float, float]]] = defaultdict(list)
    for run in runs:
        steps, images = run.metrics["train"]["num_steps"], run.metrics["train"]["num_images"]
        provenance = run.provenance
        is_ours = device in (None, provenance.get("device")) and threads in (None, provenance.get("threads"))
        if run.spec.get("adapter") is not None and steps and images and is_ours and "seconds" in provenance:
            in_step = images / ceil(images / run.spec["train"].get("batch_size", _BATCH_SIZE))
            points[run.spec["backbone"], run.spec["method"]].append((in_step, provenance["seconds"] / steps))
    return {method: fit_cost(pairs) for method, pairs in points.items()}


def adapter_runs(plan: Plan) -> dict[BackboneMethod, list[RunSpec]]:
    """Sorts the adapter runs that are to do by backbone and method."""
    by_method: dict[BackboneMethod, list[RunSpec]] = defaultdict(list)
    for run in plan.to_do:
        if run.kind == "adapter":
            by_method[run.backbone, run.method].append(run)
    return dict(by_method)


def num_passes(runs: Sequence[RunSpec], inputs: Inputs) -> int:
    """Returns the work of adapter runs in forward passes of an image, with the scoring of their test sets."""
    total, settings = num_training_passes(runs, inputs), {run.setting_id: run for run in runs}
    for run in settings.values():  # the test set is scored for one rate a setting, with every seed
        num_seeds = len({other.seed for other in runs if other.setting_id == run.setting_id})
        total += num_seeds * len(inputs.split(run).test)
    return total


def num_training_passes(runs: Iterable[RunSpec], inputs: Inputs) -> int:
    """Returns the work of training and validation in forward passes of an image: training counts three, scoring one."""
    total = 0
    for run in runs:
        split = inputs.split(run)
        num_scored = 1
        if run.train.budget.early_stopping is not None and run.kind == "adapter":
            num_scored += ceil(run.num_steps(len(split.train)) / ceil(len(split.train) / run.train.batch_size))
        total += PASSES_OF_TRAINING * run.num_images_seen(len(split.train)) + num_scored * len(split.val)
    return total


def prompts_a_step(run: RunSpec, num_classes: int) -> int:
    """Returns the prompts that one step of prompt learning takes through the text encoder."""
    facts = METHODS.get(run.method).prompt
    return num_classes * (run.train.batch_size if facts is not None and facts.per_image else 1)


def scored_prompts(run: RunSpec, num_images: int, num_classes: int) -> int:
    """Returns the prompts that scoring images takes through the text encoder: none, where all images share theirs."""
    facts = METHODS.get(run.method).prompt
    return num_images * num_classes if facts is not None and facts.per_image else 0


def describe_prompts(plan: Plan, inputs: Inputs) -> str:
    """Counts what prompt learning takes through the text encoder in one line, by method; empty if there is none to do.

    Runs with a dataset that is not here are left out.
    """
    training: Counter[str] = Counter()
    scoring: Counter[str] = Counter()
    tests: set[tuple[str, int]] = set()
    for run in plan.to_do:
        if run.kind == "prompt" and run.dataset in inputs.data:
            split, num_classes = inputs.split(run), len(inputs.manifest(run.dataset, run.split).classes)
            training[run.method] += run.num_steps(len(split.train)) * prompts_a_step(run, num_classes)
            is_tested = (run.setting_id, run.seed) not in tests  # for one rate, with every seed
            tests.add((run.setting_id, run.seed))
            num_scored = len(split.val) + is_tested * len(split.test)
            scoring[run.method] += scored_prompts(run, num_scored, num_classes)
    return ", ".join(
        f"{method} {number:,}" + (f" and {scoring[method]:,} in scoring" if scoring[method] else "")
        for method, number in training.items()
    )


def mean_batch(run: RunSpec, inputs: Inputs) -> float:
    """Returns the images of a step, on average."""
    num_train = len(inputs.split(run).train)
    return num_train / ceil(num_train / run.train.batch_size)


def seconds_left(runs: Sequence[RunSpec], inputs: Inputs, cost: Cost) -> float:
    """Returns how long adapter runs of one backbone and method take one after the other, with their scoring."""
    steps = sum(run.num_steps(len(inputs.split(run).train)) for run in runs)
    return steps * cost.seconds + num_passes(runs, inputs) / PASSES_OF_TRAINING * cost.seconds_per_image


def describe(plan: Plan, inputs: Inputs, costs: Mapping[BackboneMethod, Cost]) -> str:
    """Forecasts the time of the adapter runs to do in one line, and lists those not timed yet; empty if none is.

    Not timed is the speed of a backbone with a method that was never timed, and the size of a dataset that is not here.
    """
    seconds: dict[str, float] = defaultdict(float)
    numbers: dict[str, int] = defaultdict(int)
    untimed: dict[str, int] = defaultdict(int)
    for (backbone, method), runs in adapter_runs(plan).items():
        present = [run for run in runs if run.dataset in inputs.data]
        for name in sorted({run.dataset for run in runs} - inputs.data.keys()):
            untimed[f"{method} with {backbone} on {name}"] += sum(run.dataset == name for run in runs)
        if present and (backbone, method) not in costs:
            untimed[f"{method} with {backbone}"] += len(present)
        elif present:
            seconds[method] += seconds_left(present, inputs, costs[backbone, method])
            numbers[method] += len(present)
    if not seconds:
        return ""
    known = [f"{method}, {numbers[method]} runs: {about(seconds[method])}" for method in seconds]
    whole = [f"together {about(sum(seconds.values()))}"] if len(seconds) > 1 else []
    rest = ", ".join(f"{name} ({number} runs)" for name, number in untimed.items())
    return "; ".join([*known, *whole, *([f"not timed yet: {rest}"] if rest else [])])
