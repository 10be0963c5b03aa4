"""Table of stored runs: a row each, with what it was, its scores and what it took."""

from collections.abc import Mapping
from typing import Any

from cytolora.experiments.stored_run import StoredRun

_FACTS: Mapping[str, type] = {
    **{"run": str, "dataset": str, "model": str, "method": str, "shots": int, "fraction": float},
    **{"seed": int, "split_seed": int, "learning_rate": float},
}
"""What a run was; ``shots`` and ``fraction`` are empty for all images."""
_SCORES = ("accuracy", "balanced_accuracy", "macro_f1")
_SPENT: Mapping[str, type] = {
    **{"wall_seconds": float, "cpu_seconds": float, "gpu_seconds": float, "cpu_kwh": float, "gpu_kwh": float},
    **{"peak_memory_bytes": int, "host": str, "processor": str, "gpu": str, "date": str},
}
"""Of ``core.spending.Spending``; empty, not 0, where nobody counts and for runs that were stored before."""
COLUMNS: Mapping[str, type] = {
    **_FACTS,
    **{f"{subset}_{name}": float for subset in ("val", "test") for name in _SCORES},
    **{"num_images": int, "num_steps": int, "num_trainable": int, "device": str, "threads": int, "seconds": float},
    **_SPENT,
    "flags": str,
}
"""By name, the type of the values; each may be None but ``flags``, the grave marks of the run's setting, without which
no score leaves. ``seconds`` are those of training, ``wall_seconds`` with what prepares it."""


def facts_of(run: StoredRun) -> dict[str, Any]:
    """Returns what a run was, with the columns of each table of runs."""
    spec = run.spec
    return {
        "run": run.run_id,
        "dataset": spec["dataset"],
        "model": spec["backbone"],
        "method": spec["method"],
        "shots": spec["sampling"].get("shots"),
        "fraction": spec["sampling"].get("fraction"),
        "seed": spec["seed"],
        "split_seed": spec["split"].get("seed"),
        "learning_rate": spec["learning_rate"],
    }


def row_of(run: StoredRun, flags: str) -> dict[str, Any]:
    """Returns the values of a run by ``COLUMNS``; None where there is none."""
    scores = {subset: run.metrics[subset] or {} for subset in ("val", "test")}
    spent = run.provenance.get("spending") or {}
    return {
        **facts_of(run),
        **{f"{subset}_{name}": found.get(name) for subset, found in scores.items() for name in _SCORES},
        **{name: run.metrics["train"][name] for name in ("num_images", "num_steps")},
        "num_trainable": run.metrics["num_trainable"],
        **{name: run.provenance.get(name) for name in ("device", "threads", "seconds")},
        **{name: spent.get(name) for name in _SPENT},
        "flags": flags,
    }
