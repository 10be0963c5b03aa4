"""Baselines without training, nearest neighbours and nearest class mean, beside linear heads on the same draws."""

from collections.abc import Iterable
from typing import Any

from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import MeanStd, Setting

COLUMNS = (
    *("dataset", "model", "method", "amount", "n_seeds", "linear_mean", "linear_std", "knn_mean", "knn_std", "knn_k"),
    *("nearest_mean_mean", "nearest_mean_std", "flags", "setting_id"),
)
"""Of neighbours.csv; accuracies on test in [0, 1]."""


def neighbour_rows(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Returns a row per tested setting whose runs all scored its neighbours; older runs did not."""
    rows = []
    for setting in settings:
        found = [run.metrics.get("neighbours") for run in setting.tested]
        known = [beside for beside in found if beside and beside["knn"]["test"]]
        if not known or len(known) < len(found):
            continue
        row = {"dataset": setting.dataset, "model": setting.model, "method": setting.method}
        row |= {
            "amount": setting.spec.sampling.amount,
            "n_seeds": len(known),
            "setting_id": setting.setting_id,
            "flags": in_file(setting),
        }
        scores = {name: [beside[name]["test"]["accuracy"] for beside in known] for name in ("knn", "nearest_mean")}
        scores["linear"] = [run.metrics["test"]["accuracy"] for run in setting.tested]
        for name, values in scores.items():
            spread = MeanStd.of(values)
            row |= {f"{name}_mean": round(spread.mean, 6), f"{name}_std": _rounded(spread.std)}
        row["knn_k"] = " ".join(str(beside["knn"]["k"]) for beside in known)
        rows.append(row)
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
