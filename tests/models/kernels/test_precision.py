"""bf16 on a CPU against fp32: every family of encoders, every method that trains one; features are float32 in both."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from encoder_families import (
    CPU,
    FAMILIES,
    HEADED,
    MAX_FEATURES,
    MAX_LOSS,
    METHOD_NAMES,
    NUM_IMAGES,
    batch_of,
    classifier_of,
    encoder_of,
    far_from,
    step,
)
from small_encoders import BYPASSING, REGISTERED, images, inside, relative, small_encoder
from torch import Tensor

from cytolora.config.run import AdapterSpec, Budget, TrainSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.models.kernels.cpu import for_inference, for_training
from cytolora.models.kernels.packed import PackedLinear
from cytolora.training.loop import fit, predict


def assert_near(name: str, method: str, adapter: AdapterSpec | None = None) -> None:
    assert not far_from(name, method, adapter)


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
