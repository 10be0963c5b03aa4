"""bf16 on a CPU against fp32: every family of encoders, every method that trains one; features are float32 in both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_encoders import BYPASSING, FUSED, REGISTERED, images, inside, randomised, relative, shrunk, small_encoder
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec, Budget, TrainSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.models.kernels.cpu import for_inference, for_training
from cytolora.models.kernels.packed import PackedLinear, Precision
from cytolora.training.loop import fit, predict

CPU = torch.device("cpu")
NUM_IMAGES = 8
MAX_LOSS, MAX_FEATURES, MAX_GRADIENT = 0.02, 0.05, 0.05
"""How far bf16 may be off fp32: the loss in nats (measured: at most 0.009), features as a share of the largest (0.021),
and the norm of the gradients' difference as a share of their norm (0.016 with LoRA, 0.027 with other methods)."""

_SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3}


def _own(name: str, architecture: str, **arguments: Any) -> BackboneSpec:
    return replace(FUSED, name=name, architecture=architecture, arguments={**_SMALL, **arguments}, pool="timm")


UNREGISTERED = (
    _own("fc_norm", "vit_base_patch16_gap_224", img_size=32, num_classes=0, fc_norm=True),
    _own("no-class-token", "vit_tiny_patch16_224", img_size=32, num_classes=0, class_token=False, global_pool="avg"),
    _own("qk-norm", "vit_tiny_patch16_224", img_size=32, num_classes=0, qk_norm=True, scale_attn_norm=True),
    _own("rotary", "vit_base_patch16_rope_mixed_224", img_size=32, num_classes=0),
    _own("relative-positions", "samvit_base_patch16_224", img_size=32, num_classes=0, window_size=0),
    _own("talking-heads", "cait_xxs24_224", img_size=32, num_classes=0),
    _own("cross-covariance", "xcit_nano_12_p16_224", img_size=32, num_classes=0),
)
"""Families that a user may describe, beside those of the registry."""
FAMILIES = {spec.name: spec for spec in (*REGISTERED, *UNREGISTERED)}
HEADED = ("quiltnet-b32", "siglip2-b16", "conch", "fc_norm")
"""One of each that computes something after the blocks: projection, attention pooling, learned query, a norm."""
ADAPTERS = {
    "vpt": AdapterSpec(prompts=3),
    "last_blocks": AdapterSpec(last_blocks=1),
    "oft": AdapterSpec(rank=8),
    "adalora": AdapterSpec(alpha=4),
}
METHOD_NAMES = [entry.name for entry in METHODS if entry.kind == "adapter"]


@cache
def _unregistered(name: str) -> Encoder:
    encoder = build_encoder(FAMILIES[name])
    randomised(encoder)
    for buffer_name, buffer in encoder.named_buffers():
        if buffer_name.endswith("running_var"):  # of a batch norm
            buffer.abs_()
    return encoder.requires_grad_(False).eval()


def encoder_of(name: str) -> Encoder:
    spec = FAMILIES[name]
    return small_encoder(spec) if spec in REGISTERED else _unregistered(name)


def batch_of(name: str) -> Tensor:
    spec = FAMILIES[name]
    size_px = (shrunk(spec) if spec in REGISTERED else spec).preprocess.size_px
    return torch.randn(NUM_IMAGES, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def classifier_of(name: str, method: str, precision: Precision, adapter: AdapterSpec | None = None) -> EncoderWithHead:
    """Attaches a method that is no longer at its start, where half of its gradients are zero."""
    encoder = encoder_of(name)
    torch.manual_seed(0)
    adapted = attach(encoder, method, adapter or ADAPTERS.get(method, AdapterSpec()))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    autocast = for_training(adapted, CPU, precision)
    torch.manual_seed(3)
    return EncoderWithHead(adapted, 3, autocast=autocast)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of training computes, without dropout."""

    features: Tensor
    loss: float
    gradient: Tensor
    """Of the adapter and the head, in one row."""


def step(classifier: EncoderWithHead, batch: Tensor) -> Step:
    kept: list[Tensor] = []

    def keep(encoder: nn.Module, inputs: Any, features: Tensor) -> None:
        kept.append(features)

    classifier.encoder.register_forward_hook(keep)
    loss = F.cross_entropy(classifier.eval()(batch), torch.arange(len(batch)) % 3)
    loss.backward()
    gradients = [p.grad.flatten() for p in classifier.trainable() if p.grad is not None]
    return Step(features=kept[0].detach(), loss=loss.item(), gradient=torch.cat(gradients))


def assert_near(name: str, method: str, adapter: AdapterSpec | None = None) -> None:
    exact, low = (step(classifier_of(name, method, p, adapter), batch_of(name)) for p in ("fp32", "bf16"))
    assert exact.features.dtype == low.features.dtype == low.gradient.dtype == torch.float32
    assert relative(low.features, exact.features) < MAX_FEATURES
    assert not torch.equal(low.features, exact.features), "nothing was computed in bf16"
    assert low.loss == pytest.approx(exact.loss, abs=MAX_LOSS)
    assert (low.gradient - exact.gradient).norm() / exact.gradient.norm() < MAX_GRADIENT


@pytest.mark.parametrize("name", FAMILIES)
def test_lora_in_bf16_computes_nearly_the_fp32_loss_and_gradient_on_every_family_of_encoders(name: str):
    assert_near(name, "lora", AdapterSpec(targets=("q", "k", "v")))


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("method", METHOD_NAMES)
def test_every_method_in_bf16_computes_nearly_the_fp32_loss_and_gradient_whatever_follows_the_blocks(
    method: str, name: str
):
    assert_near(name, method)


@pytest.mark.parametrize("name", ["biomedclip", "uni"])
def test_the_public_codes_attention_computes_nearly_the_fp32_loss_and_gradient_in_bf16(name: str):
    assert_near(name, "lora", AdapterSpec(reference_attention_bug=True))


def test_a_encoder_that_takes_no_adapter_trains_its_own_weights_in_bf16():
    spec = replace(BYPASSING, name="beit")
    exact, low = (EncoderWithHead(attach(small_encoder(spec), "bitfit", AdapterSpec()), 3) for _ in range(2))
    low.load_state_dict(exact.state_dict())
    low.autocast = for_training(low.encoder, CPU, "bf16")
    expected, found = step(exact, images(spec, NUM_IMAGES)), step(low, images(spec, NUM_IMAGES))
    assert found.features.dtype == torch.float32
    assert found.loss == pytest.approx(expected.loss, abs=MAX_LOSS)


@pytest.mark.parametrize("name", HEADED)
@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_what_is_trained_in_bf16_predicts_nearly_the_same_in_fp32(method: str, name: str):
    classifier, batch = classifier_of(name, method, "bf16"), batch_of(name)

    def images_of(indices: Sequence[int], epoch: int = 0) -> Tensor:
        return batch[list(indices)]

    train = TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4, warmup_steps=0, precision="bf16")
    order, labels = torch.Generator().manual_seed(0), torch.arange(NUM_IMAGES) % 3
    loss = fit(classifier, images_of, labels, train, learning_rate=1e-3, num_steps=3, order=order, device=CPU)
    assert torch.tensor(loss).isfinite()
    low = predict(classifier, images_of, NUM_IMAGES, device=CPU)
    exact = classifier_of(name, method, "fp32")
    load_trained_state(exact, trained_state(classifier))
    assert (low - predict(exact, images_of, NUM_IMAGES, device=CPU)).abs().max() < MAX_LOSS
    assert all(tensor.dtype == torch.float32 for tensor in trained_state(classifier).values())


@pytest.mark.parametrize("name", FAMILIES)
def test_features_of_a_encoder_made_for_inference_in_bf16_are_float32_and_nearly_the_same(name: str):
    encoder, batch = encoder_of(name), batch_of(name)
    with torch.inference_mode():
        expected, found = encoder(batch), for_inference(encoder, CPU, "bf16")(batch)
    assert found.dtype == torch.float32
    assert relative(found, expected) < MAX_FEATURES


@pytest.mark.parametrize("name", FAMILIES)
def test_only_blocks_compute_in_bf16(name: str):
    encoder = classifier_of(name, "lora", "bf16").encoder
    in_blocks = {id(module) for module in inside(encoder).blocks.modules()}
    packed = [module for module in encoder.modules() if isinstance(module, PackedLinear)]
    assert {module._frozen.dtype for module in packed if id(module) in in_blocks} == {torch.bfloat16}
    assert {module._frozen.dtype for module in packed if id(module) not in in_blocks} <= {torch.float32}


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_the_head_is_computed_in_fp32(method: str):
    classifier, batch = classifier_of("quiltnet-b32", method, "bf16").eval(), batch_of("quiltnet-b32")
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16, enabled=classifier.autocast):
            features = classifier.encoder(batch)
        logits = F.linear(features, classifier.head.weight, classifier.head.bias)
        assert torch.equal(classifier(batch), logits)


def test_every_kind_of_head_on_the_blocks_is_among_the_encoders():
    assert {spec.pool for spec in FAMILIES.values()} == {"cls", "mean_patch", "cls+mean", "timm", "query"}
    assert any(BACKBONES.get(spec.name).projection for spec in REGISTERED)
