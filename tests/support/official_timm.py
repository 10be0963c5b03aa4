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


def _timm(folder: Path, spec: BackboneSpec, arguments: dict[str, Any], *, head: bool, safetensors: bool) -> Official:
    folder.mkdir(parents=True, exist_ok=True)
    num_classes = arguments.pop("num_classes", 0)
    pre = spec.preprocess
    config = {
        "architecture": spec.architecture,
        "num_classes": num_classes,
        "num_features": spec.feature_dim,
        "model_args": arguments,
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [3, pre.size_px, pre.size_px],
            "fixed_input_size": True,
            "interpolation": pre.interpolation,
            "crop_pct": pre.size_px / pre.shorter_px,
            "crop_mode": "squash" if pre.resize == "squash" else "center",
            "mean": list(pre.mean),
            "std": list(pre.std),
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
