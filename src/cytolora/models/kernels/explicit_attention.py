"""Explicit attention for bf16 on a CPU: plain products, one copy on the way in and one on the way out.

torch's fused kernel takes twice as long there, and timm's explicit form copies q, k and v one by one (figures in
docs/performance.md). The arithmetic is timm's; the scale goes into the product.
"""

from functools import cache
from types import MethodType
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.attention import Attention
from torch import Tensor, nn

from cytolora.models.adapters.split_qkv import SplitQKV


def attend_explicitly(module: nn.Module) -> None:
    """Changes timm's attention in place, where no other operation is between its q, k, v and their products."""
    attention: Any = module
    if type(module) is not Attention or attention.gate is not None or attention.attn_drop.p:
        return
    if not isinstance(attention.qkv, SplitQKV) or attention.qkv.first_query_only:
        return
    if type(attention.q_norm) is nn.Identity and type(attention.k_norm) is nn.Identity:
        attention.forward = MethodType(_forward, attention)


def _forward(
    attention: Any,
    tokens: Float[Tensor, "batch tokens width"],
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
) -> Float[Tensor, "batch tokens width"]:
    """Computes what timm's ``Attention.forward`` does."""
    if attn_mask is not None or is_causal:
        return Attention.forward(attention, tokens, attn_mask, is_causal)
    mixed: Tensor = _Attend.apply(attention.qkv(tokens), attention.num_heads, attention.scale)  # pyright: ignore
    return attention.proj_drop(attention.proj(attention.norm(mixed)))


class _Attend(torch.autograd.Function):
    """``softmax(scale q k^T) v`` for q, k and v side by side; all heads in one product."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Float[Tensor, "batch tokens _"], num_heads: int, scale: float
    ) -> Float[Tensor, "batch tokens width"]:
        batch, tokens, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
        apart = qkv.view(batch, tokens, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = parts = apart.reshape(3, batch * num_heads, tokens, -1)
        weights = torch.baddbmm(query.new_empty(1), query, key.mT, beta=0, alpha=scale).softmax(dim=-1)
        ctx.save_for_backward(parts, weights)
        ctx.shape, ctx.scale = apart.shape, scale
        return (weights @ value).view(apart.shape[1:]).transpose(1, 2).reshape(batch, tokens, width)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (parts, weights), (_, batch, num_heads, tokens, size) = ctx.saved_tensors, ctx.shape
        query, key, value = parts
        grad = grads[0].view(batch, tokens, num_heads, size).transpose(1, 2).reshape(-1, tokens, size)
        grad_parts, unused = torch.empty_like(parts), grad.new_empty(1)
        torch.bmm(weights.mT, grad, out=grad_parts[2])
        scores = _softmax_backward(grad @ value.mT, weights)
        torch.baddbmm(unused, scores, key, beta=0, alpha=ctx.scale, out=grad_parts[0])
        torch.baddbmm(unused, scores.mT, query, beta=0, alpha=ctx.scale, out=grad_parts[1])
        side_by_side = grad_parts.view(ctx.shape).permute(1, 3, 0, 2, 4).reshape(batch, tokens, -1)
        return side_by_side, None, None


def _softmax_backward(grad: Tensor, weights: Tensor) -> Tensor:
    """Maps gradients of softmax's output along the last dimension to those of its input."""
    return _fused_backward(grad, weights) if has_fused_backward() else _plain_backward(grad, weights)


def _fused_backward(grad: Tensor, weights: Tensor) -> Tensor:
    return torch.ops.aten._softmax_backward_data(grad, weights, -1, weights.dtype)


def _plain_backward(grad: Tensor, weights: Tensor) -> Tensor:
    weighted = grad * weights
    return weighted.sub_(weights * weighted.sum(dim=-1, keepdim=True))


@cache
def has_fused_backward() -> bool:
    """Whether torch's private operation behind softmax's gradient is there and computes it."""
    weights = torch.tensor([[0.25, 0.75]])
    grad = torch.tensor([[1.0, -1.0]])
    try:
        return torch.allclose(_fused_backward(grad, weights), _plain_backward(grad, weights))
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
