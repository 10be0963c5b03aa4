"""Encoders of transformers: CLIP, ViT, DINOv2, DINOv3 and SigLIP, with its Pillow preprocessing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from cytolora.errors import WeightsError, missing_package
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.checkpoint import first_line
from cytolora.models.checkpoints.formats import State
from cytolora.models.checkpoints.neighbours import CONFIG, PREPROCESSOR
from cytolora.models.native.native import Native, View, named, not_beside, read_beside

_IDLE = ("mask_token", "position_ids")
"""Tensors that decide no feature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    model: str
    processor: str | None
    """None: it has no Pillow path."""
    output: str = "last_hidden_state"
    arguments: tuple[tuple[str, Any], ...] = ()


_DINOV2 = _Kind(model="Dinov2Model", processor="BitImageProcessorPil")
KINDS = {
    "hf_clip": _Kind(model="CLIPVisionModelWithProjection", processor="CLIPImageProcessorPil", output="image_embeds"),
    "hf_vit": _Kind(model="ViTModel", processor="ViTImageProcessorPil", arguments=(("add_pooling_layer", False),)),
    "hf_dinov2": _DINOV2,
    "hf_dinov3": _Kind(model="DINOv3ViTModel", processor=None),
    "hf_siglip": _Kind(model="SiglipVisionModel", processor="SiglipImageProcessorPil", output="pooler_output"),
}
"""Classes of transformers, by layout."""
_MODEL_OF = {"dinov2_with_registers": "Dinov2WithRegistersModel"}
"""Where one layout has several, by ``model_type``."""


def open_model(spec: BackboneSpec, path: Path, layout: str, state: State) -> Native:
    """Opens a checkpoint by the ``config.json`` beside it.

    Raises:
        ConfigError: If transformers is not installed, or there is no configuration.
        WeightsError: If tensors are missing or of other shapes.
    """
    try:
        import transformers
    except ImportError as error:
        raise missing_package("The comparison needs", "transformers", extra="text", error=error) from error
    kind, content = KINDS[layout], read_beside(path, CONFIG)
    if content is None:
        raise not_beside("transformers", CONFIG)
    library: Any = transformers
    with _quiet(library):
        config = library.AutoConfig.from_pretrained(str(path.parent), local_files_only=True)
        config = getattr(config, "vision_config", config)
        if (projected := content.get("projection_dim")) is not None:
            config.projection_dim = projected  # the whole model's, which its image half may not repeat
        model = _loaded(getattr(library, _MODEL_OF.get(config.model_type, kind.model)), kind, config, state)

    def features(batch: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, "batch width"]:
        output = getattr(model(pixel_values=batch), kind.output)
        return output[:, 0] if output.ndim == 3 else output

    return Native(
        library=named("transformers"),
        model=model,
        features=features,
        view=_view(library, kind, path.parent),
        configuration=f"{CONFIG} beside the weights",
    )


def _loaded(family: Any, kind: _Kind, config: Any, state: State) -> Any:
    try:
        model, found = family.from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            dtype=torch.float32,
            output_loading_info=True,
            **dict(kind.arguments),
        )
    except (RuntimeError, ValueError, OSError, KeyError) as error:
        raise WeightsError(f"transformers cannot load the checkpoint: {first_line(error)}.") from error
    missing = sorted(name for name in found["missing_keys"] if not name.endswith(_IDLE))
    if missing or found["mismatched_keys"]:
        lacks = missing or sorted(str(name) for name in found["mismatched_keys"])
        raise WeightsError(f"transformers does not find {len(lacks)} of its tensors in the checkpoint ({lacks[0]}).")
    return model.eval()


def _view(library: Any, kind: _Kind, folder: Path) -> View | None:
    if kind.processor is None or not (folder / PREPROCESSOR).is_file():
        return None
    with _quiet(library):
        processor = getattr(library, kind.processor).from_pretrained(str(folder), local_files_only=True)

    def view(image: Image.Image) -> Float[Tensor, "3 size size"]:
        return processor(image, return_tensors="pt")["pixel_values"][0]

    return view


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Keeps transformers from printing bars and lists of tensors."""
    logging = library.utils.logging
    verbosity, has_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bars:
            logging.enable_progress_bar()
