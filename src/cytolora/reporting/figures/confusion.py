"""Confusion matrix of a setting on its test set, all seeds together."""

from typing import Literal

import numpy as np

from cytolora.display import format as words
from cytolora.display.confusion import ConfusionMatrix
from cytolora.metrics.hierarchy import tree_order
from cytolora.reporting.results.facts import ClassFacts
from cytolora.reporting.results.flags import caution, in_caption, in_file
from cytolora.reporting.results.settings import Setting


def confusion_matrix(setting: Setting, slug: str, numbers: Literal["all", "diagonal"] = "all") -> ConfusionMatrix:
    """Makes the figure of a tested setting; classes by severity or by branches of the tree where these are known.

    Args:
        slug: Names the setting in file names.
        numbers: Which fields are written out.
    """
    if setting.evaluation is None:
        raise ValueError(f"{setting.setting_id} has no test score to draw.")
    classes = setting.evaluation.classes
    order = _order(classes, setting.facts)
    ordered = tuple(classes[index] for index in order)
    return ConfusionMatrix(
        name=f"{slug}_confusion",
        caption=_caption(setting),
        classes=ordered,
        counts=np.asarray(setting.evaluation.confusion)[np.ix_(order, order)],
        numbers=numbers,
        branch_starts=_branch_starts(ordered, setting.facts),
        flags=in_file(setting),
        caution=caution([setting]),
    )


def _caption(setting: Setting) -> str:
    seeds = words.count(len(setting.tested), "seed")
    together = f"{seeds} together" if len(setting.tested) > 1 else seeds
    order = ""
    if setting.facts.order:
        order = " From the least to the most severe class."
    elif setting.facts.tree:
        order = " Classes of one branch of the tree stand together."
    return (
        f"{setting.dataset}, {setting.model}, {setting.method}, {words.amount(setting.shots, setting.fraction)}: "
        f"confusion matrix, true class (rows) by predicted class (columns) on the test set, {together}. Large: percent "
        f"of the row; small: count.{order}{in_caption([setting])}"
    )


def _order(classes: tuple[str, ...], facts: ClassFacts) -> list[int]:
    if facts.order:
        return [classes.index(name) for name in facts.order]
    return tree_order(classes, facts.tree) if facts.tree else list(range(len(classes)))


def _branch_starts(ordered: tuple[str, ...], facts: ClassFacts) -> tuple[int, ...]:
    """Indices at which the next branch of the tree's first level begins."""
    tops = [facts.tree[name][0] for name in ordered] if facts.tree else []
    return tuple(index for index in range(1, len(tops)) if tops[index] != tops[index - 1])
