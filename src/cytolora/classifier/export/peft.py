"""PEFT export of a bundle: its LoRA in PEFT's own files for stock timm, and the head, without the backbone."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import linear

from cytolora.classifier.bundle.files import HEAD
from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.bundle.rebuild import attached
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import EXPORT
from cytolora.core.files import write_bytes, write_text
from cytolora.data.imaging.views import to_batch
from cytolora.errors import ConfigError
from cytolora.models.checkpoints.dialects import for_stock_timm, for_transformers_clip, write_dialect
from cytolora.models.checkpoints.loading import load_encoder

TIMM = "timm"
CLIP = "transformers_clip"


def write_peft(bundle: Classifier, folder: Path) -> None:
    """Writes ``timm/`` (PEFT's two files for timm's fused qkv), the head and the thresholds.

    ``transformers_clip/`` is written too where the checkpoint is a folder of transformers with a CLIP, for there it
    can be tried.

    Raises:
        ConfigError: If the bundle has no adapter, or one that is no plain LoRA.
    """
    contents = bundle.contents
    if contents.adapter is None:
        raise ConfigError(f"{bundle.name} has no adapter ({contents.method}), nothing for PEFT. Use --to onnx.")
    encoder = load_encoder(bundle.backbone, bundle.checkpoint(), trust_weights=True)
    unmerged = attached(encoder, contents.method, contents.adapter, bundle.state(), contents.seed)
    write_dialect(for_stock_timm(unmerged.encoder), folder / TIMM)
    if _clip_folder(bundle) is not None:
        write_dialect(for_transformers_clip(unmerged.encoder), folder / CLIP)
    write_bytes(folder / HEAD, bundle.files[HEAD])
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in written}
    write_text(folder / EXPORT, to_text(replace(contents, files=hashes)))


def open_peft(bundle: Classifier, folder: Path) -> list[Callable[[Any], Tensor]]:
    """Opens what was written with stock PEFT, on timm and where it is meant for it on transformers' CLIP.

    Returns:
        The ways from an image to its logits [1, classes].
    """
    encoder = load_encoder(bundle.backbone, bundle.checkpoint(), trust_weights=True)
    encoder.trunk = cast(Any, PeftModel.from_pretrained(encoder.trunk, str(folder / TIMM))).merge_and_unload()
    head = load_file(folder / HEAD)
    weight, bias = head["head.weight"], head["head.bias"]
    encoders: list[Callable[[Tensor], Tensor]] = [encoder.eval()]
    if (clip := _clip_folder(bundle)) is not None:
        encoders.append(_open_clip(clip, folder / CLIP))

    def through(features: Callable[[Tensor], Tensor]) -> Callable[[Any], Tensor]:
        def logits(image: Any) -> Tensor:
            with torch.inference_mode():
                return linear(features(to_batch([bundle.view(image)], bundle.preprocess)), weight, bias)

        return logits

    return [through(features) for features in encoders]


def _clip_folder(bundle: Classifier) -> Path | None:
    """The folder that transformers reads the same CLIP from; None where there is none, or no transformers."""
    folder = bundle.checkpoint().parent
    if bundle.backbone.format != "hf_clip" or not (folder / "config.json").is_file():
        return None
    return folder if find_spec("transformers") else None


def _open_clip(clip: Path, adapter: Path) -> Callable[[Tensor], Tensor]:
    from transformers import CLIPVisionModelWithProjection

    native: Any = CLIPVisionModelWithProjection.from_pretrained(clip, local_files_only=True)
    opened: Any = PeftModel.from_pretrained(native, str(adapter)).eval()
    return lambda images: opened(pixel_values=images).image_embeds
