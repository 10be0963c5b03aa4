"""Intruder dimensions of an adapter (Shuttleworth et al. 2024, arXiv:2410.21228, Sec. 3): new singular vectors on top.

A left singular vector among the largest ``TOP`` of an adapted weight is an intruder where its absolute cosine with
every left singular vector of the weight before is below ``EPSILON``. Both values are those of PEFT's
``reduce_intruder_dimension``, and the first that of the paper.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from cytolora.models.adapters.peft_modules import is_peft_layer, is_peft_model
from cytolora.models.encoder import Encoder

TOP = 10
"""Largest singular vectors that are looked at, or as many as a weight has."""
EPSILON = 0.5
_INSIDE_PEFT = "base_model.model."


@torch.no_grad()
def count_intruders(before: Encoder, adapted: Encoder) -> dict[str, int]:
    """Returns the number of intruder dimensions of every adapted linear layer, by its name; none is a layer with 0.

    Args:
        before: The encoder that ``adapted`` was attached to.
        adapted: In evaluation mode, neither merged nor made faster.
    """
    return {name: num_intruders(old, new) for name, old, new in _adapted_weights(before, adapted)}


def num_intruders(before: Float[Tensor, "outputs inputs"], after: Float[Tensor, "outputs inputs"]) -> int:
    """Counts the intruder dimensions of one weight."""
    known, found = _left_singular_vectors(before), _left_singular_vectors(after)[:, :TOP]
    nearest = (known.T @ found).abs().amax(dim=0) if known.shape[1] else found.new_zeros(found.shape[1])
    return int((nearest < EPSILON).sum())


def _left_singular_vectors(weight: Float[Tensor, "outputs inputs"]) -> Float64[Tensor, "outputs vectors"]:
    """Returns those of singular values above zero as columns, largest first.

    They are eigenvectors of the smaller Gram matrix: an SVD takes half as long again. Squares lose half of the digits,
    which float64 has to spare.
    """
    weight = weight.double()
    is_wide = weight.shape[0] <= weight.shape[1]
    squares, vectors = torch.linalg.eigh(weight @ weight.T if is_wide else weight.T @ weight)
    kept = squares > len(squares) * torch.finfo(torch.float64).eps * squares.amax()
    vectors = vectors[:, kept]
    return (vectors if is_wide else weight @ vectors / squares[kept].sqrt()).flip(1)


def _adapted_weights(before: Encoder, adapted: Encoder) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yields name, weight before and weight now of every linear layer that an adapter changes, or that trains."""
    by_peft = is_peft_model(adapted.trunk)
    for name, module in adapted.named_modules():
        plain = name.replace(_INSIDE_PEFT, "")
        if by_peft and is_peft_layer(module) and isinstance(old := before.get_submodule(plain), nn.Linear):
            yield plain.removeprefix("trunk."), old.weight, _effective_weight(module, old)  # pyright: ignore
        elif not by_peft and isinstance(module, nn.Linear) and module.weight.requires_grad:
            old = before.get_submodule(plain)
            assert isinstance(old, nn.Linear)
            yield plain.removeprefix("trunk."), old.weight, module.weight


def _effective_weight(layer: nn.Module, before: nn.Linear) -> Float[Tensor, "outputs inputs"]:
    """Returns what a layer multiplies its inputs by: its answers to unit vectors, for every kind of adapter."""
    units = torch.eye(before.in_features, device=before.weight.device)
    return (layer(units) - layer(torch.zeros_like(units[:1]))).T
