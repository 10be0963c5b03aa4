"""Every registered architecture in small: depth 2, width 48, each tensor random, so that no mistake hides in a zero."""

from dataclasses import replace
from typing import Any

import timm
import torch
from peft import PeftModel
from torch import Tensor, nn

from cytolora.models.backbones import BACKBONES, BackboneSpec
from cytolora.models.loading import build_trunk
from cytolora.models.tower import Tower
from cytolora.specs import Preprocess

WIDTH = 48
HALF = Preprocess(size_px=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
FUSED = BackboneSpec(
    name="fused", architecture="vit_base_patch16_224", arguments={"num_classes": 0}, pool="cls", preprocess=HALF,
    licence="none",
)  # fmt: skip
APART = replace(FUSED, name="apart", architecture="eva02_base_patch16_clip_224")
BYPASSING = replace(FUSED, name="bypassing", architecture="beit_base_patch16_224", pool="mean_patch")
REGISTERED = sorted(BACKBONES, key=lambda spec: spec.name)


def shrunk(spec: BackboneSpec) -> BackboneSpec:
    """The same architecture with the same options, two blocks deep and 48 wide, for images of two by two patches."""
    full = timm.create_model(spec.architecture, **{**spec.arguments, "depth": 1, "embed_dim": WIDTH, "num_heads": 3})
    size_px = 2 * int(full.patch_embed.patch_size[0])  # pyright: ignore
    small = {"embed_dim": WIDTH, "depth": 2, "num_heads": 3, "img_size": size_px}
    return replace(
        spec, arguments={**spec.arguments, **small}, preprocess=replace(spec.preprocess, size_px=size_px)
    )  # fmt: skip


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


def small_tower(spec: BackboneSpec, seed: int = 0) -> Tower:
    """A frozen random tower of the shrunk architecture."""
    trunk = randomised(build_trunk(shrunk(spec)), seed)
    return Tower(trunk, spec.pool).requires_grad_(False).eval()


def images(spec: BackboneSpec, number: int = 3) -> Tensor:
    """Noise of the size that the shrunk architecture expects."""
    size_px = shrunk(spec).preprocess.size_px
    return torch.randn(number, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))


def inside(tower: Tower) -> Any:
    """The timm trunk itself, without PEFT around it."""
    return tower.trunk.get_base_model() if isinstance(tower.trunk, PeftModel) else tower.trunk


def relative(left: Tensor, right: Tensor) -> float:
    """Largest difference as a share of the largest output."""
    return float(((left - right).abs().max() / right.abs().max()).detach())
