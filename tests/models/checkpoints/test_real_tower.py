"""The one small encoder with real weights that tests may find: loaded, adapted, and the same as timm's own."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from small_encoders import relative

from cytolora.config.run import AdapterSpec
from cytolora.models.adapters.attach import attach, merged, prove_attached
from cytolora.models.backbones.registry import BackboneSpec, read_backbone_file
from cytolora.models.checkpoints.hub import find
from cytolora.models.checkpoints.loading import load_encoder


@pytest.fixture
def tiny6(shared_data: Path) -> BackboneSpec:
    path = shared_data / "weights" / "vit_tiny6" / "backbone.yaml"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return read_backbone_file(path)


def test_the_features_equal_timms_own(tiny6: BackboneSpec):
    path = find(tiny6)
    assert path is not None
    encoder = load_encoder(tiny6, path)
    size_px = tiny6.preprocess.size_px
    batch = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    stock = timm.create_model(tiny6.architecture, **tiny6.arguments).eval()
    stock.load_state_dict(load_file(path), strict=True)
    tokens = stock.forward_features(batch)  # pyright: ignore
    expected = tokens[:, 0] if tiny6.pool == "cls" else tokens[:, 1:].mean(1)
    assert torch.equal(encoder(batch), expected)


def test_lora_attaches_and_merges_on_real_weights(tiny6: BackboneSpec):
    path = find(tiny6)
    assert path is not None
    encoder = load_encoder(tiny6, path)
    size_px = tiny6.preprocess.size_px
    batch = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    lora = attach(encoder, "lora", AdapterSpec(targets=("q", "k", "v", "o"))).eval()
    assert torch.equal(lora(batch), encoder(batch))
    prove_attached(lora, batch)
    with torch.no_grad():
        for parameter in lora.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.05)
    assert relative(lora(batch), encoder(batch)) > 1e-3
    assert relative(merged(lora)(batch), lora(batch)) < 1e-5
