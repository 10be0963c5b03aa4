from dataclasses import replace
from pathlib import Path
from typing import Any

import official
import pytest
import torch
import transformers
from official import SMALL
from peft import PeftModel
from small_encoders import FUSED, images, inside, relative, small_encoder

from cytolora.config.run import AdapterSpec, Target
from cytolora.errors import ConfigError
from cytolora.models.adapters.attach import attach
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.dialects import for_stock_timm, for_transformers_clip, write_dialect
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.encoder import Encoder

TARGETS: list[tuple[Target, ...]] = [("q", "v"), ("k",), ("q", "k", "v", "o"), ("o", "fc1", "fc2"), ("v", "q", "fc2")]


def trained(encoder: Encoder, adapter: AdapterSpec, method: str = "lora") -> Encoder:
    torch.manual_seed(0)
    adapted = attach(encoder, method, adapter).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return adapted


@pytest.mark.parametrize("targets", TARGETS, ids="".join)
@pytest.mark.parametrize("scaling", ["alpha_over_rank", "alpha_over_sqrt_rank"])
def test_a_lora_opens_on_stock_timm(targets: tuple[Target, ...], scaling, tmp_path: Path):
    ours = trained(small_encoder(FUSED), AdapterSpec(rank=3, alpha=2, targets=targets, scaling=scaling, blocks=(1,)))
    write_dialect(for_stock_timm(ours), tmp_path / "adapter")
    stock = small_encoder(FUSED)
    opened = PeftModel.from_pretrained(stock.trunk, tmp_path / "adapter").eval()
    batch = images(FUSED)
    found = inside(Encoder(opened, "cls")).forward_features(batch)
    assert relative(found, inside(ours).forward_features(batch)) < 1e-5
    assert relative(found, small_encoder(FUSED).trunk.forward_features(batch)) > 1e-3


@pytest.mark.parametrize("targets", TARGETS, ids="".join)
def test_a_lora_opens_on_the_clip_of_transformers(targets: tuple[Target, ...], tmp_path: Path):
    made = official.hf_clip(tmp_path / "clip", SMALL)
    ours = trained(load_encoder(made.spec, made.weights), AdapterSpec(rank=3, targets=targets))
    write_dialect(for_transformers_clip(ours), tmp_path / "adapter")
    native: Any = transformers.CLIPVisionModelWithProjection.from_pretrained(tmp_path / "clip")
    opened: Any = PeftModel.from_pretrained(native, tmp_path / "adapter").eval()
    size_px = made.spec.preprocess.size_px
    batch = torch.randn(2, 3, size_px, size_px)
    assert relative(opened(pixel_values=batch).image_embeds, ours(batch)) < 1e-5


@pytest.mark.parametrize(
    ("method", "adapter"), [("dora", AdapterSpec()), ("pissa", AdapterSpec()), ("ia3", AdapterSpec())]
)
def test_what_is_no_plain_lora_is_refused(method: str, adapter: AdapterSpec):
    with pytest.raises(ConfigError, match="Only a plain LoRA can be written for other libraries"):
        for_stock_timm(trained(small_encoder(FUSED), adapter, method))


def test_an_adapter_of_another_family_is_no_adapter_of_clip():
    eva = replace(BACKBONES.get("eva02-clip-b16"), name="eva")
    with pytest.raises(ConfigError, match="transformers' CLIP has no projection"):
        for_transformers_clip(trained(small_encoder(eva), AdapterSpec()))
