"""Measured learning curve: right and wrong answers of classifiers trained on more and more labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One seed: its own division of the groups, its own draw of shots."""

    seed: int
    test_labels: NDArray[np.int64]
    """[images]"""
    test_units: NDArray[np.str_]
    """The group of each, or the image where that is not known."""
    is_right: NDArray[np.bool_]
    """[shots, images]"""
    learning_rates: tuple[float, ...]
    """Chosen at each number of shots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A measured learning curve."""

    shots: tuple[int, ...]
    """Labelled images per class to train on, ascending."""
    draws: tuple[Draw, ...]
    available: dict[str, int]
    """By class, images to train on in the smallest of the divisions."""
    by_group: bool
    split_rule: str

    def balanced_accuracies(self, times: Mapping[str, NDArray[np.floating]] | None = None) -> NDArray[np.float64]:
        """Returns balanced accuracy [resamples, draws, shots].

        Args:
            times: How often each unit counts in each resample, by unit, [resamples]; None: once, in one resample.
        """
        return np.stack([_balanced(draw, times) for draw in self.draws], axis=1)


def _balanced(draw: Draw, times: Mapping[str, NDArray[np.floating]] | None) -> NDArray[np.float64]:
    """Balanced accuracy of one draw, [resamples, shots]; over the classes that a resample holds."""
    names, unit = np.unique(draw.test_units, return_inverse=True)
    counted = np.ones((1, len(names))) if times is None else np.stack([times[name] for name in names], axis=1)
    members = (draw.test_labels[:, None] == np.unique(draw.test_labels)).astype(np.float64)
    totals = counted @ _by_unit(members, unit)  # [resamples, classes]
    is_held = totals > 0
    recalls = [
        np.divide(
            counted @ _by_unit(members * right[:, None], unit), totals, out=np.zeros_like(totals), where=is_held
        ).sum(axis=1)
        for right in draw.is_right
    ]
    return np.stack(recalls, axis=1) / np.maximum(1, is_held.sum(axis=1))[:, None]


def _by_unit(counts: NDArray[np.float64], unit: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sums the rows [images, classes] of each unit."""
    sums = np.zeros((unit.max() + 1, counts.shape[1]))
    np.add.at(sums, unit, counts)
    return sums


def rounded_up(labels: float) -> int | None:
    """Returns a whole number of labels; None for no number at all."""
    return ceil(labels - 1e-9) if np.isfinite(labels) else None
