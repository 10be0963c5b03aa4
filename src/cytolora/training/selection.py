"""Learning-rate selection: the best validation scores win."""

from collections.abc import Mapping
from typing import Literal

Metric = Literal["accuracy", "balanced_accuracy"]

_DIGITS = 12
"""Scores are compared to this many decimals: equal counts of right images tie, however their shares were rounded."""


def choose_learning_rate(scores: Mapping[float, Mapping[str, float]], metric: Metric) -> float:
    """Returns the learning rate with the highest metric; ties go to the lower loss, then to the lower rate.

    Args:
        scores: By learning rate, the metric and ``loss`` on images that were not trained on; at least one.
        metric: The paper's grids choose by accuracy, ``fit`` and the learning curve by balanced accuracy.
    """
    return min(
        scores, key=lambda rate: (-round(scores[rate][metric], _DIGITS), round(scores[rate]["loss"], _DIGITS), rate)
    )
