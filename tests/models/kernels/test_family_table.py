"""The table of families of encoders x methods x both precisions, at training, predicting or embedding in turn."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from encoder_families import (
    ADAPTERS,
    CPU,
    FAMILIES,
    MAX_FEATURES,
    MAX_LOSS,
    METHOD_NAMES,
    NUM_IMAGES,
    batch_of,
    classifier_of,
    encoder_of,
    far_from,
)
from small_encoders import FUSED, randomised, relative
from torch import Tensor

from cytolora.config.run import AdapterSpec, Budget, TrainSpec
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, merged
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead, load_trained_state, trained_state
from cytolora.models.kernels.cpu import for_inference, for_training
from cytolora.models.kernels.packed import Precision
from cytolora.training.loop import fit, predict

TRAIN = TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4, warmup_steps=0, precision="bf16")


def after_training(name: str, method: str) -> str:
    """Trains three steps in bf16 and says how logits differ from those that fp32 computes with the same weights."""
    classifier, batch = classifier_of(name, method, "bf16"), batch_of(name)

    def images_of(indices: Sequence[int], epoch: int = 0) -> Tensor:
        return batch[list(indices)]

    order, labels = torch.Generator().manual_seed(0), torch.arange(NUM_IMAGES) % 3
    fit(classifier, images_of, labels, TRAIN, learning_rate=1e-3, num_steps=3, order=order, device=CPU)
    state = trained_state(classifier)
    if strange := [key for key, part in state.items() if part.dtype != torch.float32 or not part.isfinite().all()]:
        return f"stored {strange[0]} is not float32 and finite"
    low = predict(classifier, images_of, NUM_IMAGES, device=CPU)
    exact = classifier_of(name, method, "fp32")
    load_trained_state(exact, state)
    off = float((low - predict(exact, images_of, NUM_IMAGES, device=CPU)).abs().max())
    return f"probabilities are {off:.3f} off those of fp32" if off > MAX_LOSS else ""


def embedded(name: str, method: str) -> str:
    """Compares features of the adapted encoder that is made for inference with its own."""
    encoder, batch = merged(classifier_of(name, method, "plain").encoder).eval().requires_grad_(False), batch_of(name)
    with torch.inference_mode():
        expected = encoder(batch)
        limits: dict[Precision, float] = {"fp32": 1e-5, "bf16": MAX_FEATURES}
        for precision, limit in limits.items():
            found = for_inference(encoder, CPU, precision)(batch)
            if found.dtype != torch.float32:
                return f"features in {precision} are {found.dtype}"
            if (off := relative(found, expected)) > limit:
                return f"features in {precision} are {off:.2g} off"
    return ""


REFUSED = {name: {"vpt"} for name in ("relative-positions", "talking-heads", "cross-covariance")}
"""Methods that a family refuses: its blocks need a grid of patches, or take the class token late."""


STAGES = {"train": far_from, "predict": after_training, "embed": embedded}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_method_trains_predicts_or_embeds_a_family_alike_in_both_precisions(name: str):
    """A Latin square: every method meets every family, and each of the two every stage."""
    faults, first = [], list(FAMILIES).index(name)
    for place, method in enumerate(METHOD_NAMES):
        try:
            attach(encoder_of(name), method, ADAPTERS.get(method, AdapterSpec()))
        except ConfigError:
            faults += [] if method in REFUSED.get(name, ()) else [f"{method} is refused"]
            continue
        assert method not in REFUSED.get(name, ())
        stage = list(STAGES)[(first + place) % len(STAGES)]
        if fault := STAGES[stage](name, method):
            faults.append(f"{method}, {stage}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_encoder_without_a_list_of_blocks_stays_in_fp32_and_takes_only_full_training(precision: Precision):
    encoder = swin()
    images = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        expected, found = encoder(images), for_inference(encoder, CPU, precision)(images)
    assert found.dtype == torch.float32
    assert relative(found, expected) < 1e-5
    whole = attach(encoder, "full", AdapterSpec())
    classifier = EncoderWithHead(whole, 3, autocast=for_training(whole, CPU, precision))
    classifier(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in classifier.trainable())
    for method in METHOD_NAMES:
        if method != "full":
            with pytest.raises(ConfigError, match="has no list of attention blocks"):
                attach(encoder, method, ADAPTERS.get(method, AdapterSpec()))


def swin() -> Encoder:
    stages = {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4), "window_size": 4}
    spec = replace(
        FUSED,
        name="swin",
        architecture="swin_tiny_patch4_window7_224",
        arguments={"num_classes": 0, "img_size": 64, **stages},
        pool="timm",
        preprocess=replace(FUSED.preprocess, size_px=64),
    )
    encoder = build_encoder(spec)
    randomised(encoder)
    return encoder.requires_grad_(False).eval()
