"""Fitted heads by method: training images to what is stored, and that to class probabilities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from cytolora.config.run import HeadSpec
from cytolora.errors import ConfigError
from cytolora.training.heads.affine import AffineHead
from cytolora.training.heads.labelled import Labelled
from cytolora.training.heads.means import gaussian, nearest_mean
from cytolora.training.heads.neighbours import choose_k, smoothed_votes
from cytolora.training.heads.penalised import logistic, ridge

State = dict[str, Tensor]
"""What is stored of a head, by name."""
_NEIGHBOURS = "neighbours"


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedHead:
    """How a head is solved, and how it predicts."""

    fit: Callable[[Labelled, Labelled, HeadSpec, int], State]
    """Training images, validation images, hyper-parameters and seed."""
    probabilities: Callable[[State, Labelled, Tensor], Float32[Tensor, "queries classes"]]
    """State, training images, and features of the images to classify."""


def _affine(fit: Callable[[Labelled, HeadSpec, int], AffineHead]) -> FittedHead:
    return FittedHead(
        fit=lambda known, _, spec, seed: fit(known, spec, seed).state(),
        probabilities=lambda state, _, features: AffineHead.of(state).logits(features).softmax(dim=1),
    )


def _choose_neighbours(known: Labelled, val: Labelled, spec: HeadSpec, seed: int) -> State:
    if spec.neighbours is not None and spec.neighbours > len(known.labels):
        raise ConfigError(
            f"knn asks for {spec.neighbours} neighbours, but there are {len(known.labels)} training images. Give fewer."
        )
    k = spec.neighbours or choose_k(known, val.features, val.labels)
    return {_NEIGHBOURS: torch.tensor(k)}


HEADS: Mapping[str, FittedHead] = {
    "gda": _affine(lambda known, spec, seed: gaussian(known, spec)),
    "logistic": _affine(lambda known, spec, seed: logistic(known, spec, seed=seed)),
    "ridge": _affine(lambda known, spec, seed: ridge(known, spec, seed=seed)),
    "nearest-mean": _affine(lambda known, spec, seed: nearest_mean(known, spec)),
    "knn": FittedHead(
        fit=_choose_neighbours,
        probabilities=lambda state, known, features: smoothed_votes(known, features, k=int(state[_NEIGHBOURS])),
    ),
}
"""By method, those of ``models.adapters.head_methods.FITTED``."""
