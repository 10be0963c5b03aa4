"""Strict checkpoint loading into a timm encoder: every tensor name and shape must match."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from cytolora.errors import WeightsError
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.building import build_encoder, without_weights
from cytolora.models.checkpoints.checkpoint import first_line, read_state
from cytolora.models.checkpoints.contradictions import check_neighbours
from cytolora.models.checkpoints.formats import State, recognised, to_encoder_names
from cytolora.models.checkpoints.layouts import TEXT_SIGNATURES, TIMM
from cytolora.models.encoder import Encoder

_BESIDE_TRUNK = ("projection.", "pooler.")


def load_encoder(spec: BackboneSpec, path: Path, *, trust_weights: bool = False) -> Encoder:
    """Builds the encoder of ``spec`` with the weights of ``path``, frozen, in evaluation mode, fp32, on the CPU.

    Args:
        trust_weights: Does not ask the configurations beside the file: they were asked before, or a bundle decides.

    Raises:
        WeightsError: If the file is missing, damaged, its keys or shapes are not exactly the architecture's, or a
            configuration beside it contradicts the entry.
    """
    with without_weights():
        encoder = build_encoder(spec)
    state = _encoder_state(spec, path, encoder)
    expected = _expected(encoder)
    _check_fits(spec, path, state, expected)
    if not trust_weights:
        check_neighbours(spec, path)
    named = {}
    for name in list(state):
        own = _own(state.pop(name), expected[name].dtype)  # one after the other: never two copies of the whole
        named[name if name.startswith(_BESIDE_TRUNK) else f"trunk.{name}"] = own
    encoder.load_state_dict(named, strict=True, assign=True)
    return encoder.requires_grad_(False).eval()


def _own(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a tensor as torch would have allocated it: of this type, in one piece, aligned, no window into a file."""
    return torch.empty(tensor.shape, dtype=dtype).copy_(tensor)


def _encoder_state(spec: BackboneSpec, path: Path, encoder: Encoder) -> State:
    """Reads a checkpoint under the encoder's names."""
    expected = _expected(encoder)
    read = _without(read_state(path, spec.hub and str(spec.hub)), spec.drops)
    try:
        state, layout = recognised(read, expected)
    except ValueError as error:
        raise WeightsError(
            f"{path} holds {error}. Save the one that is meant to a file of its own, or list the names of the other "
            "under `drops` of a backbone file."
        ) from error
    state = _without(state, spec.drops)
    if layout is None:
        if any(re.fullmatch(signature, name) for name in state for signature in TEXT_SIGNATURES):
            raise WeightsError(f"{path} holds a model of text, no image encoder. Name the file of {spec.name}.")
        return state  # under names that fit nothing; the error that follows lists them
    splits_qkv = any(".attn.q_proj." in name for name in expected)
    try:
        named = to_encoder_names(state, layout, splits_qkv=splits_qkv)
        if spec.resamples_positions and (positions := named.get("pos_embed")) is not None:
            named["pos_embed"] = _resampled(positions, encoder.trunk)
    except (RuntimeError, TypeError, IndexError, ValueError, AssertionError) as error:  # shapes of no such encoder
        raise WeightsError(
            f"{path} does not hold the weights of {spec.name} ({spec.architecture}): its tensors have other shapes "
            f"({first_line(error)}). Check that file and backbone belong together."
        ) from error
    if layout is TIMM and spec.projection is not None:
        named = {re.sub(r"^head\.", "projection.", name): tensor for name, tensor in named.items()}
        bias = named.get("projection.bias")
        if bias is not None and not spec.projection_bias and not bias.any():
            del named["projection.bias"]  # timm gives its head a bias of zeros where the original has none
    return named


def _without(state: State, drops: tuple[str, ...]) -> State:
    return {name: tensor for name, tensor in state.items() if not name.startswith(drops or ("\0",))}


def _resampled(positions: Float[Tensor, "1 _ width"], trunk: Any) -> Float[Tensor, "1 _ width"]:
    num_prefix = 0 if getattr(trunk, "no_embed_class", False) else trunk.num_prefix_tokens
    return resample_abs_pos_embed(positions, list(trunk.patch_embed.grid_size), num_prefix_tokens=num_prefix)


def _expected(encoder: Encoder) -> dict[str, Tensor]:
    names = ((name.removeprefix("trunk."), tensor) for name, tensor in encoder.state_dict().items())
    return dict(names)


def _check_fits(spec: BackboneSpec, path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    shapes = [key for key in sorted(expected.keys() & state.keys()) if state[key].shape != expected[key].shape]
    fitting = [] if shapes else sorted(expected.keys() & state.keys())
    kinds = [key for key in fitting if state[key].is_floating_point() != expected[key].is_floating_point()]
    broken = [key for key in fitting if key not in kinds and not _is_finite(state[key], expected[key].dtype)]
    problems = [
        f"{len(keys)} {what} ({_some(keys)})" for what, keys in (("missing", missing), ("unexpected", extra)) if keys
    ]
    problems += [f"{key} is {_shape(state[key])}, expected {_shape(expected[key])}" for key in shapes[:1]]
    problems += [f"{key} is of {state[key].dtype}, expected {expected[key].dtype}" for key in kinds[:1]]
    problems += [f"{key} holds NaN or infinity" for key in broken[:1]]
    if problems:
        raise WeightsError(
            f"{path} does not hold the weights of {spec.name} ({spec.architecture}): {'; '.join(problems)}. "
            "Check that file and backbone belong together."
        )


def _is_finite(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether every number is one, also as the encoder will hold it: 1e300 is infinite there."""
    return bool(torch.isfinite(tensor.to(dtype)).all())


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"
