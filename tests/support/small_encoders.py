"""Every registered architecture in small: depth 2, width 48, each tensor random, so that no mistake hides in a zero."""

import copy
import re
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from cytolora.config.run import Preprocess
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.building import build_encoder, build_trunk
from cytolora.models.encoder import Encoder

WIDTH = 48
PROJECTED = 32
TINY = {"depth": 1, "embed_dim": WIDTH, "num_heads": 3}
HALF = Preprocess(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FUSED = BackboneSpec(
    name="fused", architecture="vit_base_patch16_224", arguments={"num_classes": 0}, pool="cls", preprocess=HALF,
    licence="none",
)  # fmt: skip
APART = replace(FUSED, name="apart", architecture="eva02_base_patch16_clip_224")
BYPASSING = replace(FUSED, name="bypassing", architecture="beit_base_patch16_224", pool="timm")
_DIMENSIONS = {"embed_dim", "depth", "num_heads", "img_size", "patch_size", "mlp_ratio"}


def _kind(spec: BackboneSpec) -> str:
    """What is left of an entry when its size is taken away: entries of one kind are the same encoder in small."""
    family = re.sub(r"tiny|small|base|large|huge|giant|so400m|patch\d+|224", "", spec.architecture)
    options = {name: value for name, value in spec.arguments.items() if name not in _DIMENSIONS}
    return f"{family} {sorted(options.items())} {spec.pool} {spec.projection is None}"


REGISTERED = sorted(
    {_kind(spec): spec for spec in BACKBONES if spec.name != "nano-clip"}.values(), key=lambda spec: spec.name
)  # which is of the kind of biomedclip
"""One entry of every kind of architecture in the registry."""


def shrunk(spec: BackboneSpec) -> BackboneSpec:
    """The same architecture with the same options, two blocks deep and 48 wide, for images of two by two patches."""
    if spec.name not in _SHRUNK:
        _SHRUNK[spec.name] = _shrunk(spec)
    return _SHRUNK[spec.name]


_SHRUNK: dict[str, BackboneSpec] = {}


def _shrunk(spec: BackboneSpec) -> BackboneSpec:
    one_block: Any = build_trunk(replace(spec, arguments={**spec.arguments, **TINY}))
    patch_px = int(one_block.patch_embed.patch_size[0])
    size_px = 2 * patch_px
    small = {**TINY, "depth": 2, "img_size": size_px}
    pooled = WIDTH * (2 if spec.pool == "cls+mean" else 1)
    return replace(
        spec,
        arguments={**spec.arguments, **small},
        preprocess=replace(spec.preprocess, size_px=size_px),
        projection=spec.projection and PROJECTED,
        pool_width=spec.pool_width and PROJECTED,
        feature_dim=PROJECTED if spec.projection or spec.pool_width else pooled,
    )


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fills every tensor at random: scales near 1, everything else near 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.2)
                if "norm" in name and name.endswith("weight"):
                    tensor.add_(1)
    return module


def small_encoder(spec: BackboneSpec, seed: int = 0) -> Encoder:
    """A frozen random encoder of the shrunk architecture."""
    _SPECS[spec.name] = spec
    return copy.deepcopy(_small_encoder(spec.name, seed))


@cache
def _small_encoder(name: str, seed: int) -> Encoder:
    encoder = build_encoder(shrunk(_SPECS[name]))
    randomised(encoder, seed)
    return encoder.requires_grad_(False).eval()


_SPECS: dict[str, BackboneSpec] = {}


def images(spec: BackboneSpec, number: int = 3) -> Tensor:
    """Noise of the size that the shrunk architecture expects."""
    size_px = shrunk(spec).preprocess.size_px
    return torch.randn(number, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def inside(encoder: Encoder) -> Any:
    """The timm trunk itself, without PEFT around it."""
    return encoder.trunk.get_base_model() if isinstance(encoder.trunk, PeftModel) else encoder.trunk


def relative(left: Tensor, right: Tensor) -> float:
    """Largest difference as a share of the largest output."""
    return float(((left - right).abs().max() / right.abs().max()).detach())
