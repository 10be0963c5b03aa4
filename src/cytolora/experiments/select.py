"""The learning rate of a cell, chosen by validation alone."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import fsum
from typing import Any

from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.files import canonical_json
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.store import StoredRun
from cytolora.training.selection import Metric, choose_learning_rate

_METRIC: Metric = "accuracy"
"""The paper's."""
_NUM_CELLS = 10_000
"""Whose names are remembered: the many runs of a cell differ in seed and rate alone."""


def cell_id(spec: Mapping[str, Any]) -> str:
    """Names the cell that a stored spec belongs to; a field that came later counts as holding its default."""
    is_trained = spec["learning_rate"] != 0
    return _cell_id(canonical_json({**spec, "learning_rate": float(is_trained), "seed": 0}))


@lru_cache(maxsize=_NUM_CELLS)
def _cell_id(spec: str) -> str:
    return parse_spec(json.loads(spec), RunSpec, "A stored spec").cell_id


def cells(runs: Iterable[StoredRun]) -> dict[str, list[StoredRun]]:
    """Sorts runs into cells (equal in everything but learning rate and seed), keyed by ``cell_id``.

    Raises:
        StoreError: If a run has settings that this version does not know: it would be taken for another.
    """
    table: dict[str, list[StoredRun]] = defaultdict(list)
    for run in sorted(runs, key=lambda run: (run.spec["learning_rate"], run.spec["seed"])):
        try:
            table[cell_id(run.spec)].append(run)
        except ConfigError as error:
            raise StoreError(
                f"Stored run {run.path} cannot be read by this version of cytolora: {error} Update, or move the folder."
            ) from error
    return dict(sorted(table.items()))


def with_all_rates(runs: Sequence[StoredRun], rates: Iterable[float]) -> list[StoredRun]:
    """Leaves out the seeds that lack one of ``rates``: another process may be at work on them."""
    wanted = set(rates)
    done: dict[int, set[float]] = defaultdict(set)
    for run in runs:
        done[run.spec["seed"]].add(run.spec["learning_rate"])
    return [run for run in runs if wanted <= done[run.spec["seed"]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a cell's choice of learning rate leaves to do; nothing once it has one test result."""

    to_seal: tuple[StoredRun, ...]
    """Of another rate, and with a test score that is to be taken away."""
    to_score: tuple[StoredRun, ...]
    """Of the chosen rate, and without a test score."""


def decide(runs: Sequence[StoredRun], rates: Iterable[float]) -> Decision:
    """Compares the test scores of a cell with the rate that validation chooses.

    Args:
        runs: All that is stored of the cell.
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


def choose_rate(runs: Sequence[StoredRun]) -> float:
    """Chooses the learning rate of one cell: the highest mean validation accuracy over the seeds.

    Ties go to the lower mean validation loss, then to the lower rate. Only rates that were run with every
    seed that occurs in the cell compete: a mean over fewer seeds is no fair rival; nor is a rate at which
    training diverged (``val`` is null). Test is never looked at.

    Raises:
        StoreError: If no rate has all the seeds, or training diverged at every one.
    """
    seeds = {run.spec["seed"] for run in runs}
    by_rate: dict[float, list[StoredRun]] = defaultdict(list)
    for run in runs:
        if run.metrics["val"] is not None:
            by_rate[run.spec["learning_rate"]].append(run)
    rivals = {rate: found for rate, found in by_rate.items() if {run.spec["seed"] for run in found} == seeds}
    if not rivals:
        name = cell_id(runs[0].spec) if runs else "An empty cell"
        raise StoreError(
            f"{name}: no learning rate has been run with all seeds ({', '.join(map(str, sorted(seeds)))}) without "
            "diverging, so none can be chosen. Run the grid again, which does what is missing, or add lower rates."
        )
    means = {rate: {name: _mean(rivals[rate], name) for name in (_METRIC, "loss")} for rate in rivals}
    return choose_learning_rate(means, _METRIC)


def _mean(runs: Sequence[StoredRun], metric: str) -> float:
    return fsum(run.metrics["val"][metric] for run in runs) / len(runs)
