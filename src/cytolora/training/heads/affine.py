"""Affine heads on frozen features of length 1: ``W z + b`` with ``z = (f - centre) / |f - centre|``."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Float64
from torch import Tensor

from cytolora.models.encoder_with_head import head_state

_CENTRE = "head.centre"
ABSENT = -1e4
"""Bias of a class without a training image: its probability is 0, and the head stays finite."""


@dataclass(frozen=True, kw_only=True)
class AffineHead:
    """Weight, bias and centre of a fitted head."""

    weight: Float32[Tensor, "classes features"]
    bias: Float32[Tensor, " classes"]
    centre: Float32[Tensor, " features"] | None = None
    """Taken away from features before they are scaled; None: nothing."""

    @staticmethod
    def of(state: Mapping[str, Tensor]) -> "AffineHead":
        """Reads what ``state`` gave."""
        return AffineHead(weight=state["head.weight"], bias=state["head.bias"], centre=state.get(_CENTRE))

    @staticmethod
    def of_classes(
        weight: Float64[np.ndarray, "present features"],
        bias: Float64[np.ndarray, " present"],
        present: np.ndarray,
        num_classes: int,
        centre: Float32[Tensor, " features"] | None = None,
    ) -> "AffineHead":
        """Builds a head of some of the classes; the others are never predicted.

        Args:
            present: Index of the class of each row of ``weight``, ascending.
        """
        weights, biases = np.zeros((num_classes, weight.shape[1])), np.full(num_classes, ABSENT)
        weights[present], biases[present] = weight, bias
        return AffineHead(
            weight=torch.from_numpy(weights).float(), bias=torch.from_numpy(biases).float(), centre=centre
        )

    def state(self) -> dict[str, Tensor]:
        """Names the tensors as they are stored."""
        state = head_state(self.weight, self.bias)
        return state if self.centre is None else {**state, _CENTRE: self.centre}

    def logits(self, features: Float[Tensor, "images features"]) -> Float32[Tensor, "images classes"]:
        """Applies the head to features of any length."""
        return scaled(features, self.centre) @ self.weight.T + self.bias


def scaled(
    features: Float[Tensor, "images features"], centre: Float[Tensor, " features"] | None = None
) -> Float[Tensor, "images features"]:
    """Takes the centre away and scales every row to length 1."""
    return F.normalize(features if centre is None else features - centre, dim=1)
