"""Packed linear layers: frozen weights laid out once for oneDNN, whose kernels are faster than the default ones.

The interface is private to torch; where it is missing or wrong, the same products are computed with ``F.linear``.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

Precision = Literal["fp32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_PRODUCTS: WeakIdKeyDictionary = WeakIdKeyDictionary()


class FrozenProduct:
    """``x W^T + b`` with a frozen W: laid out once for the forward, and once for the first backward pass."""

    def __init__(
        self, weights: Sequence[Float[Tensor, "_ inputs"]], biases: Sequence[Tensor | None], precision: Precision
    ) -> None:
        """Puts the outputs of layers that read the same input side by side; all have a bias, or none has."""
        self.dtype = DTYPES[precision]
        self._precision: Precision = precision
        self._weights = [weight.detach() for weight in weights]
        self._forward = self._lay_out(self._side_by_side())
        self._backward: Tensor | None = None
        present = [bias.detach() for bias in biases if bias is not None]
        self._bias = torch.cat(present) if present else None  # oneDNN adds an fp32 bias to a bf16 product

    def forward(self, rows: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Multiplies rows of ``dtype`` by the weight."""
        return _product(rows, self._forward, self._bias)

    def backward(self, grads: Float[Tensor, "rows outputs"]) -> Float[Tensor, "rows inputs"]:
        """Maps gradients of the product to those of the rows."""
        if self._backward is None:
            self._backward = self._lay_out(self._side_by_side().t())
        return _product(grads, self._backward, None)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FrozenProduct":
        """Returns itself: nothing changes it, and torch copies no packed tensor."""
        return self

    def _lay_out(self, weight: Tensor) -> Tensor:
        return _pack(weight.contiguous()) if packing_works(self._precision) else weight.contiguous()

    def _side_by_side(self) -> Tensor:
        return torch.cat([weight.to(self.dtype) for weight in self._weights])


def frozen_product(linears: Sequence[nn.Linear], precision: Precision) -> FrozenProduct:
    """Returns the product of frozen layers, laid out once for all who share their weights and while they stay."""
    weights, biases = [linear.weight for linear in linears], [linear.bias for linear in linears]
    first, *others = [tensor for tensor in (*weights, *biases) if tensor is not None]
    state = [
        precision,
        packing_works(precision),
        *((id(part), part.data_ptr(), _version(part)) for part in (first, *others)),
    ]
    cached = _PRODUCTS.get(first)
    cached_state, product = (None, None) if cached is None else (cached[0], cached[2])
    if product is None or cached_state != state:
        product = FrozenProduct(weights, biases, precision)
        _PRODUCTS[first] = (state, others, product)  # with the others, so that no later tensor can have an id of theirs
    return product


class PackedLinear(nn.Module):
    """A frozen ``nn.Linear`` as a ``FrozenProduct``; in bf16 the output is bf16, whatever comes in."""

    def __init__(self, linear: nn.Linear, precision: Precision = "fp32") -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias  # the plain layout: for merging, saving and copying
        self._frozen = frozen_product([linear], precision)
        self._precision: Precision = precision

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """Lays out what is loaded; a copy shares the layout of the original until then."""
        super()._load_from_state_dict(*args, **kwargs)
        biases = [None if self.bias is None else self.bias]
        self._frozen = FrozenProduct([self.weight], biases, self._precision)

    def forward(self, inputs: Float[Tensor, "*batch inputs"]) -> Float[Tensor, "*batch outputs"]:
        """Applies the layer."""
        rows = inputs.reshape(-1, self.in_features).to(self._frozen.dtype)
        product: Tensor = _Product.apply(rows, self._frozen)  # pyright: ignore[reportAssignmentType]
        return product.view(*inputs.shape[:-1], self.out_features)  # here: its output may be changed in place


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, frozen: FrozenProduct) -> Tensor:
        ctx.frozen = frozen
        return frozen.forward(rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.frozen.backward(grads[0]), None


@cache
def packing_works(precision: Precision) -> bool:
    """Whether this torch offers oneDNN's packed product on this processor and it agrees with ``F.linear``.

    Precisions are tried apart: without AVX-512 oneDNN has fp32 alone.
    """
    generator, dtype = torch.Generator().manual_seed(0), DTYPES[precision]
    inputs, weight = (torch.randn(rows, 8, generator=generator).to(dtype) for rows in (3, 4))
    try:
        found = _packed_product(inputs, _pack(weight), None)
    except (AttributeError, RuntimeError, TypeError, NotImplementedError):
        return False
    atol = 1e-5 if precision == "fp32" else 1e-1
    return torch.allclose(found.float(), F.linear(inputs, weight).float(), atol=atol)


def _version(weight: Tensor) -> int:
    return -1 if weight.is_inference() else weight._version  # nothing may change an inference tensor in place


def _product(
    rows: Float[Tensor, "rows inputs"], weight: Tensor, bias: Float[Tensor, " outputs"] | None
) -> Float[Tensor, "rows outputs"]:
    if weight.is_mkldnn:
        return _packed_product(rows, weight, bias)
    return F.linear(rows, weight, None if bias is None else bias.to(rows.dtype))


def _pack(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight)


def _packed_product(rows: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), packed, bias, "none", [], "")
