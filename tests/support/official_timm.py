"""Checkpoints in the layouts of timm and of the DINOv2 code, beside those of official.py."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm
import torch
from official import Official, Size, fitted, hf_dinov2, randomise
from open_clip.pretrained import get_pretrained_cfg
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor, nn

from cytolora.models.backbones.registry import BackboneSpec

_DINOV2_NAMES = (
    (r"^embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.(weights_out|down_proj)\.", ".mlp.w3."),
    (r"^layernorm\.", "norm."),
)
"""Names of transformers to those of https://github.com/facebookresearch/dinov2, dinov2/models/vision_transformer.py."""


def dinov2_code(
    folder: Path, size: Size, *, name: str, registers: bool = False, swiglu: bool = False, chunks: int = 0
) -> Official:
    """The DINOv2 code's own layout; transformers, which computes the same with other names, says what it is worth.

    Args:
        chunks: Into how many the blocks are divided; 0 numbers them through. What training saves has more around it.
    """
    made = hf_dinov2(folder, size, registers=registers, swiglu=swiglu)
    state = as_dinov2_code(load_file(made.weights))
    arguments = {"mlp_ratio": state["blocks.0.mlp.w12.weight"].shape[0] / size.width} if swiglu else {}
    content: dict[str, Any] = state
    if chunks:
        content = {"teacher": {f"backbone.{key}": value for key, value in _in_chunks(state, size.layers // chunks)}}
    torch.save(content, folder / "original.pth")
    return replace(made, spec=fitted(name, size, arguments=arguments), weights=folder / "original.pth")


def _in_chunks(state: dict[str, Tensor], blocks_of_one: int) -> Iterator[tuple[str, Tensor]]:
    for key, value in state.items():
        block = re.match(r"blocks\.(\d+)\.", key)
        yield (f"blocks.{int(block[1]) // blocks_of_one}.{key.removeprefix('blocks.')}" if block else key), value


def as_dinov2_code(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Renames the tensors of transformers' DINOv2 and lays q, k and v one below the other, and gate and up."""
    named: dict[str, Tensor] = {}
    for key, value in state.items():
        for pattern, replacement in _DINOV2_NAMES:
            key = re.sub(pattern, replacement, key)
        named[key] = value
    for parts, whole in (
        ([f".attention.attention.{part}." for part in ("query", "key", "value")], ".attn.qkv."),
        ([".mlp.gate_proj.", ".mlp.up_proj."], ".mlp.w12."),
    ):
        for key in [key for key in named if parts[0] in key]:
            named[key.replace(parts[0], whole)] = torch.cat([named.pop(key.replace(parts[0], part)) for part in parts])
    return named


def eva02_clip(folder: Path, size: Size) -> Official:
    """EVA-02 CLIP in timm's layout."""
    spec = fitted("eva02-clip-b16", size)
    return _timm(folder, spec, {**_plain(spec), "num_classes": size.projected}, head=True, safetensors=True)


def timm_native(folder: Path, size: Size, *, name: str, safetensors: bool = False, **arguments: Any) -> Official:
    """UNI's layout, and every other one that timm loads by ``config.json``."""
    spec = fitted(name, size, arguments=arguments)
    return _timm(folder, spec, _plain(spec), head=False, safetensors=safetensors)


_BICUBIC, _BILINEAR = {"interpolation": "bicubic"}, {"interpolation": "bilinear"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_PUBLISHED: dict[str, dict[str, Any]] = {
    "uni": {**_IMAGENET, **_BILINEAR},  # Resize(224) and ImageNet's values of the card; torchvision's default filter
    "uni2-h": {**_IMAGENET, **_BILINEAR},
    "virchow2": {**_IMAGENET, **_BICUBIC},
    "dinobloom-b": {**_IMAGENET, **_BICUBIC},
    "h-optimus-0": {"mean": [0.707223, 0.578729, 0.703617], "std": [0.211883, 0.230117, 0.177517], **_BICUBIC},
    "prov-gigapath": {**_IMAGENET, **_BICUBIC},
}
"""Preprocessing of checkpoints that are not timm's own, as their cards say; never that of our entry."""
_RESIZED_TO = {"prov-gigapath": 256}
"""Shorter edge before the crop, where it is not the encoder's size: Resize(256), CenterCrop(224)."""
_IN_TIMM = {"dinov3-b16": "vit_base_patch16_dinov3.lvd1689m", "dinov2-b14": "vit_base_patch14_dinov2.lvd142m"}
_IN_OPEN_CLIP = {"siglip2-b16": ("ViT-B-16-SigLIP2", "webli"), "eva02-clip-b16": ("EVA02-B-16", "merged2b_s8b_b131k")}
"""Checkpoints whose preprocessing a library knows: of two of timm's copies the library of their authors."""


def published(name: str, size_px: int) -> dict[str, Any]:
    """Preprocessing of an entry's checkpoint from elsewhere than the entry, in the words of timm's config.json."""
    own: dict[str, Any] = dict(_PUBLISHED.get(name, {}))
    if name in _IN_TIMM:
        cfg: Any = timm.get_pretrained_cfg(_IN_TIMM[name])
        own = {"mean": list(cfg.mean), "std": list(cfg.std), "interpolation": cfg.interpolation}
    if name in _IN_OPEN_CLIP:
        known: Any = get_pretrained_cfg(*_IN_OPEN_CLIP[name])
        own = {"mean": list(known["mean"]), "std": list(known["std"]), "interpolation": known["interpolation"]}
        own["crop_mode"] = "squash" if known["resize_mode"] == "squash" else "center"
    return {"crop_mode": "center", **own, "crop_pct": size_px / _RESIZED_TO.get(name, size_px)}


def _timm(folder: Path, spec: BackboneSpec, arguments: dict[str, Any], *, head: bool, safetensors: bool) -> Official:
    folder.mkdir(parents=True, exist_ok=True)
    num_classes = arguments.pop("num_classes", 0)
    size_px = spec.preprocess.size_px
    config = {
        "architecture": spec.architecture,
        "num_classes": num_classes,
        "num_features": spec.feature_dim,
        "model_args": arguments,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, size_px, size_px],
            "fixed_input_size": True,
            **published(spec.name, size_px),
            "num_classes": num_classes,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }
    (folder / "config.json").write_text(json.dumps(config))
    code = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU} if "mlp_layer" in spec.arguments else {}
    made = randomise(timm.create_model(spec.architecture, num_classes=num_classes, **arguments, **code))
    if safetensors:
        save_file(made.state_dict(), folder / "model.safetensors")
    else:
        torch.save(made.state_dict(), folder / "pytorch_model.bin")
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, **code).eval()
    transform: Any = create_transform(**resolve_data_config(model=model))

    def native(path: Path) -> Tensor:
        batch = transform(Image.open(path).convert("RGB"))[None]
        if spec.pool == "cls+mean":
            tokens = model.forward_features(batch)  # pyright: ignore
            return torch.cat([tokens[:, 0], tokens[:, model.num_prefix_tokens :].mean(1)], -1)[0]  # pyright: ignore
        return model(batch)[0] if head or spec.pool == "timm" else model.forward_features(batch)[0, 0]  # pyright: ignore

    weights = folder / ("model.safetensors" if safetensors else "pytorch_model.bin")
    return Official(spec=spec, weights=weights, native=native, model=model)


def _plain(spec: BackboneSpec) -> dict[str, Any]:
    """The arguments as timm's config.json can hold them; its two classes are given in code, as its users do."""
    return {name: value for name, value in spec.arguments.items() if name not in ("mlp_layer", "act_layer")}
