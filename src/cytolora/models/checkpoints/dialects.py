"""LoRA export for stock PEFT on stock timm, and for stock PEFT on transformers' CLIP.

Our own adapters name split projections; whoever has only the published model opens one of these instead.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor

from cytolora.core.folders import staged_folder
from cytolora.errors import ConfigError
from cytolora.models.encoder import Encoder

Dialect = tuple[LoraConfig, dict[str, Tensor]]
"""PEFT's configuration, and the adapter's tensors under PEFT's names."""

_PREFIX = "base_model.model."
_LAYER = re.compile(rf"{re.escape(_PREFIX)}(blocks\.\d+)\.(.+)\.lora_([AB])\.weight")
_IN_CLIP = {
    "attn.qkv.q_proj": "self_attn.q_proj",
    "attn.qkv.k_proj": "self_attn.k_proj",
    "attn.qkv.v_proj": "self_attn.v_proj",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


def for_stock_timm(encoder: Encoder) -> Dialect:
    """Rewrites a LoRA for timm's fused ``qkv``: the A of q, k and v lie one below the other, B is block by block.

    Raises:
        ConfigError: If the adapter is no plain LoRA.
    """
    config, layers = _plain_lora(encoder)
    scaling = _scaling(config)
    state, parts = {}, {}
    for (block, module), pair in layers.items():
        if module.startswith("attn.qkv."):
            parts.setdefault(block, {})[module.removeprefix("attn.qkv.").removesuffix("_proj")] = pair
        else:
            state |= _named(f"{block}.{module}", pair)
    num_parts = 1
    for block, pieces in parts.items():
        num_parts = len(pieces)
        state |= _named(f"{block}.attn.qkv", _fused(pieces))
    rank = config.r * num_parts
    modules = {re.escape(_module(name)) for name in state}
    written = LoraConfig(
        r=config.r,
        lora_alpha=scaling * config.r,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.lora_dropout,
        target_modules="|".join(sorted(modules)),
        rank_pattern={"qkv": rank},
        alpha_pattern={"qkv": scaling * rank},  # pyright: ignore[reportArgumentType]
        bias="none",
    )
    return written, state


def for_transformers_clip(encoder: Encoder) -> Dialect:
    """Rewrites a LoRA for the vision half of transformers' CLIP, which keeps q, k and v apart as we do.

    Raises:
        ConfigError: If the adapter is no plain LoRA, or adapts what CLIP does not have.
    """
    config, layers = _plain_lora(encoder)
    state = {}
    for (block, module), pair in layers.items():
        if module not in _IN_CLIP:
            raise ConfigError(f"transformers' CLIP has no projection {module}; this adapter is of another family.")
        number = block.removeprefix("blocks.")
        state |= _named(f"vision_model.encoder.layers.{number}.{_IN_CLIP[module]}", pair)
    written = LoraConfig(
        r=config.r,
        lora_alpha=_scaling(config) * config.r,  # pyright: ignore[reportArgumentType]
        lora_dropout=config.lora_dropout,
        target_modules="|".join(sorted({re.escape(_module(name)) for name in state})),
        bias="none",
    )
    return written, state


def write_dialect(dialect: Dialect, folder: Path) -> None:
    """Writes the two files that ``PeftModel.from_pretrained`` reads, whole or not at all."""
    config, state = dialect
    with staged_folder(folder) as staging:
        config.save_pretrained(str(staging))
        save_file(state, staging / "adapter_model.safetensors")


def _plain_lora(encoder: Encoder) -> tuple[LoraConfig, dict[tuple[str, str], dict[str, Tensor]]]:
    config = encoder.trunk.peft_config["default"] if isinstance(encoder.trunk, PeftModel) else None
    if type(config) is not LoraConfig or config.use_dora or config.init_lora_weights is not True:
        raise ConfigError(
            "Only a plain LoRA can be written for other libraries. Merge this adapter into the weights instead "
            "(`cytolora export --to timm`)."
        )
    layers: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in cast(Mapping[str, Tensor], get_peft_model_state_dict(encoder.trunk)).items():
        match = _LAYER.fullmatch(name)
        if match is None:
            raise ConfigError(f"{name} is no tensor of a LoRA on a block.")
        block, module, matrix = match.groups()
        layers.setdefault((block, module), {})[matrix] = tensor.detach().cpu()
    return config, layers


def _scaling(config: LoraConfig) -> float:
    return config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)


def _fused(pieces: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Joins the pairs of q, k and v: A [parts x rank, width], B [3 x width, parts x rank], zero off the blocks."""
    order = [name for name in "qkv" if name in pieces]
    width, rank = pieces[order[0]]["B"].shape
    b = torch.zeros(3 * width, rank * len(order))
    for column, name in enumerate(order):
        row = "qkv".index(name)
        b[row * width : (row + 1) * width, column * rank : (column + 1) * rank] = pieces[name]["B"]
    return {"A": torch.cat([pieces[name]["A"] for name in order]), "B": b}


def _named(module: str, pair: Mapping[str, Any]) -> dict[str, Tensor]:
    return {f"{_PREFIX}{module}.lora_{matrix}.weight": tensor.contiguous() for matrix, tensor in pair.items()}


def _module(name: str) -> str:
    return name.removeprefix(_PREFIX).rpartition(".lora_")[0]
