"""Per-class and hierarchical results of every setting, as CSV."""

from collections.abc import Iterable
from statistics import fmean
from typing import Any

from cytolora.metrics.agreement import macro
from cytolora.reporting.figures.fractions import published_gaps
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import MeanStd, Setting

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
        "setting_id",
    ),
)
"""Of classes.csv; counts are of all seeds together, ``num_images`` those of one."""

TREE_COLUMNS = (
    *("dataset", "model", "method", "amount", "level_1", "level_2", "level_3", "level_1_std", "level_2_std"),
    *("level_3_std", "mistake_distance", "consistency", "flags", "setting_id"),
)
"""Of tree.csv; shares in [0, 1], means over seeds."""


def class_rows(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Returns a row per tested setting and class."""
    return [row for setting in settings for row in _classes(setting)]


def _classes(setting: Setting) -> list[dict[str, Any]]:
    found = setting.evaluation
    if found is None:
        return []
    return [
        _names(setting)
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
            "setting_id": setting.setting_id,
        }
        for name, number, score, area in zip(
            found.classes, found.class_counts, found.scores, found.class_auroc, strict=True
        )
    ]


def tree_rows(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Returns a row per tested setting whose classes hang on a tree."""
    rows = []
    for setting in settings:
        if setting.evaluation is None or not setting.evaluation.trees:
            continue
        trees = setting.evaluation.trees
        row = _names(setting) | {
            "setting_id": setting.setting_id,
            "consistency": _rounded(fmean(one.consistency for one in trees)),
        }
        row["mistake_distance"] = _rounded(macro([one.mistake_distance for one in trees]))
        for level, values in enumerate(zip(*(one.accuracies for one in trees), strict=True), 1):
            spread = MeanStd.of(values)
            row |= {f"level_{level}": _rounded(spread.mean), f"level_{level}_std": _rounded(spread.std)}
        rows.append(row)
    return rows


def rivals(settings: Iterable[Setting]) -> list[str]:
    """Compares the tested settings with the published model on the same classes, in words."""
    return published_gaps([setting for setting in settings if setting.tested and setting.shots is None])


def _names(setting: Setting) -> dict[str, Any]:
    names = {"dataset": setting.dataset, "model": setting.model, "method": setting.method}
    return names | {"amount": setting.spec.sampling.amount, "flags": in_file(setting)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
