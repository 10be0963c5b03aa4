"""Checkpoints in their official layouts - file names, JSON, tensor names - with random weights, and the native library.

Each writer makes a folder as it lies on the hub, in small or in full size, and returns our entry fitted to it, the file
of weights, and the way from an image file to a feature through the library that the checkpoint was published for.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cytolora.models.backbones.registry import BACKBONES, BackboneSpec

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


@dataclass(frozen=True, kw_only=True)
class Official:
    spec: BackboneSpec
    weights: Path
    native: Callable[[Path], Tensor]
    """From an image file to a feature [width]."""
    model: Any
    """The native library's model."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of the encoder that is written; ``full`` is ViT-B/16 as published."""

    width: int
    layers: int
    heads: int
    projected: int
    image_px: int
    patch_px: int

    @property
    def mlp(self) -> int:
        return 4 * self.width


SMALL = Size(width=128, layers=2, heads=2, projected=32, image_px=64, patch_px=16)
FULL = Size(width=768, layers=12, heads=12, projected=512, image_px=224, patch_px=16)


def randomise(model: nn.Module) -> nn.Module:
    """Fills every tensor at random, scaled by its width so that signals neither grow nor vanish."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            fan_in = tensor[0].numel() if tensor.ndim > 1 else 25
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.7 * fan_in**-0.5)
            if "norm" in name.lower() and name.endswith("weight"):
                tensor.add_(1)
    return model.eval()


def fitted(name: str, size: Size, **changes: Any) -> BackboneSpec:
    """The registered entry, with the written encoder's size."""
    spec = BACKBONES.get(name)
    arguments = {
        **spec.arguments,
        "embed_dim": size.width,
        "depth": size.layers,
        "num_heads": size.heads,
        "img_size": size.image_px,
        "patch_size": size.patch_px,
        **changes.pop("arguments", {}),
    }
    projection = size.projected if spec.projection else None
    pooled = size.width * (2 if spec.pool == "cls+mean" else 1)
    return replace(
        spec,
        arguments=arguments,
        projection=projection,
        feature_dim=projection or pooled,
        preprocess=replace(spec.preprocess, size_px=size.image_px),
        **changes,
    )


def open_clip_vit(
    folder: Path, size: Size, *, name: str, quick_gelu: bool, filename: str = "open_clip_pytorch_model.bin"
) -> Official:
    """QuiltNet's layout; with ``quick_gelu`` that of OpenAI's CLIP as open_clip publishes it."""
    vision = {
        "image_size": size.image_px,
        "layers": size.layers,
        "width": size.width,
        "patch_size": size.patch_px,
        "head_width": size.width // size.heads,
    }
    text = {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1}
    config = {"embed_dim": size.projected, "vision_cfg": vision, "text_cfg": text}
    if quick_gelu:
        config["quick_gelu"] = True
    return _open_clip(folder, fitted(name, size), config, filename)


def biomedclip(folder: Path, size: Size) -> Official:
    """BiomedCLIP's layout: a timm trunk, a projection, and a BERT whose configuration lies in a second folder."""
    small = size is SMALL
    (folder / "bert").mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    bert = transformers.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
    )
    bert.save_pretrained(folder / "bert")
    vision = {
        "timm_model_name": "vit_tiny_patch16_224" if small else "vit_base_patch16_224",
        "timm_model_pretrained": False,
        "timm_pool": "",
        "timm_proj": "linear",
        "image_size": 224,
    }
    text = {
        "hf_model_name": str(folder / "bert"),
        "hf_tokenizer_name": str(folder / "bert"),
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 256,
    }
    (folder / "model").mkdir()
    (folder / "model" / "vocab.txt").write_text("\n".join(words))
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    tiny = replace(size, width=192, heads=3, layers=12, image_px=224) if small else size
    config = {"embed_dim": tiny.projected, "vision_cfg": vision, "text_cfg": text}
    return _open_clip(folder / "model", fitted("biomedclip", tiny), config, "open_clip_pytorch_model.bin")


def _open_clip(folder: Path, spec: BackboneSpec, config: dict[str, Any], filename: str) -> Official:
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": CLIP_MEAN, "std": CLIP_STD}
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    made = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    save = save_file if filename.endswith(".safetensors") else torch.save
    save(randomise(made).state_dict(), folder / filename)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    model.eval()

    def native(path: Path) -> Tensor:
        return model.encode_image(transform(Image.open(path))[None])[0]  # pyright: ignore

    return Official(spec=spec, weights=folder / filename, native=native, model=model)


def hf_clip(folder: Path, size: Size, *, name: str = "clip-vit-b16", safetensors: bool = True) -> Official:
    """OpenAI's CLIP as transformers publishes it, image and text together; PLIP and PubMedCLIP lie the same way."""
    vision = _hf_vision(size) | {"projection_dim": size.projected}
    text = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 128}
    text["projection_dim"] = size.projected
    config = transformers.CLIPConfig(vision_config=vision, text_config=text, projection_dim=size.projected)
    weights = _save_hf(randomise(transformers.CLIPModel(config)), folder, safetensors=safetensors)
    pixels = {"shortest_edge": size.image_px}
    transformers.CLIPImageProcessorPil(size=pixels, crop_size=size.image_px).save_pretrained(folder)
    model = transformers.CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)

    def native(path: Path) -> Tensor:
        return model(**processor(Image.open(path), return_tensors="pt")).image_embeds[0]

    return Official(spec=fitted(name, size), weights=weights, native=native, model=model)


def hf_vit(folder: Path, size: Size, *, names: str = "v4") -> Official:
    """Google's ViT with its ImageNet classifier; ``v5`` saves the tensors as transformers 5 calls them in memory."""
    config = transformers.ViTConfig(**_hf_vision(size), num_labels=10)  # pyright: ignore[reportCallIssue]
    made = randomise(transformers.ViTForImageClassification(config))
    weights = _save_hf(made, folder, safetensors=False)
    if names == "v5":
        torch.save(made.state_dict(), weights)
    transformers.ViTImageProcessorPil(size={"height": size.image_px, "width": size.image_px}).save_pretrained(folder)
    model = made
    processor = transformers.ViTImageProcessorPil.from_pretrained(folder)

    def native(path: Path) -> Tensor:
        return model.vit(**processor(Image.open(path), return_tensors="pt")).last_hidden_state[0, 0]  # pyright: ignore

    return Official(spec=fitted("vit-b16", size), weights=weights, native=native, model=model)


def hf_dinov2(folder: Path, size: Size, *, registers: bool = False, swiglu: bool = False) -> Official:
    """Phikon-v2's layout; with registers and SwiGLU the other two forms of transformers' DINOv2."""
    kind: Any = transformers.Dinov2WithRegistersModel if registers else transformers.Dinov2Model
    form = transformers.Dinov2WithRegistersConfig if registers else transformers.Dinov2Config
    options = _hf_vision(size)
    del options["intermediate_size"]
    made = randomise(kind(form(**options, mlp_ratio=4, use_swiglu_ffn=swiglu, layer_norm_eps=1e-6)))
    weights = _save_hf(made, folder, safetensors=True)
    pixels = {"height": size.image_px, "width": size.image_px}
    edge = {"shortest_edge": size.image_px}
    transformers.BitImageProcessorPil(
        size=edge, crop_size=pixels, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ).save_pretrained(folder)
    processor = transformers.BitImageProcessorPil.from_pretrained(folder)
    arguments: dict[str, Any] = {}
    if swiglu:
        hidden = 2 * made.state_dict()["encoder.layer.0.mlp.down_proj.weight"].shape[1]
        arguments |= {"mlp_layer": "swiglu_packed", "act_layer": "silu", "mlp_ratio": hidden / size.width}
    if registers:
        arguments |= {"reg_tokens": 4, "no_embed_class": True}

    def native(path: Path) -> Tensor:
        return made(**processor(Image.open(path), return_tensors="pt")).last_hidden_state[0, 0]

    spec = fitted("phikon-v2", size, arguments=arguments)
    return Official(spec=spec, weights=weights, native=native, model=made)


def hf_siglip(folder: Path, size: Size) -> Official:
    """MedSigLIP's layout: image and text together, pooled by attention."""
    vision = _hf_vision(size)
    text = {"hidden_size": size.width, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    config = transformers.SiglipConfig(vision_config=vision, text_config=text)
    made: Any = randomise(transformers.SiglipModel(config))
    weights = _save_hf(made, folder, safetensors=True)
    pixels = {"height": size.image_px, "width": size.image_px}
    transformers.SiglipImageProcessorPil(size=pixels, resample=2).save_pretrained(folder)
    processor = transformers.SiglipImageProcessorPil.from_pretrained(folder)

    def native(path: Path) -> Tensor:
        return made.vision_model(**processor(Image.open(path), return_tensors="pt")).pooler_output[0]

    spec = fitted("medsiglip", size, arguments={"mlp_ratio": 4})
    return Official(spec=spec, weights=weights, native=native, model=made)


def _hf_vision(size: Size) -> dict[str, Any]:
    return {
        "hidden_size": size.width,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.mlp,
        "image_size": size.image_px,
        "patch_size": size.patch_px,
    }


def _save_hf(model: Any, folder: Path, *, safetensors: bool) -> Path:
    model.save_pretrained(folder)
    if safetensors:
        return folder / "model.safetensors"
    state: Mapping[str, Tensor] = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(dict(state), folder / "pytorch_model.bin")
    return folder / "pytorch_model.bin"
