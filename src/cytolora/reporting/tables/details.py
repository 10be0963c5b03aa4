"""Files of further numbers: every class of every cell, and levels of the tree."""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from cytolora.metrics.agreement import macro
from cytolora.reporting.figures.fractions import in_words
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Cell, Spread

CLASS_COLUMNS = (
    *("dataset", "model", "method", "amount", "class", "num_images", "num_predictions"),
    *(
        "sensitivity",
        "found",
        "of_class",
        "specificity",
        "spared",
        "of_others",
        "precision",
        "auroc",
        "flags",
        "cell_id",
    ),
)
"""Of classes.csv; counts are of all seeds together, ``num_images`` those of one."""

TREE_COLUMNS = (
    *("dataset", "model", "method", "amount", "level_1", "level_2", "level_3", "level_1_std", "level_2_std"),
    *("level_3_std", "mistake_distance", "consistency", "flags", "cell_id"),
)
"""Of tree.csv; shares in [0, 1], means over seeds."""


def class_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Returns a row per tested cell and class."""
    return [row for cell in cells for row in _classes(cell)]


def _classes(cell: Cell) -> list[dict[str, Any]]:
    found = cell.evaluation
    if found is None:
        return []
    return [
        _names(cell)
        | {
            "class": name,
            "num_images": number,
            "num_predictions": score.num_images,
            "sensitivity": _rounded(score.sensitivity),
            "found": score.true_positives,
            "of_class": score.num_images,
            "specificity": _rounded(score.specificity),
            "spared": score.true_negatives,
            "of_others": score.num_others,
            "precision": _rounded(score.precision),
            "auroc": _rounded(area),
            "cell_id": cell.cell_id,
        }
        for name, number, score, area in zip(
            found.classes, found.class_counts, found.scores, found.class_auroc, strict=True
        )
    ]


def tree_rows(cells: Iterable[Cell]) -> list[dict[str, Any]]:
    """Returns a row per tested cell whose classes hang on a tree."""
    rows = []
    for cell in cells:
        if cell.evaluation is None or not cell.evaluation.trees:
            continue
        trees = cell.evaluation.trees
        row = _names(cell) | {"cell_id": cell.cell_id, "consistency": _rounded(fmean(one.consistency for one in trees))}
        row["mistake_distance"] = _rounded(macro([one.mistake_distance for one in trees]))
        for level, values in enumerate(zip(*(one.accuracies for one in trees), strict=True), 1):
            spread = Spread.of(values)
            row |= {f"level_{level}": _rounded(spread.mean), f"level_{level}_std": _rounded(spread.std)}
        rows.append(row)
    return rows


def rivals(cells: Iterable[Cell]) -> list[str]:
    """Compares the tested cells with the published model on the same classes, in words."""
    return in_words([cell for cell in cells if cell.tested and cell.shots is None])


def _names(cell: Cell) -> dict[str, Any]:
    names = {"dataset": cell.dataset, "model": cell.model, "method": cell.method}
    return names | {"amount": cell.spec.sampling.amount, "flags": in_file(cell)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
