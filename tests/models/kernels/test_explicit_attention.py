"""The explicit attention of bf16 encoders is timm's, and stays away where something stands between."""

import copy

import pytest
import torch
from small_encoders import relative
from timm.layers.attention import Attention
from torch import nn

from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.kernels import explicit_attention
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


@pytest.mark.parametrize("has_fused_backward", [True, False])
@pytest.mark.parametrize("scale_norm", [False, True])
def test_output_and_gradients_are_those_of_timms_attention(
    scale_norm: bool, has_fused_backward: bool, monkeypatch: pytest.MonkeyPatch
):
    if not has_fused_backward:
        monkeypatch.setattr(explicit_attention, "has_fused_backward", lambda: False)
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


@pytest.mark.parametrize("fault", ["gone", "other arguments", "other numbers"])
def test_a_torch_whose_private_softmax_gradient_is_another_falls_back_to_the_formula(
    fault: str, monkeypatch: pytest.MonkeyPatch
):
    def other(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        if fault == "gone":
            raise AttributeError("'_OpNamespace' 'aten' object has no attribute '_softmax_backward_data'")
        if fault == "other arguments":
            raise TypeError("_softmax_backward_data() takes 3 positional arguments but 4 were given")
        return grad

    monkeypatch.setattr(explicit_attention, "_fused_backward", other)
    explicit_attention.has_fused_backward.cache_clear()
    try:
        assert not explicit_attention.has_fused_backward()
        inputs = torch.randn(2, 5, requires_grad=True)
        weights, grad = inputs.softmax(dim=-1), torch.randn(2, 5)
        weights.backward(grad)
        found = explicit_attention._softmax_backward(grad, weights.detach())
        assert inputs.grad is not None
        torch.testing.assert_close(found, inputs.grad)
    finally:
        explicit_attention.has_fused_backward.cache_clear()
