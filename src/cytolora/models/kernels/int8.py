"""Linear layers of a frozen encoder in int8: a scale for each output of the weight, scale and offset for each token.

Both are rounded to 8 bits and multiplied as whole numbers, which processors with VNNI do at twice the rate of bf16. A
token's range is measured when it comes (dynamic quantisation), so that no images are needed in advance and a token with
large values costs the others nothing. The offset matters after GELU, whose outputs lie on one side: there it halves
the step. Errors and speed, and what was tried besides: docs/performance.md.
"""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cytolora.errors import ConfigError
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.encoder import Encoder

_MAX_WEIGHT, _MAX_LEVEL = 127, 255
_LEAST_STEP = 1e-12
"""A token or an output whose values are all equal has no step; this one makes its levels 0."""
_LEAST_INPUTS = 32
"""Narrower layers work on other things than tokens, such as the heads of an attention map, and stay as they are."""


class Int8Linear(nn.Module):
    """A frozen ``nn.Linear`` in int8; for inference alone."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.in_features, self.out_features, self.dtype = linear.in_features, linear.out_features, dtype
        self.weight, self.bias = linear.weight, linear.bias  # the plain layout: for saving and copying
        self._product = Int8Product(linear.weight.detach(), None if linear.bias is None else linear.bias.detach())

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Applies the layer; the output has ``dtype``, whatever comes in."""
        rows = inputs.reshape(-1, self.in_features).float()
        return self._product.forward(rows).to(self.dtype).view(*inputs.shape[:-1], self.out_features)


class Int8Product:
    """``x W^T + b`` with W rounded once and x, row by row, when it comes."""

    def __init__(self, weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, " outputs"] | None) -> None:
        weight = weight.float()
        self._scales = (weight.abs().amax(dim=1) / _MAX_WEIGHT).clamp_min_(_LEAST_STEP)
        rounded = (weight / self._scales[:, None]).round_()
        self._packed = _pack(rounded.to(torch.int8))
        self._sums = rounded.sum(dim=1) * self._scales
        """What the weight makes of a row of ones, and so of the offset of a row."""
        self._bias = torch.zeros(len(weight)) if bias is None else bias.float()

    def forward(self, rows: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Multiplies float32 rows by the weight."""
        least, most = rows.amin(dim=1, keepdim=True), rows.amax(dim=1, keepdim=True)
        step = (most - least).div_(_MAX_LEVEL).clamp_min_(_LEAST_STEP)
        levels = (rows - least).mul_(step.reciprocal()).add_(0.5)
        whole = levels.to(torch.int32).to(torch.uint8)  # directly to uint8 takes three times as long
        product = _multiply(whole, self._packed, self._scales)
        return torch.addcmul(torch.addcmul(self._bias, least, self._sums), product, step)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Int8Product":
        """Returns itself: nothing changes it, and torch copies no packed tensor."""
        return self


def round_blocks(encoder: Encoder, attention_dtype: torch.dtype) -> None:
    """Replaces the linear layers in the blocks of an encoder by ``Int8Linear``, in place.

    No more is rounded to 8 bits: not norms, attention products, pooling, projection and the residual stream, nor the
    first block, whose errors go through all others, and q, k and v of a last block that is read by its first token
    alone, which are a product of their own kind (last_block.py). ``for_inference`` computes linear layers that are left
    in bf16, and all else in fp32, but for families whose attention mixes precisions: there what is left is fp32.

    Args:
        attention_dtype: What the layers of the attention return: that of its products.

    Raises:
        ConfigError: If the encoder has no blocks, or none that calls a linear layer.
    """
    blocks = list(getattr(encoder.trunk, "blocks", ()))
    if not sum(_round(block, torch.float32, attention_dtype) for block in blocks[1:] or blocks):
        raise ConfigError(
            f"{type(encoder.trunk).__name__} has no blocks of attention, whose layers alone are computed in int8. "
            "Leave out the precision, or choose another backbone."
        )


def check_int8(device: str | torch.device) -> None:
    """Raises a ConfigError where int8 cannot be computed."""
    if torch.device(device).type != "cpu":
        raise ConfigError(f"int8 is computed on a CPU, not on {device}. Choose precision fp32, or device cpu.")
    if not int8_works():
        raise ConfigError(
            "int8 needs torch with oneDNN and a processor with AVX-512 VNNI, and here its products are missing or not "
            'exact. Choose precision fp32: --precision fp32, or precision="fp32" from Python.'
        )


@cache
def int8_works() -> bool:
    """Whether this torch offers oneDNN's int8 product on this processor and it is exact.

    Without VNNI the sum of two products saturates at 16 bits: the largest levels and weights are tried.
    """
    sign = torch.tensor([1, 1, -1, 1], dtype=torch.int8).repeat(16)
    weight = torch.stack([sign * _MAX_WEIGHT, -sign, torch.arange(64, dtype=torch.int8)])
    levels = torch.stack([torch.full((64,), _MAX_LEVEL), torch.arange(64) * 4]).to(torch.uint8)
    try:
        found = _multiply(levels, _pack(weight), torch.ones(3))
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    return torch.equal(found, (levels.double() @ weight.double().t()).float())


def _round(module: nn.Module, dtype: torch.dtype, attention_dtype: torch.dtype) -> int:
    """Does it below ``module``; returns the number of layers."""
    num_rounded = 0
    for name, child in module.named_children():
        if type(child) is nn.Linear and child.in_features >= _LEAST_INPUTS:
            setattr(module, name, Int8Linear(child, dtype))
            num_rounded += 1
        elif not isinstance(child, SplitQKV):
            num_rounded += _round(child, attention_dtype if name == "attn" else dtype, attention_dtype)
    return num_rounded


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.onednn.qlinear_prepack(weight, None)


def _multiply(
    levels: UInt8[Tensor, "rows inputs"], packed: Tensor, scales: Float[Tensor, " outputs"]
) -> Float[Tensor, "rows outputs"]:
    zeros = torch.zeros(len(scales), dtype=torch.int64)
    options = (None, 1.0, 0, torch.float32, "none", [], "")  # bias, scale, zero point and type of the output, no more
    return torch.ops.onednn.qlinear_pointwise(levels, 1.0, 0, packed, scales, zeros, *options)
