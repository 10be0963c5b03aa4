import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peft import PeftModel
from small_encoders import APART, FUSED, REGISTERED, WIDTH, images, inside, relative, small_encoder
from torch import Tensor

from cytolora.config.run import AdapterSpec, Target
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, merged, prove_attached
from cytolora.models.adapters.split_qkv import fuse_qkv, split_qkv
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead

ALL = ("q", "k", "v", "o")
PAPER = AdapterSpec()
BY_NAME = pytest.mark.parametrize("spec", [FUSED, APART, *REGISTERED], ids=lambda spec: spec.name)


def adapted(spec: BackboneSpec = FUSED, adapter: AdapterSpec = PAPER) -> tuple[Encoder, Encoder]:
    encoder = small_encoder(spec)
    torch.manual_seed(0)
    return encoder, attach(encoder, "lora", adapter).eval()


def one_step(encoder: Encoder, batch: Tensor) -> EncoderWithHead:
    """Trains adapter and head for one optimiser step on three classes."""
    classifier = EncoderWithHead(encoder, 3).train()
    optimiser = torch.optim.AdamW(classifier.trainable(), lr=1e-2)
    F.cross_entropy(classifier(batch), torch.arange(len(batch)) % 3).backward()
    optimiser.step()
    return classifier.eval()


def randomise_adapter(encoder: Encoder) -> None:
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@BY_NAME
def test_lora_leaves_the_output_unchanged_at_the_start_and_changes_it_after_one_step(spec: BackboneSpec):
    encoder, lora = adapted(spec, AdapterSpec(targets=ALL))
    batch = images(spec)
    assert torch.equal(lora(batch), encoder(batch))
    prove_attached(lora, batch)
    one_step(lora, batch)
    assert relative(lora(batch), encoder(batch)) > 1e-5


@BY_NAME
def test_merged_equals_unmerged(spec: BackboneSpec):
    encoder, lora = adapted(spec, AdapterSpec(rank=4, targets=ALL))
    randomise_adapter(lora)
    batch = images(spec)
    assert relative(lora(batch), encoder(batch)) > 1e-2
    assert relative(merged(lora)(batch), lora(batch)) < 1e-5


@BY_NAME
def test_gradients_reach_every_a_b_and_the_head_and_nothing_else(spec: BackboneSpec):
    _, lora = adapted(spec, AdapterSpec(targets=ALL))
    randomise_adapter(lora)
    classifier = EncoderWithHead(lora, 3).train()
    classifier(images(spec)).square().sum().backward()
    with_gradient = {name for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    expected = {
        name for name, _ in classifier.named_parameters() if ".lora_A." in name or ".lora_B." in name
    } | {"head.weight", "head.bias"}  # fmt: skip
    assert with_gradient == expected
    assert len(expected) == 2 * 2 * len(ALL) + 2  # A and B, two blocks, and the head
    assert all(parameter.grad.abs().max() > 0 for parameter in classifier.trainable() if parameter.grad is not None)


def test_attaching_leaves_the_encoder_itself_as_it_was_and_shares_its_weights():
    encoder, lora = adapted()
    assert not isinstance(encoder.trunk, PeftModel)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    stems = [inside(part).patch_embed.proj.weight.data_ptr() for part in (encoder, lora)]
    assert stems[0] == stems[1]


def test_merging_leaves_the_adapted_encoder_as_it_was():
    encoder, lora = adapted()
    randomise_adapter(lora)
    batch = images(FUSED)
    before, frozen = lora(batch), encoder(batch)
    merged(lora)
    assert torch.equal(lora(batch), before)
    assert torch.equal(encoder(batch), frozen)


@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_sqrt_rank"])
@pytest.mark.parametrize("rank", [1, 2, 16])
def test_lora_equals_the_closed_form(scaling, rank: int):
    """h = W x + b + s B A x (Dausort et al. 2025, eq. 2), s = alpha / sqrt(rank) in the paper's public code."""
    _, lora = adapted(adapter=AdapterSpec(rank=rank, alpha=1.5, scaling=scaling))
    randomise_adapter(lora)
    layer = inside(lora).blocks[1].attn.qkv.v_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    x = torch.randn(2, 5, WIDTH)
    s = 1.5 / (rank if scaling == "alpha_over_rank" else math.sqrt(rank))
    expected = x @ layer.base_layer.weight.T + layer.base_layer.bias + s * (x @ a.T) @ b.T
    assert (a.shape, b.shape) == ((rank, WIDTH), (WIDTH, rank))
    assert relative(layer(x), expected) < 1e-6


def test_a_starts_kaiming_uniform_and_b_at_zero():
    _, lora = adapted(adapter=AdapterSpec(rank=16))
    layer = inside(lora).blocks[0].attn.qkv.q_proj
    bound = 1 / math.sqrt(WIDTH)  # kaiming_uniform(a=sqrt(5)) is uniform in +-1 / sqrt(fan_in)
    start = layer.lora_A["default"].weight.detach()
    assert start.abs().max() <= bound
    assert start.std() == pytest.approx(bound / math.sqrt(3), rel=0.1)
    assert not layer.lora_B["default"].weight.any()


def test_dropout_acts_on_the_branch_alone_and_only_while_training():
    encoder, lora = adapted(adapter=AdapterSpec(dropout=0.5))
    batch = images(FUSED)
    assert torch.equal(lora.train()(batch), encoder(batch))  # B is zero, so the mask falls on nothing
    randomise_adapter(lora)
    assert not torch.equal(lora(batch), lora(batch))
    lora.eval()
    assert torch.equal(lora(batch), lora(batch))


@pytest.mark.parametrize("targets", [("q",), ("v",), ("o",), ("q", "v"), ALL], ids="".join)
def test_exactly_the_named_projections_are_adapted(targets: tuple[Target, ...]):
    _, lora = adapted(adapter=AdapterSpec(targets=targets))
    names = {"q": "qkv.q_proj", "k": "qkv.k_proj", "v": "qkv.v_proj", "o": "proj"}
    expected = {f"blocks.{block}.attn.{names[target]}" for block in (0, 1) for target in targets}
    assert adapted_modules(lora) == expected


def test_only_the_named_blocks_are_adapted():
    _, lora = adapted(adapter=AdapterSpec(blocks=(1,)))
    assert adapted_modules(lora) == {"blocks.1.attn.qkv.q_proj", "blocks.1.attn.qkv.v_proj"}


def test_a_block_that_is_not_there_is_named_with_the_number_of_blocks():
    with pytest.raises(ConfigError, match=r"no block 7: the encoder has 2, counted from 0"):
        adapted(adapter=AdapterSpec(blocks=(0, 7)))


@pytest.mark.parametrize("method", ["lora", "vpt", "bitfit"])
@pytest.mark.parametrize("blocks", [(), (0, 0)])
def test_no_blocks_and_a_block_named_twice_are_refused(blocks: tuple[int, ...], method: str):
    with pytest.raises(ConfigError, match=r"counted from 0, once each|numbers of blocks from 0"):
        attach(small_encoder(FUSED), method, AdapterSpec(blocks=blocks))


def test_a_method_that_adapts_nothing_cannot_be_attached():
    with pytest.raises(ConfigError, match="'linear' adapts nothing"):
        attach(small_encoder(FUSED), "linear", AdapterSpec())


def test_an_attention_that_bypasses_its_module_is_found_out():
    _, lora = adapted()
    bypass(inside(lora).blocks[1].attn.qkv)
    with pytest.raises(ConfigError, match=r"no effect at .*blocks\.1\.attn\.qkv\.q_proj"):
        prove_attached(lora, images(FUSED))


def test_a_encoder_without_any_adapter_is_found_out():
    with pytest.raises(ConfigError, match="no effect anywhere"):
        prove_attached(small_encoder(FUSED), images(FUSED))


def test_the_saved_adapter_opens_in_stock_peft(tmp_path: Path):
    _, lora = adapted(adapter=AdapterSpec(rank=4, targets=ALL))
    randomise_adapter(lora)
    assert isinstance(lora.trunk, PeftModel)
    lora.trunk.save_pretrained(str(tmp_path))
    encoder = small_encoder(FUSED)
    split_qkv(encoder.trunk)
    opened = PeftModel.from_pretrained(encoder.trunk, tmp_path).eval()  # pyright: ignore[reportArgumentType]
    batch = images(FUSED)
    assert torch.equal(inside(Encoder(opened, "cls")).forward_features(batch), inside(lora).forward_features(batch))


def test_a_merged_encoder_fuses_back_into_stock_timm():
    _, lora = adapted(adapter=AdapterSpec(targets=ALL))
    randomise_adapter(lora)
    whole = merged(lora)
    fuse_qkv(whole.trunk)
    stock = small_encoder(FUSED)
    stock.trunk.load_state_dict(whole.trunk.state_dict(), strict=True)
    assert relative(stock(images(FUSED)), lora(images(FUSED))) < 1e-5


def bypass(qkv: Any) -> None:
    """Reads the weights of q, k and v without calling them, as BEiT's attention does with its fused projection."""
    weight = torch.cat([qkv.q_proj.weight, qkv.k_proj.weight, qkv.v_proj.weight])
    qkv.forward = lambda tokens: F.linear(tokens, weight)


def adapted_modules(lora: Encoder) -> set[str]:
    trunk = inside(lora)
    return {name for name, module in trunk.named_modules() if hasattr(module, "lora_A")}
