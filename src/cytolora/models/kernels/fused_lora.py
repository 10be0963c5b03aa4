"""LoRA on fused q, k and v projections: one product and one autograd node, the hot spot of a LoRA step.

The arithmetic is that of PEFT's layers, one by one; what is saved is the concatenation, the separate input gradients,
and the intermediate results that plain autograd keeps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from cytolora.models.adapters.peft_modules import is_lora_linear, is_stock_lora_linear
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.kernels.packed import FrozenProduct, Precision, frozen_product
from cytolora.models.kernels.pass_rows import rows_now

if TYPE_CHECKING:
    from peft.tuners.lora import Linear as LoraLinear

NUM_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Branch:
    """LoRA on one projection: ``s B A dropout(x)`` (Dausort et al. 2025, eq. 2), added to columns of the product."""

    columns: slice
    down: Float[nn.Parameter, "rank width"]
    """A."""
    up: Float[nn.Parameter, "out rank"]
    """B."""
    scaling: float
    dropout: float


class FusedLora:
    """Computes what a ``SplitQKV`` computes whose projections are frozen, with stock LoRA or nothing on each."""

    def __init__(self, split: SplitQKV, precision: Precision) -> None:
        self._split = split
        self._precision: Precision = precision
        self._linears = [_base(part) for part in split.parts]
        self._frozen = frozen_product(self._linears, precision)
        self._merged: tuple[list[Tensor], FrozenProduct] | None = None
        width = self._linears[0].out_features
        self._branches = [
            _branch(part, slice(index * width, (index + 1) * width))
            for index, part in enumerate(split.parts)
            if is_lora_linear(part)
        ]

    def __call__(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens parts_x_width"]:
        """Projects the tokens and lays the results side by side."""
        rows = tokens.reshape(-1, tokens.shape[-1]).to(self._frozen.dtype)
        if torch.is_inference_mode_enabled() and not self._split.training:
            return self._merged_product().forward(rows).view(*tokens.shape[:-1], -1)
        is_training = self._split.training
        kept = [
            draw_kept(rows, branch.dropout) if is_training and branch.dropout else None for branch in self._branches
        ]
        trained = [parameter for branch in self._branches for parameter in (branch.down, branch.up)]
        out: Tensor = _Fused.apply(rows, self._frozen, self._branches, kept, *trained)  # pyright: ignore
        return out.view(*tokens.shape[:-1], -1)

    def _merged_product(self) -> FrozenProduct:
        """Returns the product with LoRA added into the weights: kept while A and B have the same values.

        Values, not torch's count of changes, which misses those made through ``.data``; A and B are small.
        """
        if not self._branches:
            return self._frozen
        trained = [parameter.detach() for branch in self._branches for parameter in (branch.down, branch.up)]
        if self._merged is None or not all(map(torch.equal, self._merged[0], trained)):
            weights = [linear.weight.detach().clone() for linear in self._linears]
            for branch in self._branches:
                index = branch.columns.start // self._linears[0].out_features
                weights[index].addmm_(branch.up.detach(), branch.down.detach(), alpha=branch.scaling)
            product = FrozenProduct(weights, [linear.bias for linear in self._linears], self._precision)
            self._merged = ([tensor.clone() for tensor in trained], product)
        return self._merged[1]


def can_fuse(split: SplitQKV) -> bool:
    """Whether every projection is frozen and has nothing on it, or stock LoRA with a dropout that bytes can express."""
    return all(_is_frozen(part) or _is_stock(part) for part in split.parts)


def only_lora_trains(encoder: nn.Module) -> bool:
    """Whether all that trains is stock LoRA, whose layers take inputs of any precision and return what they got."""
    layers = [module for module in encoder.modules() if is_lora_linear(module) and not module.lora_variant]
    inside = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return all(id(parameter) in inside for parameter in encoder.parameters() if parameter.requires_grad)


def _is_frozen(part: nn.Module) -> bool:
    return type(part) is nn.Linear and not any(parameter.requires_grad for parameter in part.parameters())


def _is_stock(part: nn.Module) -> bool:
    return (
        is_stock_lora_linear(part)
        and list(part.active_adapters) == ["default"]
        and not part.lora_variant
        and not part.lora_bias["default"]
        and not part.merged
        and _is_frozen(part.base_layer)  # pyright: ignore[reportArgumentType]
        and (_dropout(part) * NUM_BYTES).is_integer()
    )


def _base(part: nn.Module) -> nn.Linear:
    linear = part.base_layer if is_lora_linear(part) else part
    assert isinstance(linear, nn.Linear)
    return linear


def _branch(layer: "LoraLinear", columns: slice) -> _Branch:
    return _Branch(
        columns=columns,
        down=layer.lora_A["default"].weight,  # pyright: ignore[reportArgumentType]
        up=layer.lora_B["default"].weight,  # pyright: ignore[reportArgumentType]
        scaling=float(layer.scaling["default"]),
        dropout=_dropout(layer),
    )


def _dropout(layer: "LoraLinear") -> float:
    return float(getattr(layer.lora_dropout["default"], "p", 0.0))


def draw_kept(like: Float[Tensor, "*shape"], dropout: float) -> UInt8[Tensor, "*shape"]:
    """Draws a dropout mask of 0 and 1, each from one random byte.

    Not bool: torch compares in place and converts whole numbers six to nine times faster than it makes or reads bools.
    """
    return random_bytes(like).ge_(int(dropout * NUM_BYTES))


def random_bytes(like: Float[Tensor, "*shape"]) -> UInt8[Tensor, "*shape"]:
    """Draws uniform bytes from torch's global random state, in a fifth of the time that floats take.

    Of a part of a pass, those that the whole pass gives its rows.
    """
    rows = rows_now()
    shape = like.shape if rows is None else rows.shape_of_all(like.shape)
    count = math.prod(shape)
    words = torch.empty(-(-count // 8), dtype=torch.int64).random_(-(2**63), None)
    drawn = words.view(torch.uint8)[:count].view(shape)
    return drawn if rows is None else rows.of(drawn)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Float[Tensor, "rows width"],
        frozen: FrozenProduct,
        branches: Sequence[_Branch],
        kept: Sequence[Tensor | None],
        *trained: Tensor,
    ) -> Float[Tensor, "rows parts_x_width"]:
        out, lows = frozen.forward(rows), []
        for branch, mask, down, up in zip(branches, kept, trained[::2], trained[1::2], strict=True):
            low = F.linear(_dropped(rows, mask), down.to(rows.dtype))
            out[:, branch.columns].addmm_(low, up.t().to(rows.dtype), alpha=_factor(branch, mask))
            lows.append(low)
        ctx.frozen, ctx.branches, ctx.num_lows = frozen, branches, len(lows)
        ctx.has_mask = [mask is not None for mask in kept]
        ctx.save_for_backward(rows, *trained, *lows, *(mask for mask in kept if mask is not None))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, *saved = ctx.saved_tensors
        num = ctx.num_lows
        trained, lows, masks = saved[: 2 * num], saved[2 * num : 3 * num], iter(saved[3 * num :])
        grad_rows = ctx.frozen.backward(grads[0]) if ctx.needs_input_grad[0] else None
        grads_of_trained: list[Tensor | None] = []
        for index, branch in enumerate(ctx.branches):
            mask = next(masks) if ctx.has_mask[index] else None
            down, up = trained[2 * index], trained[2 * index + 1]
            factor, grad = _factor(branch, mask), grads[0][:, branch.columns]
            grad_up = (lows[index].t() @ grad).t().mul(factor)  # this way round: the other is five times slower
            grad_low = F.linear(grad, up.t().contiguous().to(rows.dtype)).mul_(factor)
            grad_down = grad_low.t() @ _dropped(rows, mask)
            if grad_rows is not None:
                grad_rows.add_(_dropped(grad_low @ down.to(rows.dtype), mask))
            grads_of_trained += [grad_down.to(down.dtype), grad_up.to(up.dtype)]
        return grad_rows, None, None, None, *grads_of_trained


def _factor(branch: _Branch, mask: Tensor | None) -> float:
    """The scaling of a branch; that of what dropout leaves is taken into it."""
    return branch.scaling if mask is None else branch.scaling / (1 - branch.dropout)


def _dropped(rows: Tensor, mask: Tensor | None) -> Tensor:
    return rows if mask is None else mask.to(rows.dtype).mul_(rows)
