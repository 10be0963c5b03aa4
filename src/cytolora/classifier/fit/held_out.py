"""Held-out images of `fit`: their division by group, and the learning rate chosen on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolora.data.manifest import Sample
from cytolora.data.splitting.partition import partition
from cytolora.errors import ConfigError, DataError
from cytolora.metrics import units
from cytolora.metrics.calibration import cross_entropy, probabilities
from cytolora.metrics.scores import score
from cytolora.training.protocol import Protocol
from cytolora.training.selection import choose_learning_rate


@dataclass(frozen=True, kw_only=True)
class RateScores:
    """Scores of one learning rate on images that were not trained on; under these keys in ``bundle.json``."""

    rate: float
    balanced_accuracy: float
    accuracy: float
    loss: float
    """Cross-entropy before the temperature, nats."""


def best_rate(
    protocol: Protocol, held_out: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[int, tuple[RateScores, ...]]:
    """Returns the index of the chosen learning rate, and the scores of every rate at which training converged.

    Args:
        held_out: Logits [rates, images, classes]; a rate at which training diverged holds NaN and is not chosen.

    Raises:
        ConfigError: If training diverged at every rate.
    """
    rates = protocol.learning_rates
    tried = tuple(
        _scores(rate, logits, labels) for rate, logits in zip(rates, held_out, strict=True) if np.isfinite(logits).all()
    )
    if not tried:
        raise ConfigError(
            f"Training diverged at every learning rate: {', '.join(map(str, rates))}. Give lower learning rates."
        )
    by_rate = {
        scores.rate: {protocol.metric: getattr(scores, protocol.metric), "loss": scores.loss} for scores in tried
    }
    return rates.index(choose_learning_rate(by_rate, protocol.metric)), tried


def _scores(rate: float, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> RateScores:
    by_image = probabilities(logits, 1.0)
    scores = score(labels, by_image)
    return RateScores(
        rate=rate,
        balanced_accuracy=scores["balanced_accuracy"],
        accuracy=scores["accuracy"],
        loss=cross_entropy(labels, by_image),
    )


def unit_names(samples: Sequence[Sample]) -> list[str]:
    """Names the group of each image, or the image itself; see ``metrics.units.unit_names``."""
    return units.unit_names([sample.group for sample in samples], [sample.path for sample in samples])


def halves(
    samples: tuple[Sample, ...], name: str, needed_groups: int
) -> tuple[tuple[Sample, ...], tuple[Sample, ...], tuple[str, ...]]:
    """Returns the images to choose the learning rate on, those to calibrate on, and what the user should know.

    The same images do both where a class comes from one group only, or where only all of them together hold the
    ``needed_groups`` of calibration.
    """
    divided, num_groups = _by_group(samples, name), len(set(unit_names(samples)))
    if divided is not None and (num_groups < needed_groups or len(set(unit_names(divided[1]))) >= needed_groups):
        return *divided, ()
    note = (
        "Too few held-out groups to choose and to calibrate on different ones: the same images did both, so "
        "probabilities and prediction sets are somewhat too sure."
    )
    return samples, samples, (note,)


def _by_group(samples: tuple[Sample, ...], name: str) -> tuple[tuple[Sample, ...], tuple[Sample, ...]] | None:
    """Divides images by group into two halves; None where a class comes from one group only."""
    try:
        subsets = partition(name, samples, {"train": 0.5, "val": 0.5}, by="group", seed=0).subsets
    except DataError:
        return None
    first, second = (tuple(one for one in samples if subsets[one.path] == half) for half in ("train", "val"))
    return first, second
