"""Image towers of open_clip, its own and those with a timm trunk, without the text half."""

from pathlib import Path
from typing import Any

from cytolora.errors import ConfigError, WeightsError, missing_package
from cytolora.models.backbones.spec import BackboneSpec, what_else_it_loads
from cytolora.models.checkpoints.checkpoint import first_line
from cytolora.models.checkpoints.formats import State
from cytolora.models.checkpoints.neighbours import OPEN_CLIP
from cytolora.models.native.native import Native, named, not_beside, read_beside

_TOWER = "visual."


def open_tower(spec: BackboneSpec, path: Path, layout: str, state: State) -> Native:
    """Opens the image half of a checkpoint by the ``open_clip_config.json`` beside it.

    The text half is not built: BiomedCLIP's would be fetched from the hub.

    Raises:
        ConfigError: If open_clip is not installed, or there is no configuration that it reads.
        WeightsError: If the tensors do not fit its tower.
    """
    try:
        import open_clip
        from open_clip.model import _build_vision_tower
    except ImportError as error:
        raise missing_package("The comparison needs", "open_clip", extra="text", error=error) from error
    content = read_beside(path, OPEN_CLIP)
    if content is None:
        raise not_beside("open_clip", OPEN_CLIP)
    try:
        config, cfg = content["model_cfg"], content.get("preprocess_cfg", {})
        vision: dict[str, Any] = {**config["vision_cfg"], "timm_model_pretrained": False}
        if why := what_else_it_loads(vision.get("timm_model_name") or "plain", {}):
            raise ConfigError(f"{OPEN_CLIP}: {why}")
        tower = _build_vision_tower(config["embed_dim"], vision, bool(config.get("quick_gelu", False)))  # pyright: ignore
        transform: Any = open_clip.image_transform(
            cfg.get("size") or vision["image_size"],
            is_train=False,
            mean=cfg.get("mean"),
            std=cfg.get("std"),
            resize_mode=cfg.get("resize_mode"),
            interpolation=cfg.get("interpolation"),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"open_clip cannot use {OPEN_CLIP} ({first_line(error)}). Fetch it again.") from error
    inside = {name.removeprefix(_TOWER): tensor for name, tensor in state.items() if name.startswith(_TOWER)}
    try:
        tower.load_state_dict(inside, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"open_clip cannot load the checkpoint: {' '.join(str(error).split())[:200]}.") from error
    return Native(
        library=named("open_clip_torch"),
        model=tower.eval(),
        features=tower,
        view=transform,
        configuration=f"{OPEN_CLIP} beside the weights",
    )
