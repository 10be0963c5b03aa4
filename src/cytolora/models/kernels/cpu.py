"""Faster encoders: fp32 equal to the last few bits, or bf16 where it is asked for.

On a CPU (figures in docs/performance.md): frozen weights laid out once for oneDNN, q, k, v and their LoRA as one
product, dropout masks from bytes, and in bf16 explicit attention, which is faster there than torch's fused one (in fp32
it is slower). The residual stream, norms, pooling and head stay fp32. Elsewhere autocast chooses.
"""

import copy
import ctypes
import sys
from typing import Literal

import torch
from jaxtyping import Float
from timm.layers.attention import Attention, AttentionRope
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from cytolora.models.adapters.reference_attention import ReferenceAttention
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.encoder import Encoder
from cytolora.models.kernels.explicit_attention import attend_explicitly
from cytolora.models.kernels.fused_lora import NUM_BYTES, FusedLora, can_fuse, draw_kept, only_lora_trains
from cytolora.models.kernels.int8 import check_int8, round_blocks
from cytolora.models.kernels.last_block import read_first_token_only
from cytolora.models.kernels.packed import DTYPES, PackedLinear, Precision, packing_works

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Numbers of glibc's malloc.h (mallopt(3))."""

_IN_ONE_PRECISION = (Attention, AttentionRope, EvaAttention, ReferenceAttention)
"""Attention that computes in the precision of its q, k and v. Others mix these with fp32 tensors of their own (XCiT's
temperature, SAM's relative positions), which fails unless autocast makes them equal."""


def for_inference(encoder: Encoder, device: torch.device, precision: Precision | Literal["int8"] = "fp32") -> Encoder:
    """Returns a copy of a frozen encoder that gives the same features faster; the weights are shared.

    In bf16 features differ by about 1 % of their size, in int8 by 3 % (docs/performance.md). A family of encoders that
    needs autocast for bf16 stays fp32, and in int8 what int8 leaves: all but its linear layers.

    Raises:
        ConfigError: If int8 is asked for and cannot be computed.
    """
    if precision == "int8":
        check_int8(device)
    fast = encoder.sharing_weights().eval()
    read_first_token_only(fast)
    if device.type == "cpu":
        rest: Precision = "fp32" if precision == "fp32" or not _attends_in_one_precision(fast) else "bf16"
        if precision == "int8":
            round_blocks(fast, DTYPES[rest])
        speed_up(fast, rest)
    return fast.to(device)


def for_training(encoder: Encoder, device: torch.device, precision: Precision) -> bool:
    """Makes an adapted encoder faster, in place; returns whether it needs torch's autocast for its precision."""
    read_first_token_only(encoder)
    if device.type == "cpu":
        speed_up(encoder, precision)
        return precision == "bf16" and not (only_lora_trains(encoder) and _attends_in_one_precision(encoder))
    if precision == "bf16":
        _hold_in_bf16(encoder)
    return precision == "bf16"


def speed_up(module: nn.Module, precision: Precision = "fp32") -> None:
    """Replaces frozen linear layers and dropouts below ``module`` by faster equals, in place; CPU only.

    Of an ``Encoder``, the blocks alone compute in bf16: what reads their residual stream - norms, pooling, projection -
    stays fp32. Whatever trains, and layers that hold trainable parts themselves, stay as they are. Do it last: weights
    that are changed or merged afterwards are not seen.
    """
    if not isinstance(module, Encoder):
        _speed_up(module, precision)
        return
    blocks = getattr(module.trunk, "blocks", None)
    if blocks is not None:
        _speed_up(blocks, precision)
    _speed_up(module, "fp32", but=blocks)


def _speed_up(module: nn.Module, precision: Precision, *, but: nn.Module | None = None) -> None:
    """Does it below ``module``, and leaves out what is below ``but``."""
    for name, child in module.named_children():
        if child is but:
            continue
        if isinstance(child, SplitQKV) and _worth_it(precision) and can_fuse(child):
            child.fused = FusedLora(child, precision)
            if child.first_query_only:
                query = nn.ModuleDict({"q_proj": child.q_proj})
                _speed_up(query, precision)
                child.set_submodule("q_proj", query["q_proj"])
        elif type(child) is nn.Linear and _worth_it(precision) and _is_frozen(child):
            setattr(module, name, PackedLinear(child, precision))
        elif type(child) is nn.Dropout and child.p > 0 and (child.p * NUM_BYTES).is_integer():
            setattr(module, name, ByteDropout(child.p).train(child.training))
        else:
            _speed_up(child, precision, but=but)
    if precision == "bf16" and getattr(module, "fused_attn", False):
        if isinstance(qkv := getattr(module, "qkv", None), SplitQKV) and qkv.fused:  # others leave it to autocast
            attend_explicitly(module)
        module.fused_attn = False  # pyright: ignore[reportArgumentType]  (timm's name for torch's fused attention)


class ByteDropout(nn.Module):
    """Dropout whose mask costs one random byte an element; ``p`` is a multiple of 1/256."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, inputs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Zeroes elements with probability p while training, and scales the others by 1 / (1 - p)."""
        if not self.training:
            return inputs
        return inputs * draw_kept(inputs, self.p).to(inputs.dtype).mul_(1 / (1 - self.p))


def keep_freed_memory() -> None:
    """Asks glibc to give freed memory out again instead of returning it to the system; nothing where there is no glibc.

    A step allocates the same large tensors as the one before it. Fetched from the system, each of their pages costs a
    fault and is zeroed again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _hold_in_bf16(module: nn.Module) -> None:
    """Replaces frozen linear layers by copies in bf16, which autocast then need not cast at every step."""
    for name, child in module.named_children():
        if type(child) is nn.Linear and not any(parameter.requires_grad for parameter in child.parameters()):
            setattr(module, name, copy.deepcopy(child).to(torch.bfloat16))
        else:
            _hold_in_bf16(child)


def _attends_in_one_precision(encoder: Encoder) -> bool:
    blocks = getattr(encoder.trunk, "blocks", None)
    return blocks is not None and all(type(getattr(block, "attn", None)) in _IN_ONE_PRECISION for block in blocks)


def _worth_it(precision: Precision) -> bool:
    return precision == "bf16" or packing_works(precision)


def _is_frozen(linear: nn.Linear) -> bool:
    frozen = all(not parameter.requires_grad for parameter in linear.parameters())
    return frozen and linear.weight.device.type == "cpu"
