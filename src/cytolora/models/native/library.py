"""Native libraries: what a checkpoint gives in transformers, open_clip or timm, to compare our encoder with it.

Nothing but the checkpoint and the configurations beside it is read; the libraries are imported when they are asked for.
"""

from collections.abc import Callable
from pathlib import Path

from cytolora.errors import ConfigError
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.checkpoint import read_state
from cytolora.models.checkpoints.formats import State, recognised
from cytolora.models.native import clip, hugging_face, timm_models
from cytolora.models.native.native import Native

_Opener = Callable[[BackboneSpec, Path, str, State], Native]

_OPENERS: dict[str, _Opener] = {
    "open_clip": clip.open_tower,
    "open_clip_timm": clip.open_tower,
    **dict.fromkeys(hugging_face.KINDS, hugging_face.open_model),
    "timm": timm_models.open_model,
    "dinov2": timm_models.open_model,
}
"""By the name of the layout; what reads the DINOv2 code's own files is timm's conversion of them."""


def open_native(spec: BackboneSpec, path: Path) -> Native:
    """Opens a checkpoint with the library that its layout belongs to, fp32, on the CPU.

    Args:
        path: The checkpoint's file, or the index of its shards.

    Raises:
        ConfigError: If the library is not installed, none is known, or a configuration that it needs is not there.
        WeightsError: If the library cannot read the checkpoint.
    """
    read = read_state(path, spec.hub and str(spec.hub))
    state, layout = recognised({name: tensor for name, tensor in read.items() if not _is_dropped(spec, name)})
    if layout is None or layout.name not in _OPENERS:
        kind = "of no known layout" if layout is None else f"of the layout {layout.name}"
        raise ConfigError(
            f"The checkpoint is {kind}, whose library is on no package index. Nothing compares with it here."
        )
    kept = {name: tensor for name, tensor in state.items() if not _is_dropped(spec, name)}
    return _OPENERS[layout.name](spec, path, layout.name, kept)


def _is_dropped(spec: BackboneSpec, name: str) -> bool:
    return bool(spec.drops) and name.startswith(spec.drops)
