"""timm export of a bundle: adapter merged, q-k-v fused, head inside, opened by ``timm.create_model``."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from torch import Tensor, nn

from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import EXPORT
from cytolora.classifier.inference.predictor import pixels_of
from cytolora.core.files import json_bytes, write_bytes, write_text
from cytolora.errors import ConfigError
from cytolora.models.adapters.split_qkv import fuse_qkv
from cytolora.models.encoder_with_head import EncoderWithHead, MeanHead, UnitHead

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_POOLS: dict[str, tuple[dict[str, Any], ...]] = {
    "cls": ({"global_pool": "token"},),
    "mean_patch": ({"global_pool": "avg", "fc_norm": False}, {"global_pool": "avg", "use_fc_norm": False}),
    "timm": ({},),
}
"""What timm is told so that it pools as the encoder does, after the last norm; families name it differently."""


def write_timm(bundle: Classifier, folder: Path) -> None:
    """Writes the two files that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` reads, and the thresholds.

    Raises:
        ConfigError: If timm's own classifier cannot be this one.
    """
    classifier = bundle.classifier()
    if isinstance(classifier.head, MeanHead):
        raise ConfigError(
            f"{bundle.name} is an ensemble of {len(classifier.head.members)} heads, and timm's classifier is one. "
            "Export with --to onnx."
        )
    if isinstance(classifier.head, UnitHead):
        raise ConfigError(
            f"{bundle.name}: the head of {bundle.contents.method} maps features scaled to length 1, and timm's "
            "classifier scales none. Export with --to onnx."
        )
    trunk = copy.deepcopy(classifier.encoder.trunk)
    fuse_qkv(trunk)
    expected, arguments = _architecture(bundle)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trunk.state_dict().items()}
    state |= dict(_head(classifier))
    strange = sorted(expected.keys() ^ state.keys())
    if strange:
        raise ConfigError(f"{bundle.backbone.name} is no plain model of timm, first at {strange[0]}: use --to onnx.")
    content = save(state)
    write_bytes(folder / WEIGHTS, content)
    described = json_bytes(_config(bundle, classifier, arguments))
    write_bytes(folder / CONFIG, described)
    hashes = {WEIGHTS: sha256(content).hexdigest(), CONFIG: sha256(described).hexdigest()}
    write_text(folder / EXPORT, to_text(replace(bundle.contents, files=hashes)))


def open_timm(folder: Path) -> Callable[[Any], Tensor]:
    """Opens what was written with timm alone; returns the way from an image to its logits [1, classes]."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform: Any = create_transform(**resolve_data_config(model=model))

    def logits(image: Any) -> Tensor:
        from PIL import Image

        with torch.inference_mode():
            return model(transform(Image.fromarray(pixels_of(image))).unsqueeze(0))

    return logits


def _architecture(bundle: Classifier) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Finds timm's arguments for the encoder with a classifier; returns its tensors, by name, and the arguments."""
    spec, num_classes = bundle.backbone, len(bundle.classes)
    given = {name: value for name, value in spec.arguments.items() if name not in ("num_classes", "norm_eps")}
    if "mlp_layer" in given:
        raise ConfigError(f"{spec.name} has a layer that no config.json can name ({given['mlp_layer']}): --to onnx.")
    problem = f"timm has no pooling like {spec.pool!r}"
    for pool in _POOLS.get(spec.pool, ()):
        arguments = {**given, **pool}
        try:
            with torch.device("meta"):
                model = timm.create_model(spec.architecture, num_classes=num_classes, **arguments)
        except (TypeError, ValueError, RuntimeError, AssertionError) as error:
            problem = " ".join(str(error).split())[:200]
            continue
        if isinstance(getattr(model, "head", None), nn.Linear):
            return model.state_dict(), arguments
        problem = "its classifier is more than a linear layer"
    raise ConfigError(f"{spec.name} cannot be opened by timm alone ({problem}). Export with --to onnx.")


def _head(classifier: EncoderWithHead) -> Iterator[tuple[str, Tensor]]:
    """Yields timm's classifier; the encoder's projection, two linear maps in a row being one, lies in it."""
    weight, bias = classifier.head.weight.detach().double().cpu(), classifier.head.bias.detach().double().cpu()
    projection = classifier.encoder.projection
    if projection is not None:
        if projection.bias is not None:
            bias = bias + weight @ projection.bias.detach().double().cpu()
        weight = weight @ projection.weight.detach().double().cpu()
    yield "head.weight", weight.float().contiguous()
    yield "head.bias", bias.float().contiguous()


def _config(bundle: Classifier, classifier: EncoderWithHead, arguments: Mapping[str, Any]) -> dict[str, Any]:
    preprocess, size = bundle.preprocess, bundle.preprocess.size_px
    return {
        "architecture": bundle.backbone.architecture,
        "num_classes": len(bundle.classes),
        "num_features": int(classifier.encoder.trunk.num_features),
        "model_args": dict(arguments),
        "pretrained_cfg": {
            "num_classes": len(bundle.classes),
            "input_size": [3, size, size],
            "fixed_input_size": True,
            "interpolation": preprocess.interpolation,
            "crop_pct": size / preprocess.shorter_px,
            "crop_mode": "squash" if preprocess.resize == "squash" else "center",
            "mean": list(preprocess.mean),
            "std": list(preprocess.std),
            "first_conv": "patch_embed.proj",
            "classifier": "head",
            "label_names": list(bundle.classes),
            "license": bundle.backbone.licence,
        },
    }
