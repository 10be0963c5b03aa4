"""The explicit attention of bf16 encoders is timm's, and stays away where something stands between."""

import copy

import pytest
import torch
from small_encoders import relative
from timm.layers.attention import Attention
from torch import nn

from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.kernels.explicit_attention import attend_explicitly


def attention(**arguments: bool) -> Attention:
    torch.manual_seed(0)
    made = Attention(24, num_heads=3, qkv_bias=True, norm_layer=nn.LayerNorm, **arguments).eval()
    assert isinstance(made.qkv, nn.Linear)
    made.qkv = SplitQKV(made.qkv)  # pyright: ignore[reportAttributeAccessIssue]
    return made


def explicit(plain: Attention) -> Attention:
    changed = copy.deepcopy(plain)
    attend_explicitly(changed)
    return changed


@pytest.mark.parametrize("scale_norm", [False, True])
def test_output_and_gradients_are_those_of_timms_attention(scale_norm: bool):
    plain = attention(scale_norm=scale_norm)
    changed = explicit(plain)
    assert "forward" in vars(changed)
    left, right = (torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    expected, found = plain(left), changed(right)
    assert relative(found, expected) < 1e-5
    weights = torch.randn(2, 7, 24)
    (expected * weights).sum().backward()
    (found * weights).sum().backward()
    assert left.grad is not None
    assert right.grad is not None
    assert relative(right.grad, left.grad) < 1e-5
    for one, other in zip(plain.parameters(), changed.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(other.grad, one.grad, atol=1e-5)


def test_a_mask_is_timms_business():
    plain = attention()
    tokens, mask = torch.randn(2, 7, 24), torch.ones(7, 7, dtype=torch.bool).tril()
    found = explicit(plain)(tokens, attn_mask=mask)
    assert relative(found, plain(tokens, attn_mask=mask)) < 1e-6
    assert relative(found, plain(tokens)) > 1e-3


@pytest.mark.parametrize("arguments", [{"qk_norm": True}, {"gated": True}])
def test_an_attention_with_more_in_it_stays_as_it_is(arguments: dict[str, bool]):
    assert "forward" not in vars(explicit(attention(**arguments)))
