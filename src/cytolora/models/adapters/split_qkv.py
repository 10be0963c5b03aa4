"""Separate q, k and v projections in any timm encoder, so that each can be adapted alone.

timm keeps the three in one ``nn.Linear`` named ``qkv``; PEFT can adapt that only as a whole, with one shared A.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cytolora.errors import ConfigError


class SplitQKV(nn.Module):
    """Three projections in the place of a fused one; returns what that would: q, k and v side by side."""

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        with torch.no_grad():
            self.q_proj, self.k_proj, self.v_proj = (_rows(fused, index) for index in range(3))
        self.first_query_only = False
        """Whether the attention asks with the first token alone (last_block.py)."""
        self.fused: Callable[[Tensor], Tensor] | None = None
        """Computes ``parts`` at once and equal, where something can (fused_lora.py)."""

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """The projections of all tokens: q, k, v, or k and v."""
        return (self.k_proj, self.v_proj) if self.first_query_only else (self.q_proj, self.k_proj, self.v_proj)

    def forward(self, tokens: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "batch tokens parts_x_width"]:
        """Projects the tokens by each of ``parts`` and lays the results side by side."""
        if self.fused is not None:
            return self.fused(tokens)
        return torch.cat([part(tokens) for part in self.parts], dim=-1)


def attention_blocks(trunk: nn.Module) -> list[nn.Module]:
    """Returns the transformer blocks of a timm trunk, in order.

    Raises:
        ConfigError: If the trunk has no ``blocks`` with attention in them.
    """
    blocks = getattr(trunk, "blocks", None)
    if blocks is None or not all(hasattr(block, "attn") for block in blocks):
        raise ConfigError(
            f"{type(trunk).__name__} has no list of attention blocks, which adapters need. Choose a "
            "transformer, or the method linear, which adapts nothing."
        )
    return list(blocks)


def split_qkv(trunk: nn.Module) -> None:
    """Replaces every fused ``qkv`` of a trunk by ``SplitQKV``, in place; the output stays the same.

    Raises:
        ConfigError: If an attention reads the fused weight past its module (BEiT and EVA-01 do): an adapter put there
            would have no effect.
    """
    for block in attention_blocks(trunk):
        attention: Any = block.attn
        if isinstance(getattr(attention, "q_proj", None), nn.Linear):
            continue  # stored apart already, as in EVA-02
        fused = getattr(attention, "qkv", None)
        if isinstance(fused, SplitQKV):
            continue
        if not isinstance(fused, nn.Linear) or getattr(attention, "q_bias", None) is not None:
            raise ConfigError(
                f"The attention of {type(trunk).__name__} does not call its qkv projection as a module, so an adapter "
                "would have no effect. Choose another backbone, or the method linear."
            )
        attention.qkv = SplitQKV(fused)


def fuse_qkv(trunk: nn.Module) -> None:
    """Undoes ``split_qkv`` in place, so that the trunk's state dict has timm's own keys again."""
    for block in attention_blocks(trunk):
        attention: Any = block.attn
        if isinstance(split := getattr(attention, "qkv", None), SplitQKV):
            attention.qkv = _fused(split)


def _rows(fused: nn.Linear, index: int) -> nn.Linear:
    width = fused.out_features // 3
    rows = slice(index * width, (index + 1) * width)
    part = nn.Linear(fused.in_features, width, bias=fused.bias is not None, device="meta")
    part.weight = nn.Parameter(fused.weight[rows].clone(), requires_grad=fused.weight.requires_grad)
    if fused.bias is not None:
        part.bias = nn.Parameter(fused.bias[rows].clone(), requires_grad=fused.bias.requires_grad)
    return part


def _fused(split: SplitQKV) -> nn.Linear:
    parts = (split.q_proj, split.k_proj, split.v_proj)
    width, has_bias = split.q_proj.out_features, split.q_proj.bias is not None
    fused = nn.Linear(split.q_proj.in_features, 3 * width, bias=has_bias, device="meta")
    fused.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]), requires_grad=False)
    if has_bias:
        fused.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]), requires_grad=False)
    return fused
