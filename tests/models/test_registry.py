"""Every registered entry at its full size, on the meta device: shapes without weights."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from small_towers import inside

from cytolora.models.adapters import attach
from cytolora.models.attention import attention_blocks
from cytolora.models.backbones import BACKBONES, BackboneSpec
from cytolora.models.loading import build_tower
from cytolora.specs import AdapterSpec

ENTRIES = pytest.mark.parametrize("spec", list(BACKBONES), ids=lambda spec: spec.name)

PAPER = ("clip-vit-b16", "clip-vit-l14", "vit-b16", "biomedclip", "quiltnet-b16", "quiltnet-b32", "uni")
BLOCKS = {"clip-vit-l14": 24, "uni": 24, "uni2-h": 24, "virchow2": 32, "h-optimus-0": 40, "prov-gigapath": 40}


@ENTRIES
def test_it_builds_with_the_declared_width_and_every_block_is_adapted(spec: BackboneSpec):
    with torch.device("meta"):
        tower = build_tower(spec).requires_grad_(False).eval()
        size_px = spec.preprocess.size_px
        assert tower(torch.empty(1, 3, size_px, size_px)).shape == (1, spec.feature_dim)
        num_blocks = len(attention_blocks(tower.trunk))
        lora = attach(tower, "lora", AdapterSpec(targets=("q", "k", "v", "o")))
    adapted = [name for name, module in inside(lora).named_modules() if hasattr(module, "lora_A")]
    assert len(adapted) == 4 * num_blocks
    assert num_blocks == BLOCKS.get(spec.name, num_blocks)


@ENTRIES
def test_every_fact_has_a_source_and_every_file_a_place(spec: BackboneSpec):
    assert spec.feature_dim is not None
    assert spec.licence
    if spec.weights is None:
        assert spec.hub is not None
        assert spec.sources
        assert all(source.startswith("https://") for source in spec.sources)
    assert spec.arguments["num_classes"] == 0


def test_the_checkpoints_of_the_paper_are_registered():
    assert set(PAPER) <= {spec.name for spec in BACKBONES}


def test_weights_that_forbid_derivatives_are_marked():
    marked = {spec.name for spec in BACKBONES if spec.redistributable is False}
    assert marked == {"uni", "uni2-h", "virchow2", "conch"}
    assert all("ND" in BACKBONES.get(name).licence and BACKBONES.get(name).gated for name in marked)


def test_the_registry_loads_no_torch():
    code = "import sys, cytolora.models.backbones; sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_towers_on_one_file_of_weights_have_two_recipes():
    """Frozen features are cached under the recipe: QuickGELU's features must not be taken for GELU's."""
    clip = BACKBONES.get("clip-vit-b16")
    with torch.device("meta"):
        quick = build_tower(clip).recipe
        plain = build_tower(replace(clip, architecture="vit_base_patch16_clip_224")).recipe
        pooled = build_tower(replace(clip, projection=None, feature_dim=None)).recipe
    assert len({quick, plain, pooled}) == 3
