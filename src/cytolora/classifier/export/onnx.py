"""ONNX export of a bundle: one model file, with all that its user needs in it and beside it."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cytolora.classifier.bundle.files import ANCHORS, BANK
from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.onnx_predictor import EXPORT, INPUT, MODEL, OUTPUTS
from cytolora.config.reading import Decoding
from cytolora.core.files import json_bytes, write_bytes, write_text
from cytolora.errors import ConfigError, missing_package
from cytolora.models.encoder_with_head import EncoderWithHead

PREPROCESSING = "preprocessing.json"
_OPSET = 20
_MAX_BYTES = 2**31 - 2**20
"""Protobuf's limit for one file, with some room for the graph (https://onnx.ai/onnx/api/external_data.html)."""


def write_onnx(bundle: Classifier, folder: Path) -> None:
    """Writes the model, its description and the bundle's thresholds.

    Raises:
        ConfigError: If the exporter is not installed, or the encoder is too large for one file.
    """
    content = _onnx(bundle)
    write_bytes(folder / MODEL, content)
    described = json_bytes(describe(bundle))
    write_bytes(folder / PREPROCESSING, described)
    hashes = {MODEL: sha256(content).hexdigest(), PREPROCESSING: sha256(described).hexdigest()}
    for name in (BANK, ANCHORS):
        if name in bundle.files:
            write_bytes(folder / name, bundle.files[name])
            hashes[name] = sha256(bundle.files[name]).hexdigest()
    write_text(folder / EXPORT, to_text(replace(bundle.contents, files=hashes)))


def describe(bundle: Classifier) -> dict[str, Any]:
    """Says in plain data how an image becomes the model's input, and what its outputs are."""
    preprocess, size = bundle.preprocess, bundle.preprocess.size_px
    resize = f"both edges to {size}, proportions lost"
    if preprocess.resize == "shortest":
        edge = preprocess.shorter_px
        resize = f"the shorter edge to {edge}, the longer in proportion, rounded down; then the centre {size} x {size}"
    return {
        "input": {"name": INPUT, "type": "float32", "shape": ["batch", 3, size, size], "channels": "RGB"},
        "steps": [
            "decode to 8-bit RGB, upright as EXIF says; transparent pixels on white; "
            + _frames_and_depth(bundle.decoding),
            f"resize: {resize}; Pillow's {preprocess.interpolation} filter (antialiased) on 8-bit pixels",
            "divide by 255, subtract mean, divide by std, channel by channel",
        ],
        "decoding": asdict(bundle.decoding),
        "resize": preprocess.resize,
        "size_px": size,
        "resize_px": preprocess.shorter_px,
        "interpolation": preprocess.interpolation,
        "mean": list(preprocess.mean),
        "std": list(preprocess.std),
        "outputs": {
            "logits": "before the temperature",
            "features": "of the encoder, before the head",
            "probabilities": "softmax of logits / temperature",
        },
        "classes": list(bundle.classes),
        "temperature": bundle.contents.temperature,
        "backbone": bundle.backbone.name,
        "licence": bundle.backbone.licence,
        "use": "research only",
    }


def _frames_and_depth(decoding: Decoding) -> str:
    """Says in words what of several frames is read, and what becomes white."""
    if decoding.version == 1:
        return "the first of several frames; of 16-bit colour the upper 8 bits"
    frame = "one frame alone" if decoding.frame is None else f"frame {decoding.frame}"
    profile = "profiles ignored" if decoding.icc == "ignore" else "colour profiles converted to sRGB"
    top = decoding.value_range
    white = f"{top:,}" if isinstance(top, int) else "the highest value of the bit depth"
    return f"{frame}; {profile}; of more than 8 bits 0 to {white}, scaled to 0 to 255"


class _Whole(nn.Module):
    def __init__(self, classifier: EncoderWithHead, temperature: float) -> None:
        super().__init__()
        self.classifier, self.temperature = classifier, temperature

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.classifier.encoder(images)
        logits = self.classifier.head(features)
        return logits, features, torch.softmax(logits / self.temperature, dim=-1)


def _onnx(bundle: Classifier) -> bytes:
    classifier = bundle.classifier()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in classifier.state_dict().values())
    if num_bytes > _MAX_BYTES:
        raise ConfigError(
            f"{bundle.backbone.name} has {num_bytes / 1e9:.1f} GB of weights and an ONNX file holds 2 GB. "
            "Export with --to timm."
        )
    size, properties = bundle.preprocess.size_px, _properties(describe(bundle))
    return export_program(classifier, temperature=bundle.contents.temperature, size_px=size, properties=properties)


def export_program(
    classifier: EncoderWithHead, *, temperature: float, size_px: int, properties: Mapping[str, str]
) -> bytes:
    """Returns a classifier as the bytes of an ONNX file for any number of images.

    Args:
        classifier: Frozen, in evaluation mode.
        properties: Kept in the file, by name.

    Raises:
        ConfigError: If the exporter is not installed.
    """
    device = classifier.head.weight.device
    program = _traced(_Whole(classifier, temperature).eval(), torch.zeros(2, 3, size_px, size_px, device=device))
    for node in program.model.graph:
        node.metadata_props.clear()  # where in whose source it came from, with paths of this machine
    program.model.metadata_props.update(properties)
    sink = io.BytesIO()
    program.save(sink)
    return sink.getvalue()


def _traced(whole: nn.Module, example: Tensor) -> Any:
    try:
        import onnxscript  # noqa: F401  (said here, before torch says it in ten lines)
    except ImportError as error:
        raise missing_package("Export needs", error.name or "onnxscript", extra="onnx", error=error) from error
    exporter_log = logging.getLogger("torch.onnx")
    level = exporter_log.level
    exporter_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.inference_mode():
            warnings.simplefilter("ignore")  # about its own internals
            return torch.onnx.export(
                whole,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
    finally:
        exporter_log.setLevel(level)


def _properties(described: Mapping[str, Any]) -> dict[str, str]:
    """ONNX keeps text by name: text as it is, everything else as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in described.items()
    }
