"""Pooling checks: the trunk has the tokens that the pool reads, and the encoder gives one vector an image."""

from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import SHIPPED
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.checkpoint import first_line
from cytolora.models.encoder import Encoder, has_class_token

_OF_TOKENS = ("cls", "mean_patch", "cls+mean", "query")
"""Pools that read the tokens themselves; ``timm`` leaves it to the architecture."""
_Built = tuple[str, int | None, int]
_SHAPES: dict[_Built, tuple[int, ...] | None] = {}
"""Output shapes by what was built: two thirds of the time of loading a small encoder, and the same the second time."""


def _built(spec: BackboneSpec) -> _Built:
    """What decides the shape of an encoder's output."""
    return spec.recipe, spec.pool_width, spec.preprocess.size_px


_PROVEN = frozenset(map(_built, SHIPPED))
"""Not run: the tests run each of them, and running without numbers loads torch's compiler, a second and 160 MiB."""


def check_pool(spec: BackboneSpec, encoder: Encoder) -> None:
    """Checks that the encoder has what its pool reads, and gives one vector an image.

    Raises:
        ConfigError: If it has no class token, normalises after pooling, gives no tokens, or takes images of another
            size.
    """
    trunk = encoder.trunk
    if spec.pool in ("cls", "cls+mean") and not has_class_token(trunk):
        raise ConfigError(
            f"{spec.name}: the pool {spec.pool!r} reads the class token, and {spec.architecture} as it is built here "
            "has none. Write `pool: mean_patch`, or `pool: timm` for the architecture's own."
        )
    if spec.pool in _OF_TOKENS and not isinstance(getattr(trunk, "fc_norm", None), nn.Identity | None):
        raise ConfigError(
            f"{spec.name}: {spec.architecture} as it is built here normalises after pooling (fc_norm), which the pool "
            f"{spec.pool!r} would leave out. Write `pool: timm` for the architecture's own."
        )
    if (built := _built(spec)) in _PROVEN:
        return
    if built not in _SHAPES:
        _SHAPES[built] = _output_shape(spec, encoder)
    shape = _SHAPES[built]
    if shape is not None and shape != (1, encoder.feature_dim):
        raise ConfigError(
            f"{spec.name}: the pool {spec.pool!r} makes {' x '.join(map(str, shape))} numbers of an image with "
            f"{spec.architecture}, expected 1 x {encoder.feature_dim}: it gives no list of tokens. Write `pool: timm`."
        )


def _output_shape(spec: BackboneSpec, encoder: Encoder) -> tuple[int, ...] | None:
    """Runs the encoder without computing anything; None where its code needs numbers to go on."""
    state: dict[str, Any] = {name: tensor.to("meta") for name, tensor in encoder.named_parameters()}
    state |= {name: tensor.to("meta") for name, tensor in encoder.named_buffers()}
    size_px, was_training = spec.preprocess.size_px, encoder.training
    try:
        with torch.inference_mode():
            image = torch.empty(1, 3, size_px, size_px, device="meta")
            return tuple(functional_call(encoder.eval(), state, (image,)).shape)
    except NotImplementedError:
        return None
    except Exception as error:  # timm's encoders refuse an image by an assertion, or fail at whatever layer it reaches
        raise ConfigError(
            f"{spec.name}: {spec.architecture} does not take an image of {size_px} x {size_px} px: "
            f"{first_line(error).rstrip('.')}. Let size_px of `preprocess` and img_size of `arguments` agree."
        ) from error
    finally:
        encoder.train(was_training)
