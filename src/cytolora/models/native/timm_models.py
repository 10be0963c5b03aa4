"""Encoders of timm as timm itself opens them, and files of the DINOv2 code by timm's conversion."""

import re
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from PIL import Image
from timm.data.config import resolve_data_config
from timm.data.transforms_factory import create_transform
from timm.layers.mlp import SwiGLUPacked
from torch import Tensor

from cytolora.errors import ConfigError, WeightsError
from cytolora.models.backbones.spec import BackboneSpec, what_else_it_loads
from cytolora.models.checkpoints.checkpoint import first_line
from cytolora.models.checkpoints.formats import State
from cytolora.models.checkpoints.neighbours import CONFIG
from cytolora.models.native.native import Native, View, named, read_beside

_GIVEN_IN_CODE = {"swiglu_packed": SwiGLUPacked}
"""What no configuration file can hold; a model's authors give it in code."""
_NOT_TIMMS = ("norm_eps",)


def open_model(spec: BackboneSpec, path: Path, layout: str, state: State) -> Native:
    """Opens a checkpoint by the ``config.json`` beside it, or, without one, by the arguments of the entry.

    Raises:
        ConfigError: If timm has no such architecture.
        WeightsError: If timm cannot read the checkpoint.
    """
    content = read_beside(path, CONFIG) or {}
    has_config = isinstance(content.get("architecture"), str)
    architecture = content["architecture"] if has_config else spec.architecture
    named_arguments = {**content.get("model_args", {})} if has_config else dict(spec.arguments)
    if why := what_else_it_loads(architecture, named_arguments):
        raise ConfigError(f"{CONFIG}: {why}")
    arguments = {
        name: _GIVEN_IN_CODE.get(value, value) if isinstance(value, str) else value
        for name, value in {**_in_code(spec), **named_arguments}.items()
        if name not in _NOT_TIMMS
    }
    if spec.resamples_positions:
        arguments["img_size"] = spec.preprocess.size_px
    num_classes = spec.projection or 0
    arguments["num_classes"] = num_classes
    cfg: dict[str, Any] = dict(content.get("pretrained_cfg") or {}) if has_config else {}
    model = _loaded(architecture, arguments, cfg, _numbered_through(state) if layout == "dinov2" else state)
    return Native(
        library=named("timm"),
        model=model,
        features=_features(model, spec),
        view=_view(model, cfg) if cfg else None,
        configuration=f"{CONFIG} beside the weights" if has_config else "the entry's arguments: no config.json",
    )


def _in_code(spec: BackboneSpec) -> dict[str, Any]:
    return {name: value for name, value in spec.arguments.items() if name in ("mlp_layer", "act_layer")}


def _loaded(architecture: str, arguments: dict[str, Any], cfg: dict[str, Any], state: State) -> Any:
    overlay = {
        "state_dict": dict(state),
        "custom_load": False,
        "num_classes": arguments["num_classes"],  # as the model's: timm then leaves no tensor out
    }
    try:
        return timm.create_model(
            architecture, pretrained=True, pretrained_cfg=cfg or None, pretrained_cfg_overlay=overlay, **arguments
        ).eval()
    except Exception as error:  # timm tries its arguments as they come
        raise WeightsError(f"timm cannot load the checkpoint: {first_line(error)}") from error


def _numbered_through(state: State) -> State:
    """Takes the number of the chunk out of the names of blocks, which the DINOv2 code counts through."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name): tensor for name, tensor in state.items()}


def _features(model: Any, spec: BackboneSpec) -> Any:
    def features(batch: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch width"]:
        if spec.pool == "timm" or spec.projection is not None:
            return model(batch)
        tokens = model.forward_features(batch)
        patches = tokens[:, model.num_prefix_tokens :].mean(1)
        match spec.pool:
            case "cls":
                return tokens[:, 0]
            case "mean_patch":
                return patches
            case "cls+mean":
                return torch.cat([tokens[:, 0], patches], -1)
            case "query":
                raise ConfigError("timm has no pooling by a query. Nothing compares with it here.")

    return features


def _view(model: Any, cfg: dict[str, Any]) -> View:
    transform: Any = create_transform(**resolve_data_config(pretrained_cfg=cfg, model=model))

    def view(image: Image.Image) -> Float[Tensor, "3 size size"]:
        return transform(image)

    return view
