"""Transductive answer of a run: the images of a subset classified together, from the answer of its head.

As in `predict --transductive`, but for what keeps a slide safe there: the test images of a grid are of all classes, so
that every class may move. The head's probabilities are softened first, by the temperature of the validation images: a
head that is sure of all images, as `gda` is, would leave nothing to the others. Text comes in through the head that
reads it.
"""

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from cytolora.errors import ConfigError
from cytolora.metrics.calibration import fit_temperature
from cytolora.metrics.calibration import probabilities as softmax
from cytolora.training.heads.labelled import Labelled
from cytolora.training.transduction.discriminants import discriminants
from cytolora.training.transduction.mixture import transduce


def classify_together(
    known: Labelled,
    features: Float32[Tensor, "images features"],
    probabilities: Float32[Tensor, "images classes"],
    temperature: float,
) -> Float32[Tensor, "images classes"]:
    """Returns the probabilities of images among each other; those of the head where there is one image.

    Args:
        known: Training images, whose class means and covariance are the anchors.
        probabilities: Of the head.
        temperature: At least 1, of ``softening``.

    Raises:
        ConfigError: If a class has no training image.
    """
    if len(features) < 2:
        return probabilities
    labels = known.labels.numpy()
    if len(set(labels.tolist())) < known.num_classes:
        raise ConfigError(
            "transductive needs a training image of every class, its anchor. Take more shots, or join classes."
        )
    space = discriminants(known.features.numpy(), labels, known.num_classes)
    prior = softmax(_logits(probabilities), temperature)
    found = transduce(space.project(features.numpy()), prior, space.means)
    return torch.from_numpy(found).to(probabilities.dtype)


def softening(probabilities: Float32[Tensor, "images classes"], labels: Int64[Tensor, " images"]) -> float:
    """Returns the temperature of validation images, at least 1: a few that are all right would sharpen; 1 for none."""
    if not len(labels):
        return 1.0
    return max(1.0, fit_temperature(_logits(probabilities), labels.numpy()))


def _logits(probabilities: Float32[Tensor, "images classes"]) -> Float64[np.ndarray, "images classes"]:
    return np.log(np.maximum(probabilities.numpy().astype(np.float64), np.finfo(np.float32).tiny))
