"""What needs no training, beside the linear heads on the same draws: nearest neighbours and nearest class mean."""

from collections.abc import Iterable
from typing import Any

from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Cell, Spread

COLUMNS = (
    *("dataset", "model", "method", "amount", "n_seeds", "linear_mean", "linear_std", "knn_mean", "knn_std", "knn_k"),
    *("nearest_mean_mean", "nearest_mean_std", "flags", "cell_id"),
)
"""Of neighbours.csv; accuracies on test in [0, 1]."""


def neighbour_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Returns a row per tested cell whose runs all scored its neighbours; older runs did not."""
    rows = []
    for cell in cells:
        found = [run.metrics.get("neighbours") for run in cell.tested]
        known = [beside for beside in found if beside and beside["knn"]["test"]]
        if not known or len(known) < len(found):
            continue
        row = {"dataset": cell.dataset, "model": cell.model, "method": cell.method}
        row |= {
            "amount": cell.spec.sampling.amount,
            "n_seeds": len(known),
            "cell_id": cell.cell_id,
            "flags": in_file(cell),
        }
        scores = {name: [beside[name]["test"]["accuracy"] for beside in known] for name in ("knn", "nearest_mean")}
        scores["linear"] = [run.metrics["test"]["accuracy"] for run in cell.tested]
        for name, values in scores.items():
            spread = Spread.of(values)
            row |= {f"{name}_mean": round(spread.mean, 6), f"{name}_std": _rounded(spread.std)}
        row["knn_k"] = " ".join(str(beside["knn"]["k"]) for beside in known)
        rows.append(row)
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
