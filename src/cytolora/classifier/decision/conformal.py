"""Conformal prediction sets with coverage for images of new groups (patients or slides).

Split conformal prediction with the score 1 - p(true class) (Sadinle, Lei & Wasserman 2019, arXiv:1609.00451). Images
of one group resemble each other, so images are not exchangeable, but groups are: every calibration group has the same
weight, shared among its images (hierarchical conformal prediction: Lee, Barber & Willett 2023, arXiv:2306.06342).
For an image of a new group the coverage is then at least the nominal one, on average over groups.
"""

from collections import Counter
from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.decision.margins import above
from cytolora.classifier.decision.rules import Conformal
from cytolora.errors import ConfigError

_EVERYTHING = 1.0
"""Quantile at which every class is in every set."""
_ROUNDING = 1e-9


def calibrate(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], groups: Sequence[str], coverage: float
) -> Conformal:
    """Chooses the quantile of the scores that gives prediction sets the nominal coverage.

    It lies a little above the score that sets it, so that this image has the same set on every machine.

    Args:
        probabilities: Of the calibration images, which no part of the classifier has seen.
        groups: Patient, slide or field of each image (``metrics.units.unit_names``).
        coverage: In (0, 1).
    """
    if not 0 < coverage < 1:
        raise ConfigError(f"coverage is a share in (0, 1), got {coverage}. For 90 % write 0.9.")
    scores = 1 - probabilities[np.arange(len(labels)), labels]
    sizes = Counter(groups)
    weights = np.array([1 / ((len(sizes) + 1) * sizes[group]) for group in groups])
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weights[order]) >= coverage - _ROUNDING
    quantile = above(float(scores[order][reached.argmax()])) if reached.any() else _EVERYTHING
    return Conformal(coverage=coverage, quantile=quantile, num_groups=len(sizes))


def needed_groups(coverage: float) -> int:
    """Returns how many calibration groups a set smaller than all classes takes at least."""
    return ceil(coverage / (1 - coverage) - _ROUNDING)


def contains(probabilities: NDArray[np.float64], labels: NDArray[np.int64], conformal: Conformal) -> NDArray[np.bool_]:
    """Says for each image whether its true class is in its set."""
    return 1 - probabilities[np.arange(len(labels)), labels] <= conformal.quantile


def sizes(probabilities: NDArray[np.float64], conformal: Conformal) -> NDArray[np.int64]:
    """Counts the classes in each image's set."""
    return (1 - probabilities <= conformal.quantile).sum(axis=1)
