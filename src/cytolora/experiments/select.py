"""Selection of the learning rate of a setting by validation alone."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Any

from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.files import canonical_json
from cytolora.core.strict_json import read_json
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.stored_run import RunResult, StoredRun
from cytolora.training.selection import Metric, choose_learning_rate

_METRIC: Metric = "accuracy"
"""The paper's."""
_NUM_SETTINGS = 10_000
"""Settings whose ids are cached: the many runs of a setting differ in seed and rate alone."""


def setting_id(spec: Mapping[str, Any]) -> str:
    """Names the setting that a stored spec belongs to; a field that came later counts as holding its default."""
    is_trained = spec["learning_rate"] != 0
    return _setting_id(canonical_json({**spec, "learning_rate": float(is_trained), "seed": 0}))


@lru_cache(maxsize=_NUM_SETTINGS)
def _setting_id(spec: str) -> str:
    return parse_spec(read_json(spec), RunSpec, "A stored spec").setting_id


def by_setting(runs: Iterable[StoredRun]) -> dict[str, list[StoredRun]]:
    """Sorts runs into settings (equal in everything but learning rate and seed), keyed by ``setting_id``.

    Raises:
        StoreError: If a run has settings that this version does not know: it would be taken for another.
    """
    table: dict[str, list[StoredRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.spec["learning_rate"], run.spec["seed"])):
        try:
            table[setting_id(run.spec)].append(run)
        except ConfigError as error:
            raise StoreError(
                f"Stored run {run.path} cannot be read by this version of cytolora: {error} Update, or move the folder."
            ) from error
    return dict(sorted(table.items()))


def with_all_rates(runs: Sequence[StoredRun], rates: Iterable[float]) -> list[StoredRun]:
    """Leaves out the seeds that lack one of ``rates``: another process may be at work on them."""
    required = set(rates)
    done: dict[int, set[float]] = defaultdict(set)
    for run in runs:
        done[run.spec["seed"]].add(run.spec["learning_rate"])
    return [run for run in runs if required <= done[run.spec["seed"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Work that the choice of a learning rate leaves in a setting; none once it has one test result."""

    to_seal: tuple[StoredRun, ...]
    """Of another rate, and with a test score that is to be taken away."""
    to_score: tuple[StoredRun, ...]
    """Of the chosen rate, and without a test score."""


def decide(runs: Sequence[StoredRun], rates: Iterable[float]) -> Decision:
    """Compares the test scores of a setting with the rate that validation chooses.

    Args:
        runs: All that is stored of the setting.
        rates: A seed takes part if it was run with all of them.

    Raises:
        StoreError: If none can be chosen.
    """
    rivals = with_all_rates(runs, rates)
    chosen = choose_rate(rivals)
    return Decision(
        to_seal=tuple(run for run in runs if run.spec["learning_rate"] != chosen and run.metrics["test"] is not None),
        to_score=tuple(run for run in rivals if run.spec["learning_rate"] == chosen and run.metrics["test"] is None),
    )


def sealed(stored: StoredRun) -> RunResult:
    """Reads a run without its test score.

    Raises:
        StoreError: If it is damaged, or was replaced since it was read.
    """
    import pyarrow as pa

    predictions = stored.predictions()
    is_val = pa.array((subset == "val" for subset in predictions["subset"].to_pylist()), pa.bool_())
    metrics = {**stored.metrics, "test": None}
    if (compared := stored.metrics.get("neighbours")) is not None:
        metrics["neighbours"] = {name: {**compared[name], "test": None} for name in compared}
    return RunResult(
        spec=parse_spec(stored.spec, RunSpec, str(stored.path)),
        metrics=metrics,
        predictions=predictions.filter(is_val),
        weights=stored.weights(),
        provenance=stored.provenance,
    )


def choose_rate(runs: Sequence[StoredRun]) -> float:
    """Chooses the learning rate of one setting: the highest mean validation accuracy over the seeds.

    Ties go to the lower mean validation loss, then to the lower rate. Only rates that were run with every
    seed that occurs in the setting compete: a mean over fewer seeds is no fair rival; nor is a rate at which
    training diverged (``val`` is null). Test is never looked at.

    Raises:
        StoreError: If no rate has all the seeds, or training diverged at every one.
    """
    seeds = {run.spec["seed"] for run in runs}
    by_rate: dict[float, list[StoredRun]] = defaultdict(list)
    for run in runs:
        if run.metrics["val"] is not None:
            by_rate[run.spec["learning_rate"]].append(run)
    if (only := _without_validation(runs)) is not None:
        return only
    rivals = {rate: members for rate, members in by_rate.items() if {run.spec["seed"] for run in members} == seeds}
    if not rivals:
        name = setting_id(runs[0].spec) if runs else "An empty setting"
        raise StoreError(
            f"{name}: no learning rate has been run with all seeds ({', '.join(map(str, sorted(seeds)))}) without "
            "diverging, so none can be chosen. Run the grid again, which does what is missing, or add lower rates."
        )
    means = {rate: {name: _mean(rivals[rate], name) for name in (_METRIC, "loss")} for rate in rivals}
    return choose_learning_rate(means, _METRIC)


def _without_validation(runs: Sequence[StoredRun]) -> float | None:
    """Returns the one learning rate of a setting that has no validation images; None: it has some, or diverged.

    Raises:
        StoreError: If there are several, among which nothing chooses.
    """
    if not runs or runs[0].spec["sampling"].get("val_shots") != 0:
        return None
    rates = {run.spec["learning_rate"] for run in runs}
    refuse_several_rates(setting_id(runs[0].spec), rates)
    return None if any(is_diverged(run) for run in runs) else rates.pop()


def refuse_several_rates(setting: str, rates: Iterable[float]) -> None:
    """Raises a StoreError if a setting without validation images has several learning rates, stored or planned."""
    values = sorted(set(rates))
    if len(values) > 1:
        listed = ", ".join(f"{one:g}" for one in values)
        raise StoreError(
            f"{setting}: it has no validation images, and the learning rates {listed}, among which nothing chooses. "
            "Keep the runs of one rate, or take another store."
        )


def is_diverged(run: StoredRun) -> bool:
    """Whether training of a stored run diverged: without validation images its loss says so."""
    if run.spec["sampling"].get("val_shots") != 0:
        return run.metrics["val"] is None
    return bool(run.metrics["train"]["num_steps"]) and run.metrics["train"]["final_loss"] is None


def _mean(runs: Sequence[StoredRun], metric: str) -> float:
    return fsum(run.metrics["val"][metric] for run in runs) / len(runs)
