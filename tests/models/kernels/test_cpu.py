import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_encoders import FUSED, images, relative, shrunk, small_encoder
from torch import nn

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.methods import METHODS
from cytolora.models.adapters.split_qkv import SplitQKV
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.models.kernels import cpu, packed
from cytolora.models.kernels.cpu import ByteDropout, for_inference, speed_up
from cytolora.models.kernels.fused_lora import only_lora_trains
from cytolora.models.kernels.last_block import read_first_token_only
from cytolora.models.kernels.packed import PackedLinear, packing_works

needs_packing = pytest.mark.skipif(not packing_works("fp32"), reason="this torch has no packed oneDNN product")


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


def adapted(method: str = "lora", adapter: AdapterSpec | None = None) -> Encoder:
    encoder = small_encoder(FUSED)  # first: building it draws from the global state
    torch.manual_seed(0)
    encoder = attach(encoder, method, adapter or AdapterSpec(targets=("q", "k", "v", "o")))
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad and method == "lora":
                parameter.normal_(std=0.1)
    return encoder


@needs_packing
@pytest.mark.parametrize("targets", [("q", "v"), ("k",), ("q", "k", "v", "o"), ("o", "fc1", "fc2")])
def test_a_sped_up_adapted_encoder_has_the_same_output_and_the_same_gradients(targets: tuple):
    plain, fast = (adapted(adapter=AdapterSpec(targets=targets, rank=3)) for _ in range(2))
    speed_up(fast)
    assert any(isinstance(module, PackedLinear) for module in fast.modules())
    assert any(isinstance(module, SplitQKV) and module.fused for module in fast.modules())
    batch = images(FUSED)
    plain.eval()
    fast.eval()
    assert relative(fast(batch), plain(batch)) < 1e-5
    plain(batch).square().sum().backward()
    fast(batch).square().sum().backward()
    for left, right in zip(trained_of(plain), trained_of(fast), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert relative(right.grad, left.grad) < 1e-5


def trained_of(encoder: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in encoder.parameters() if parameter.requires_grad]


def test_fused_lora_in_training_equals_its_formula_under_the_masks_that_were_drawn(monkeypatch: pytest.MonkeyPatch):
    from cytolora.models.kernels import fused_lora

    masks, draw = [], fused_lora.draw_kept
    monkeypatch.setattr(fused_lora, "draw_kept", lambda rows, p: masks.append(draw(rows, p)) or masks[-1])
    encoder = adapted(adapter=AdapterSpec(rank=3, dropout=0.25))
    speed_up(encoder)
    split = next(module for module in encoder.modules() if isinstance(module, SplitQKV)).train()
    tokens = torch.randn(2, 5, 48, requires_grad=True)
    found = split(tokens)
    part: Any
    expected = [getattr(part, "base_layer", part)(tokens) for part in (split.q_proj, split.k_proj, split.v_proj)]
    for place, part, mask in ((0, split.q_proj, masks[0]), (2, split.v_proj, masks[1])):
        dropped = tokens * mask.view(tokens.shape) / 0.75
        low = dropped @ part.lora_A["default"].weight.T @ part.lora_B["default"].weight.T
        expected[place] = expected[place] + part.scaling["default"] * low
    whole = torch.cat(expected, dim=-1)
    assert relative(found, whole) < 1e-5
    parameters = [tokens, *trained_of(split)]
    weight = torch.randn(whole.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * weight).sum(), parameters),
        torch.autograd.grad((whole * weight).sum(), parameters),
        strict=True,
    ):
        assert relative(ours, theirs) < 1e-5


def test_a_dropout_that_bytes_cannot_express_is_not_fused():
    encoder = adapted(adapter=AdapterSpec(dropout=0.1))
    speed_up(encoder)
    assert not any(isinstance(module, SplitQKV) and module.fused for module in encoder.modules())


@pytest.mark.parametrize("method", [entry.name for entry in METHODS if entry.kind == "adapter"])
def test_every_method_trains_in_bf16_with_fp32_weights_and_nearly_the_fp32_result(method: str):
    adapter = AdapterSpec(last_blocks=1) if method == "last_blocks" else AdapterSpec()
    exact, low = (EncoderWithHead(adapted(method, adapter), 3) for _ in range(2))
    low.load_state_dict(exact.state_dict())
    speed_up(low.encoder, "bf16")
    low.autocast = not only_lora_trains(low.encoder)
    batch = images(FUSED)
    expected, found = exact.eval()(batch), low.eval()(batch)
    assert found.dtype == torch.float32
    assert relative(found, expected) < 3e-2
    low.train()(batch).square().sum().backward()
    for parameter in low.trainable():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.isfinite().all()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in trained_of(low.encoder))


def test_only_stock_lora_needs_no_autocast():
    assert only_lora_trains(adapted("lora"))
    assert not only_lora_trains(adapted("dora"))
    assert not only_lora_trains(adapted("bitfit", AdapterSpec()))


@needs_packing
def test_a_sped_up_encoder_is_not_sped_up_where_it_trains():
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


@needs_packing
@pytest.mark.parametrize("what", ["bias changed in place", "weight changed in place", "weight put in its place"])
def test_a_layer_that_changed_since_it_was_laid_out_is_laid_out_anew(what: str):
    linear, inputs = frozen_linear(), torch.randn(3, 24)
    PackedLinear(linear)
    if what == "weight put in its place":
        linear.weight.data = linear.weight + 1
    else:
        (linear.bias if what.startswith("bias") else linear.weight).add_(1)
    assert relative(PackedLinear(linear)(inputs), linear(inputs)) < 1e-5


def test_a_copy_computes_with_the_weights_that_are_loaded_into_it():
    layer, inputs = PackedLinear(frozen_linear()), torch.randn(3, 24)
    other = nn.Linear(24, 40)
    twin = copy.deepcopy(layer)
    twin.load_state_dict(other.state_dict())
    assert relative(twin(inputs), other(inputs)) < 1e-5
    assert relative(layer(inputs), frozen_linear()(inputs)) < 1e-5


@needs_packing
def test_layers_with_one_weight_and_two_biases_are_told_apart():
    linear, inputs = frozen_linear(), torch.randn(3, 24)
    other = copy.deepcopy(linear, {id(linear.weight): linear.weight})
    other.bias.add_(1)
    for layer in (linear, other, linear):
        assert relative(PackedLinear(layer)(inputs), layer(inputs)) < 1e-5


@needs_packing
def test_a_weight_of_a_later_run_is_not_taken_for_one_that_is_gone():
    """Of keys and values, PiSSA gives every run values of its own beside keys that all share."""
    keys, inputs = frozen_linear(), torch.randn(3, 24)
    for number in range(20):
        values = nn.Linear(24, 40).requires_grad_(False)
        product = packed.frozen_product([keys, values], "fp32")
        assert relative(product.forward(inputs), torch.cat([keys(inputs), values(inputs)], dim=-1)) < 1e-5, number
        del values


def test_a_encoder_in_evaluation_stays_in_evaluation_when_it_is_sped_up():
    encoder = adapted().eval()
    speed_up(encoder)
    assert not any(module.training for module in encoder.modules() if isinstance(module, ByteDropout))


@pytest.fixture
def without_packing(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[torch.dtype]]:
    """Takes the packed product of the precisions that are put into the set away, as another torch would."""
    missing, product = set[torch.dtype](), packed._packed_product

    def partly_missing(rows: torch.Tensor, *others: Any) -> torch.Tensor:
        if rows.dtype in missing:
            raise RuntimeError("mkldnn_linear_pointwise: the processor has no such product")
        return product(rows, *others)

    monkeypatch.setattr(packed, "_packed_product", partly_missing)
    packed.packing_works.cache_clear()
    yield missing
    packed.packing_works.cache_clear()


def test_without_the_private_product_nothing_is_packed(without_packing: set[torch.dtype]):
    without_packing |= {torch.float32, torch.bfloat16}
    module = nn.Sequential(frozen_linear())
    speed_up(module)
    assert type(module[0]) is nn.Linear


@needs_packing
@pytest.mark.parametrize("missing", [torch.float32, torch.bfloat16])
def test_each_precision_is_packed_where_it_can_be_whatever_the_other_can(
    missing: torch.dtype, without_packing: set[torch.dtype]
):
    both: dict[packed.Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
    possible = [precision for precision, dtype in both.items() if dtype != missing and packing_works(precision)]
    packing_works.cache_clear()
    without_packing.add(missing)
    assert [precision for precision in both if packing_works(precision)] == possible
    rows = torch.randn(3, 24)
    for precision, dtype in both.items():
        layer = frozen_linear()
        product = packed.FrozenProduct([layer.weight], [layer.bias], precision)
        assert product._forward.is_mkldnn == (precision in possible)
        assert relative(product.forward(rows.to(dtype)).float(), layer(rows)) < 2e-2
        grads = torch.randn(3, 40)
        assert relative(product.backward(grads.to(dtype)).float(), grads @ layer.weight) < 2e-2


@pytest.mark.slow
def test_a_processor_without_avx512_packs_fp32():
    """oneDNN reads its limit once a process."""
    code = "from cytolora.models.kernels.packed import packing_works as p; print(p('fp32'))"
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=limited, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(packing_works("fp32"))


@needs_packing
@pytest.mark.parametrize("name", ["clip-vit-b16", "vit-b16", "dinov2-s14-reg", "uni2-h", "eva02-clip-b16", "virchow2"])
def test_reading_the_first_token_only_changes_neither_features_nor_gradients(name: str):
    spec = BACKBONES.get(name)
    whole, short = (adapted_small(spec) for _ in range(2))
    read_first_token_only(short)
    speed_up(short)
    batch = images(shrunk(spec))
    assert relative(short.eval()(batch), whole.eval()(batch)) < 1e-5
    with torch.inference_mode():
        assert relative(short(batch), whole(batch)) < 1e-5
    whole(batch).square().sum().backward()
    short(batch).square().sum().backward()
    for left, right in zip(trained_of(whole), trained_of(short), strict=True):
        assert left.grad is not None
        assert right.grad is not None
        assert relative(right.grad, left.grad) < 1e-5


@pytest.mark.parametrize("method", [entry.name for entry in METHODS if entry.kind == "adapter"])
def test_what_was_trained_fast_loads_into_a_plain_encoder_to_the_same_logits(method: str):
    """A bundle is trained with the fast layers and opened without them."""
    adapter = AdapterSpec(last_blocks=1) if method == "last_blocks" else AdapterSpec()
    fast, plain = (EncoderWithHead(adapted(method, adapter), 3) for _ in range(2))
    cpu.for_training(fast.encoder, torch.device("cpu"), "fp32")
    batch = images(FUSED)
    optimiser = torch.optim.AdamW(fast.trainable(), lr=1e-2)
    fast.train()(batch).square().sum().backward()
    optimiser.step()
    load_trained_state(plain, trained_state(fast))
    assert relative(plain.eval()(batch), fast.eval()(batch)) < 1e-5


def test_only_a_encoder_that_reads_its_first_token_loses_the_others():
    for pool, expected in (("cls", 1), ("mean_patch", 5)):
        encoder = copy.deepcopy(small_encoder(replace(FUSED, name=pool, pool=pool)))
        read_first_token_only(encoder)
        assert encoder.trunk.forward_features(images(FUSED)).shape[1] == expected


@pytest.mark.parametrize("how", ["in place", "data in place", "data put in its place", "loaded"])
def test_merged_products_follow_the_weights_however_they_are_changed(how: str):
    classifier = EncoderWithHead(adapted(), 3).eval()
    speed_up(classifier.encoder)
    batch = images(FUSED)
    with torch.inference_mode():
        before = classifier(batch)
    changed = {name: tensor + 0.1 for name, tensor in trained_state(classifier).items()}
    if how == "loaded":
        load_trained_state(classifier, changed)
    for parameter in [] if how == "loaded" else trained_of(classifier.encoder):
        match how:
            case "in place":
                with torch.no_grad():
                    parameter.add_(0.1)
            case "data in place":
                parameter.data.add_(0.1)
            case _:
                parameter.data = parameter.data + 0.1
    expected = classifier(batch).detach()
    with torch.inference_mode():
        assert relative(classifier(batch), expected) < 1e-5
    assert relative(before, expected) > 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_copy_of_a_prepared_classifier_computes_the_same_and_trains_apart(precision: Any):
    classifier = EncoderWithHead(adapted(), 3).eval()
    cpu.for_training(classifier.encoder, torch.device("cpu"), precision)
    batch = images(FUSED)
    with torch.inference_mode():
        before = classifier(batch)
    twin = copy.deepcopy(classifier)
    with torch.inference_mode():
        assert torch.equal(twin(batch), before)
    optimiser = torch.optim.AdamW(twin.trainable(), lr=1e-2)
    twin(batch).square().sum().backward()
    assert all(parameter.grad is None for parameter in classifier.trainable())
    optimiser.step()
    with torch.inference_mode():
        assert torch.equal(classifier(batch), before)
        assert relative(twin(batch), before) > 1e-3


def adapted_small(spec: BackboneSpec) -> Encoder:
    encoder = small_encoder(shrunk(spec))
    torch.manual_seed(0)
    encoder = attach(encoder, "lora", AdapterSpec(targets=("q", "v", "o")))
    with torch.no_grad():
        for parameter in trained_of(encoder):
            parameter.normal_(std=0.1)
    return encoder


@pytest.mark.parametrize("name", ["clip-vit-b16", "uni", "nano"])
def test_a_encoder_made_for_inference_gives_the_same_features_and_shares_its_weights(name: str):
    encoder = small_encoder(shrunk(BACKBONES.get(name))).requires_grad_(False)
    batch = images(shrunk(BACKBONES.get(name)))
    with torch.inference_mode():
        expected = encoder(batch)
        found = for_inference(encoder, torch.device("cpu"))(batch)
        low = for_inference(encoder, torch.device("cpu"), "bf16")(batch)
        assert relative(found, expected) < 1e-5
        assert relative(low, expected) < 3e-2
        assert torch.equal(encoder(batch), expected), "the encoder itself stays as it was"
    ours = {id(parameter) for parameter in for_inference(encoder, torch.device("cpu")).parameters()}
    assert len(ours & {id(parameter) for parameter in encoder.parameters()}) > 10


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_weights_held_in_bf16_give_under_autocast_what_casting_them_gives(method: str):
    casting, holding = (EncoderWithHead(adapted(method, AdapterSpec()), 3, autocast=True) for _ in range(2))
    holding.load_state_dict(casting.state_dict())
    cpu._hold_in_bf16(holding.encoder)
    batch = images(FUSED)
    expected, found = casting.eval()(batch), holding.eval()(batch)
    assert torch.equal(found, expected)
    found.square().sum().backward()
    assert all(parameter.dtype == torch.float32 for parameter in holding.trainable())
