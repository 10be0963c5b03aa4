from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import official
import pytest
import torch
from small_encoders import REGISTERED, shrunk, small_encoder

from cytolora.classifier.bundle.files import HEAD
from cytolora.classifier.export import peft as export_peft
from cytolora.classifier.export import timm as export_timm
from cytolora.classifier.export.onnx import export_program
from cytolora.config.run import AdapterSpec
from cytolora.data.imaging.views import evaluation_view, to_batch
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach, merged
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder_with_head import EncoderWithHead, to_safetensors, trained_state

onnxruntime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("spec", REGISTERED, ids=lambda spec: spec.name)
def test_every_kind_of_encoder_becomes_onnx_with_its_adapter_for_any_number_of_images(spec: BackboneSpec):
    torch.manual_seed(0)
    adapted = attach(small_encoder(spec), "lora", AdapterSpec())
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    classifier = EncoderWithHead(merged(adapted), 3).eval().requires_grad_(False)
    size_px = shrunk(spec).preprocess.size_px
    content = export_program(classifier, temperature=1.5, size_px=size_px, properties={})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    for num_images in (1, 5):
        images = torch.randn(num_images, 3, size_px, size_px)
        (found,) = session.run(["logits"], {"images": images.numpy()})
        assert torch.allclose(torch.from_numpy(found), classifier(images), atol=2e-5)


@dataclass
class BundleManifest:
    """What exporters ask of a bundle's."""

    files: dict[str, str] = field(default_factory=dict)
    adapter: AdapterSpec | None = None
    method: str = "lora"
    seed: int = 0


@pytest.mark.slow
@pytest.mark.parametrize("spec", REGISTERED, ids=lambda spec: spec.name)
def test_every_kind_of_encoder_opens_with_timm_alone_or_is_refused_by_name(
    spec: BackboneSpec, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr(export_timm, "to_text", str)
    torch.manual_seed(0)
    classifier, small = EncoderWithHead(small_encoder(spec), 3).eval().requires_grad_(False), shrunk(spec)
    facts = {
        "backbone": small,
        "preprocess": small.preprocess,
        "classes": ("a", "b", "c"),
        "contents": BundleManifest(),
    }
    bundle: Any = SimpleNamespace(**facts, classifier=lambda: classifier)
    if spec.pool in ("cls+mean", "query") or "mlp_layer" in spec.arguments:
        with pytest.raises(ConfigError, match=rf"{spec.name} .*--to onnx"):
            export_timm.write_timm(bundle, tmp_path)
        return
    export_timm.write_timm(bundle, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    expected = classifier(to_batch([evaluation_view(pixels, small.preprocess)], small.preprocess))
    assert torch.allclose(export_timm.open_timm(tmp_path)(pixels), expected, atol=2e-5)


def test_a_lora_on_a_clip_of_transformers_opens_there_and_on_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export_peft, "to_text", str)
    made, adapter = official.hf_clip(tmp_path / "clip", official.SMALL), AdapterSpec(rank=3)
    torch.manual_seed(0)
    classifier = EncoderWithHead(attach(load_encoder(made.spec, made.weights), "lora", adapter), 3).eval()
    for parameter in classifier.trainable():
        torch.nn.init.normal_(parameter, std=0.1)
    state = trained_state(classifier)
    head = {name: tensor for name, tensor in state.items() if name.startswith("head.")}
    bundle: Any = SimpleNamespace(
        name="fake", backbone=made.spec, preprocess=made.spec.preprocess, files={HEAD: to_safetensors(head)},
        contents=BundleManifest(adapter=adapter), checkpoint=lambda: made.weights, state=lambda: state,
        view=lambda pixels: evaluation_view(pixels, made.spec.preprocess),
    )  # fmt: skip
    export_peft.write_peft(bundle, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"timm", "transformers_clip"}
    pixels = np.random.default_rng(0).integers(0, 255, (90, 70, 3), dtype=np.uint8)
    expected = classifier(to_batch([bundle.view(pixels)], bundle.preprocess))
    opened = export_peft.open_peft(bundle, tmp_path / "out")
    assert len(opened) == 2
    for logits in opened:
        assert torch.allclose(logits(pixels), expected, atol=1e-4)
