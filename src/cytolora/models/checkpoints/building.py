"""Encoders built from a backbone's entry, with random weights or with none."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import timm
import torch
from timm.layers.mlp import SwiGLUPacked
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from cytolora.errors import ConfigError
from cytolora.models.backbones.spec import BackboneSpec, what_else_it_loads
from cytolora.models.checkpoints.checkpoint import first_line
from cytolora.models.checkpoints.pool_checks import check_pool
from cytolora.models.encoder import Encoder
from cytolora.models.pooling import QueryPool

_LAYERS = {"swiglu_packed": SwiGLUPacked}
"""Names for what timm takes only as a class; registry entries are plain data."""
_MAX_TOKENS = 8192
"""Patches of an image, far above the 1,024 of the largest known: attention takes their square in time."""
_DRAWS = frozenset(
    [function for name, function in vars(nn.init).items() if name.endswith("_") and callable(function)]
    + [
        getattr(torch.Tensor, name)
        for name in ("uniform_", "normal_", "erfinv_", "mul_", "add_", "clamp_", "fill_", "zero_")
    ]
)
"""What initialisations consist of. Without memory they change nothing, and take torch most of the time of building."""


class _WithoutDrawing(TorchFunctionMode):
    """Leaves out the initialisation of tensors without memory, in the thread that entered it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DRAWS:
            tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
            if len(tensors) == 1 and tensors[0].is_meta:
                return tensors[0]
        return func(*args, **kwargs)


@contextmanager
def without_weights() -> Iterator[None]:
    """Lets modules that are built within have parameters without memory; drawing them takes no time then.

    Buffers are computed as ever: not all of them stand in a checkpoint. Other threads are not affected.
    """
    owner = get_ident()

    def weightless(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or get_ident() != owner:
            return parameter
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    hook: Any = weightless  # torch's annotation forgets that a hook may return another parameter
    handle = register_module_parameter_registration_hook(hook)
    try:
        with _WithoutDrawing():
            yield
    finally:
        handle.remove()


def build_encoder(spec: BackboneSpec) -> Encoder:
    """Builds the encoder of ``spec`` with random weights.

    Raises:
        ConfigError: If timm cannot build it, or its features are not as wide as the entry says.
    """
    if (spec.pool == "query") != (spec.pool_width is not None):
        raise ConfigError(f"{spec.name}: the pool `query` and pool_width go together, got {spec.pool}.")
    trunk: Any = build_trunk(spec)
    _check_tokens(spec, trunk)
    pooler = QueryPool(int(trunk.num_features), spec.pool_width) if spec.pool_width else None
    encoder = Encoder(trunk, spec.pool, pooler=pooler)
    projection = None
    if spec.projection is not None:
        projection = nn.Linear(encoder.pooled_dim, spec.projection, bias=spec.projection_bias)
    encoder = Encoder(trunk, spec.pool, pooler=pooler, projection=projection, recipe=spec.recipe)
    if spec.feature_dim not in (None, encoder.feature_dim):
        raise ConfigError(f"{spec.name}: features are {encoder.feature_dim} wide, declared are {spec.feature_dim}.")
    check_pool(spec, encoder)
    return encoder


def _check_tokens(spec: BackboneSpec, trunk: Any) -> None:
    patch = getattr(getattr(trunk, "patch_embed", None), "patch_size", None)
    if patch is None:
        return
    across, down = patch if isinstance(patch, tuple | list) else (patch, patch)
    tokens = (spec.preprocess.size_px // max(1, across)) * (spec.preprocess.size_px // max(1, down))
    if tokens > _MAX_TOKENS:
        raise ConfigError(
            f"{spec.name}: size_px {spec.preprocess.size_px} in patches of {across} x {down} px makes {tokens:,} "
            f"tokens of each image, expected {_MAX_TOKENS:,} at most."
        )


def build_trunk(spec: BackboneSpec) -> nn.Module:
    """Builds the architecture of ``spec`` with random weights.

    Raises:
        ConfigError: If timm cannot build it, or building it would open or fetch a file.
    """
    if why := what_else_it_loads(spec.architecture, spec.arguments):
        raise ConfigError(
            f"{spec.name}: {why} Name the file with `weights`, and the architecture by timm's plain name."
        )
    arguments: dict[str, Any] = {
        name: _LAYERS.get(value, value) if isinstance(value, str) else value for name, value in spec.arguments.items()
    }
    if (eps := arguments.pop("norm_eps", None)) is not None:
        arguments["norm_layer"] = partial(nn.LayerNorm, eps=_norm_eps(spec.name, eps))
    try:
        return timm.create_model(spec.architecture, pretrained=False, **arguments)
    except Exception as error:  # timm tries its arguments as they come: KeyError, ZeroDivisionError, TypeError, …
        raise ConfigError(
            f"{spec.name}: timm cannot build {spec.architecture!r} with {dict(spec.arguments)}: "
            f"{type(error).__name__}, {first_line(error)}."
        ) from error


def _norm_eps(name: str, eps: Any) -> float:
    try:
        number = float(eps)  # YAML reads 1e-6 as a text
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(eps, bool) or not 0 < number < 1:
        raise ConfigError(f"{name}: norm_eps is a small number above 0, 1e-6 say, got {eps!r}.")
    return number
