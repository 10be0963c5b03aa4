"""A checkpoint file in its official format to a timm tower: every key must fit, nothing is run."""

from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from cytolora.errors import ConfigError, WeightsError
from cytolora.models.backbones import BackboneSpec
from cytolora.models.tower import Tower


def load_tower(spec: BackboneSpec, path: Path) -> Tower:
    """Builds the tower of ``spec`` with the weights of ``path``, frozen, in evaluation mode, fp32, on the CPU.

    Raises:
        WeightsError: If the file is missing, damaged, or its keys or shapes are not exactly the architecture's.
    """
    trunk = build_trunk(spec)
    state = read_state(path)
    _check_fits(spec, path, state, trunk.state_dict())
    trunk.load_state_dict(state, strict=True, assign=False)
    tower = Tower(trunk, spec.pool)
    return tower.requires_grad_(False).eval()


def build_trunk(spec: BackboneSpec) -> nn.Module:
    """Builds the architecture of ``spec`` with random weights."""
    try:
        return timm.create_model(spec.architecture, pretrained=False, **spec.arguments)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{spec.name}: timm cannot build {spec.architecture!r} with {dict(spec.arguments)}: {_line(error)}."
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors file; other formats are refused by name."""
    if not path.is_file():
        raise WeightsError(f"No weights file at {path}. Name it with --weights NAME=PATH.")
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} is no .safetensors file; convert it first (no pickle is ever opened).")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file: {_line(error)}. Fetch it again and compare its SHA-256."
        ) from error


def _check_fits(spec: BackboneSpec, path: Path, state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing = sorted(expected.keys() - state.keys())
    extra = sorted(state.keys() - expected.keys())
    shapes = [key for key in sorted(expected.keys() & state.keys()) if state[key].shape != expected[key].shape]
    broken = [key for key in sorted(state) if state[key].is_floating_point() and not torch.isfinite(state[key]).all()]
    problems = [
        f"{len(keys)} {what} ({_some(keys)})" for what, keys in (("missing", missing), ("unexpected", extra)) if keys
    ]
    problems += [f"{key} is {_shape(state[key])}, expected {_shape(expected[key])}" for key in shapes[:1]]
    problems += [f"{key} holds NaN or infinity" for key in broken[:1]]
    if problems:
        raise WeightsError(
            f"{path} does not hold the weights of {spec.name} ({spec.architecture}): {'; '.join(problems)}. "
            "Check that file and backbone belong together."
        )


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a single number"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
