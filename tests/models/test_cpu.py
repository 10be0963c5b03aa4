import pytest
import torch
from small_towers import FUSED, images, relative, small_tower
from torch import nn

from cytolora.models import cpu
from cytolora.models.adapters import attach
from cytolora.models.cpu import ByteDropout, PackedLinear, packing_works, speed_up
from cytolora.specs import AdapterSpec

needs_packing = pytest.mark.skipif(not packing_works(), reason="this torch has no packed oneDNN product")


def frozen_linear(bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(24, 40, bias=bias).requires_grad_(False)


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 1, 24)])
def test_the_packed_layer_and_its_gradient_equal_the_plain_ones(bias: bool, shape: tuple[int, ...]):
    plain = frozen_linear(bias)
    packed = PackedLinear(plain)
    left, right = (torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    expected, found = plain(left), packed(right)
    assert relative(found, expected) < 1e-5
    expected.square().sum().backward()
    found.square().sum().backward()
    assert left.grad is not None
    assert right.grad is not None
    assert relative(right.grad, left.grad) < 1e-5


@needs_packing
def test_a_sped_up_adapted_tower_has_the_same_output_and_the_same_gradients():
    torch.manual_seed(0)
    plain = attach(small_tower(FUSED), "lora", AdapterSpec(targets=("q", "k", "v", "o")))
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    torch.manual_seed(0)
    fast = attach(small_tower(FUSED), "lora", AdapterSpec(targets=("q", "k", "v", "o")))
    fast.load_state_dict(plain.state_dict())
    speed_up(fast)
    assert any(isinstance(module, PackedLinear) for module in fast.modules())
    batch = images(FUSED)
    plain.eval()
    fast.eval()
    assert relative(fast(batch), plain(batch)) < 1e-5
    plain(batch).square().sum().backward()
    fast(batch).square().sum().backward()
    for left, right in zip(plain.parameters(), fast.parameters(), strict=True):
        assert (left.grad is None) == (right.grad is None)
        if left.grad is not None and right.grad is not None:
            assert relative(right.grad, left.grad) < 1e-5


@needs_packing
def test_a_sped_up_tower_is_not_sped_up_where_it_trains():
    module = nn.Sequential(nn.Linear(4, 4), frozen_linear())
    speed_up(module)
    assert type(module[0]) is nn.Linear
    assert isinstance(module[1], PackedLinear)


def test_dropout_by_bytes_keeps_the_share_and_the_mean():
    torch.manual_seed(0)
    ones = torch.ones(400, 501)
    dropped = ByteDropout(0.25).train()(ones)
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.01)
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert dropped.mean() == pytest.approx(1, abs=0.01)


def test_dropout_by_bytes_draws_a_new_mask_each_time_from_the_seed_and_none_in_evaluation():
    layer, ones = ByteDropout(0.5).train(), torch.ones(33, 7)
    torch.manual_seed(0)
    first, second = layer(ones), layer(ones)
    torch.manual_seed(0)
    assert torch.equal(layer(ones), first)
    assert not torch.equal(first, second)
    assert torch.equal(layer.eval()(ones), ones)


def test_dropout_by_bytes_passes_the_gradient_where_it_passes_the_value():
    ones = torch.ones(50, 3, requires_grad=True)
    dropped = ByteDropout(0.25).train()(ones)
    dropped.sum().backward()
    assert ones.grad is not None
    assert torch.equal(ones.grad, dropped.detach())


def test_a_dropout_that_bytes_cannot_express_stays_as_it_is():
    module = nn.Sequential(nn.Dropout(0.1), nn.Dropout(0.25), nn.Dropout(0))
    speed_up(module)
    assert [type(child) for child in module] == [nn.Dropout, ByteDropout, nn.Dropout]


def test_without_the_private_product_nothing_is_packed(monkeypatch: pytest.MonkeyPatch):
    def missing(*_: object) -> torch.Tensor:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_linear_pointwise'")

    monkeypatch.setattr(cpu, "_product", missing)
    cpu.packing_works.cache_clear()
    try:
        module = nn.Sequential(frozen_linear())
        speed_up(module)
        assert type(module[0]) is nn.Linear
    finally:
        cpu.packing_works.cache_clear()
