"""Families of encoders in small with every method attached, and how far bf16 is off fp32 on a CPU."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from small_encoders import FUSED, REGISTERED, randomised, relative, shrunk, small_encoder
from torch import Tensor, nn

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.methods import METHODS
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.encoder import Encoder
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.models.kernels.cpu import for_training

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
METHOD_NAMES = [entry.name for entry in METHODS if entry.kind == "adapter" and entry.name != "ivlp"]
"""All but ivlp, which is vpt in the image encoder."""


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


def classifier_of(
    name: str, method: str, precision: Literal["fp32", "bf16", "plain"], adapter: AdapterSpec | None = None
) -> EncoderWithHead:
    """Attaches a method that is no longer at its start, where half of its gradients are zero.

    Args:
        precision: What the encoder is made fast for; ``plain`` leaves its layers as they are.
    """
    encoder = encoder_of(name)
    torch.manual_seed(0)
    adapted = attach(encoder, method, adapter or ADAPTERS.get(method, AdapterSpec()))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    autocast = precision != "plain" and for_training(adapted, CPU, precision)
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


def far_from(name: str, method: str, adapter: AdapterSpec | None = None) -> str:
    """Says in what one step in bf16 is further off fp32 than the limits above; empty: in nothing."""
    exact, low = (step(classifier_of(name, method, p, adapter), batch_of(name)) for p in ("fp32", "bf16"))
    if dtypes := {exact.features.dtype, low.features.dtype, low.gradient.dtype} - {torch.float32}:
        return f"features or gradients are {dtypes}"
    if (off := relative(low.features, exact.features)) >= MAX_FEATURES:
        return f"features are {off:.2g} off"
    if torch.equal(low.features, exact.features):
        return "nothing was computed in bf16"
    if abs(low.loss - exact.loss) > MAX_LOSS:
        return f"the loss is {low.loss:.3f} where fp32 has {exact.loss:.3f}"
    if (off := float((low.gradient - exact.gradient).norm() / exact.gradient.norm())) >= MAX_GRADIENT:
        return f"the gradient is {off:.2g} off"
    return ""
