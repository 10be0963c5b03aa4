"""What makes an adapted tower faster on a CPU and leaves its numbers as they are, to the last few bits of fp32.

Two exact levers (figures in docs/performance.md): frozen weights laid out once for oneDNN, whose kernels reach on some
processors twice what the default ones do; and dropout masks drawn from bytes instead of floats.
"""

from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BYTE = 256


def speed_up(module: nn.Module) -> None:
    """Replaces frozen fp32 linear layers and dropouts below ``module`` by faster equals, in place; CPU only.

    Whatever trains, and layers that hold trainable parts themselves, stay as they are.
    """
    for name, child in module.named_children():
        if type(child) is nn.Linear and _is_frozen(child) and packing_works():
            setattr(module, name, PackedLinear(child))
        elif type(child) is nn.Dropout and child.p > 0 and (child.p * _BYTE).is_integer():
            setattr(module, name, ByteDropout(child.p))
        else:
            speed_up(child)


class PackedLinear(nn.Module):
    """A frozen ``nn.Linear`` with its weight laid out for oneDNN: once for the forward, once for the backward pass."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias  # the plain layout: for merging, saving and copying
        self._forward, self._backward = _pack(linear.weight), _pack(linear.weight.t())

    def forward(self, inputs: Tensor) -> Tensor:
        """Maps [..., in_features] to [..., out_features]."""
        rows = inputs.reshape(-1, self.in_features)  # outside the function, so that its output may be changed in place
        product: Tensor = _PackedProduct.apply(rows, self._forward, self._backward, self.bias)  # pyright: ignore
        return product.view(*inputs.shape[:-1], self.out_features)


class ByteDropout(nn.Module):
    """Dropout whose mask costs one random byte an element; ``p`` is a multiple of 1/256."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inputs: Tensor) -> Tensor:
        """Zeroes elements with probability p while training, and scales the others by 1 / (1 - p)."""
        if not self.training:
            return inputs
        num_words = -(-inputs.numel() // 8)
        words = torch.empty(num_words, dtype=torch.int64).random_(-(2**63), None)
        keep = words.view(torch.uint8)[: inputs.numel()].view(inputs.shape) >= int(self.p * _BYTE)
        return inputs * (keep * (1 / (1 - self.p)))


class _PackedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, packed: Tensor, packed_back: Tensor, bias: Tensor | None) -> Tensor:
        ctx.packed_back = packed_back
        return _product(inputs, packed, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _product(grads[0], ctx.packed_back, None), None, None, None


@cache
def packing_works() -> bool:
    """Whether this torch offers oneDNN's packed product and it agrees with ``F.linear``; it is a private interface."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(3, 8, generator=generator), torch.randn(4, 8, generator=generator)
    try:
        return torch.allclose(_product(inputs, _pack(weight), None), F.linear(inputs, weight), atol=1e-5)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous())


def _product(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs.contiguous(), packed, bias, "none", [], "")


def _is_frozen(linear: nn.Linear) -> bool:
    frozen = all(not parameter.requires_grad for parameter in linear.parameters())
    return frozen and linear.weight.dtype == torch.float32 and linear.weight.device.type == "cpu"
