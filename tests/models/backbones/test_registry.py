"""Every registered entry at its full size, on the meta device: shapes without weights."""

import re
import subprocess
import sys
from dataclasses import astuple, fields, replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_encoders import inside
from torchvision.transforms import v2

from cytolora.config.run import AdapterSpec
from cytolora.data.imaging.views import evaluation_view
from cytolora.models.adapters.attach import attach
from cytolora.models.adapters.split_qkv import attention_blocks
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.building import build_encoder, without_weights

ENTRIES = pytest.mark.parametrize("spec", list(BACKBONES), ids=lambda spec: spec.name)

PAPER = {
    "clip-vit-b16": 12, "clip-vit-l14": 24, "vit-b16": 12, "biomedclip": 12, "quiltnet-b16": 12, "quiltnet-b32": 12,
    "uni": 24,
}  # fmt: skip
"""The checkpoints of the paper and of its public code, and how many blocks each has as published."""
FURTHER = {
    "dinobloom-s": 12, "dinobloom-b": 12, "dinobloom-l": 24, "dinobloom-g": 40, "uni2-h": 24, "virchow2": 32,
    "h-optimus-0": 40, "prov-gigapath": 40, "phikon-v2": 24, "plip": 12, "pubmedclip": 12, "conch": 12, "crown": 24,
    "unicas": 24, "dinov2-s14": 12, "dinov2-b14": 12, "dinov2-l14": 24, "dinov2-s14-reg": 12, "dinov2-b14-reg": 12,
    "dinov2-l14-reg": 24, "dinov2-s14-eval": 12, "dinov2-b14-eval": 12, "dinov2-l14-eval": 24,
    "dinov2-s14-reg-eval": 12, "dinov2-b14-reg-eval": 12, "dinov2-l14-reg-eval": 24,
    "dinov3-s16": 12, "dinov3-b16": 12, "dinov3-l16": 24, "siglip2-b16": 12, "medsiglip": 27,
    "eva02-clip-b16": 12, "clip-vit-b32": 12,
}  # fmt: skip
BLOCKS = {"nano": 4, "nano-clip": 4, **PAPER, **FURTHER}
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP_224, IMAGENET_224 = (224, *CLIP, "bicubic", "shortest", None), (224, *IMAGENET, "bicubic", "shortest", None)
BILINEAR_224 = (224, *IMAGENET, "bilinear", "shortest", None)
OF_256 = (224, *IMAGENET, "bicubic", "shortest", 256)
DINOV2 = [f"dinov2-{size}14{registers}" for size in "sbl" for registers in ("", "-reg")]
PREPROCESSING = {
    **dict.fromkeys(["clip-vit-b16", "clip-vit-b32", "clip-vit-l14", "quiltnet-b16", "quiltnet-b32"], CLIP_224),
    **dict.fromkeys(["biomedclip", "plip", "pubmedclip", "eva02-clip-b16"], CLIP_224),
    "conch": (448, *CLIP, "bicubic", "shortest", None),
    **dict.fromkeys([*DINOV2, "dinov3-s16", "dinov3-b16", "dinov3-l16", "phikon-v2", "virchow2"], IMAGENET_224),
    **dict.fromkeys(["dinobloom-s", "dinobloom-b", "dinobloom-l", "dinobloom-g", "crown", "unicas"], IMAGENET_224),
    **dict.fromkeys(["uni", "uni2-h"], BILINEAR_224),
    **dict.fromkeys([*(f"{name}-eval" for name in DINOV2), "prov-gigapath"], OF_256),
    "h-optimus-0": (
        224, (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517), "bicubic", "shortest", None,
    ),
    "vit-b16": (224, *HALF, "bilinear", "squash", None),
    "siglip2-b16": (224, *HALF, "bicubic", "squash", None),
    "medsiglip": (448, *HALF, "bilinear", "squash", None),
    "nano": (64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear", "squash", None),
    "nano-clip": (64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), "bilinear", "squash", None),
}  # fmt: skip
"""By entry: size, mean, standard deviation, interpolation, resize rule, shorter edge before the crop."""
IN_NO_SOURCE = {
    "file name": {
        "dinobloom-s", "dinobloom-b", "dinobloom-l", "dinobloom-g", "uni2-h", "virchow2", "h-optimus-0",
        "prov-gigapath", "conch", "dinov2-s14", "dinov2-b14", "dinov2-l14", "dinov2-s14-reg", "dinov2-b14-reg",
        "dinov2-l14-reg", "dinov2-s14-eval", "dinov2-b14-eval", "dinov2-l14-eval", "dinov2-s14-reg-eval",
        "dinov2-b14-reg-eval", "dinov2-l14-reg-eval",
        "dinov3-s16", "dinov3-b16", "dinov3-l16", "siglip2-b16", "medsiglip", "eva02-clip-b16",
        "pubmedclip", "quiltnet-b32",
    },
    "licence": {
        "clip-vit-b16", "clip-vit-b32", "clip-vit-l14", "plip", "siglip2-b16", "eva02-clip-b16", "prov-gigapath",
    },
    "architecture": {"unicas"},
    "citation": {"crown"},
}  # fmt: skip
"""Facts that nothing we read says, by the first word or words of what the entry admits."""


@pytest.fixture(scope="module")
def built() -> dict[object, tuple[torch.Size, int, int]]:
    """Output shape, number of blocks and of adapted modules, by all that decides them: entries share encoders."""
    return {}


@ENTRIES
def test_it_builds_with_the_declared_width_and_every_block_is_adapted(spec: BackboneSpec, built):
    size_px = spec.preprocess.size_px
    encoder_is = (spec.recipe, spec.pool_width, spec.projection_bias, spec.feature_dim, size_px)
    if encoder_is not in built:
        with without_weights(), torch.device("meta"):
            encoder = build_encoder(spec).requires_grad_(False).eval()
            shape = encoder(torch.empty(1, 3, size_px, size_px)).shape
            num_blocks = len(attention_blocks(encoder.trunk))
            lora = attach(encoder, "lora", AdapterSpec(targets=("q", "k", "v", "o")))
        adapted = [name for name, module in inside(lora).named_modules() if hasattr(module, "lora_A")]
        built[encoder_is] = shape, num_blocks, len(adapted)
    shape, num_blocks, num_adapted = built[encoder_is]
    assert shape == (1, spec.feature_dim)
    assert num_adapted == 4 * num_blocks
    assert num_blocks == BLOCKS[spec.name]


@ENTRIES
def test_every_fact_has_a_source_and_every_file_a_place(spec: BackboneSpec):
    assert spec.feature_dim is not None
    assert spec.licence
    assert spec.citation or spec.name in ("nano", "nano-clip")
    if spec.weights is None:
        assert spec.hub is not None
        assert spec.sources
        assert all(source.startswith("https://") for source in spec.sources)
    assert spec.arguments["num_classes"] == 0


def test_the_preprocessing_of_no_entry_ever_changes():
    """A change would give features of stored runs another meaning; another rule is another entry."""
    assert {spec.name: astuple(spec.preprocess) for spec in BACKBONES} == PREPROCESSING


def test_dinov2_is_evaluated_on_the_centre_of_256_px_by_the_entry_of_its_own_name():
    """DINOv2's make_classification_eval_transform; weights, encoder and run ids of the other entry stay."""
    for name in DINOV2:
        plain, evaluated = BACKBONES.get(name), BACKBONES.get(f"{name}-eval")
        kept = {"name", "preprocess", "sources", "description"}
        changed = {
            field.name for field in fields(plain) if getattr(plain, field.name) != getattr(evaluated, field.name)
        }
        assert changed == kept
        assert evaluated.preprocess == replace(plain.preprocess, resize_px=256)
    pixels = np.random.default_rng(0).integers(0, 256, (431, 768, 3), dtype=np.uint8)
    resize = v2.Resize(256, interpolation=v2.InterpolationMode.BICUBIC)
    theirs = v2.PILToTensor()(v2.CenterCrop(224)(resize(Image.fromarray(pixels))))
    assert torch.equal(evaluation_view(pixels, BACKBONES.get("dinov2-b14-eval").preprocess), theirs)


def test_every_checkpoint_that_is_promised_is_registered():
    assert set(BLOCKS) == {spec.name for spec in BACKBONES}


@pytest.mark.parametrize("fact", IN_NO_SOURCE)
def test_a_fact_that_no_source_gives_is_marked(fact: str):
    marked = {spec.name for spec in BACKBONES if any(re.match(rf"{fact}\b", known) for known in spec.unverified)}
    assert marked == IN_NO_SOURCE[fact]


def test_the_hubs_repositories_are_spelt_as_they_are():
    """Upper and lower case decide whether the cache finds a file."""
    hubs = {spec.name: spec.hub.repo for spec in BACKBONES if spec.hub is not None}
    assert (hubs["conch"], hubs["uni"], hubs["uni2-h"]) == ("MahmoodLab/conch", "MahmoodLab/UNI", "MahmoodLab/UNI2-h")
    for spec in BACKBONES:
        own = [source for source in spec.sources if source.startswith("https://huggingface.co/")]
        assert not own or any(source.startswith(f"https://huggingface.co/{hubs[spec.name]}") for source in own), (
            spec.name
        )


def test_weights_that_forbid_derivatives_are_marked():
    marked = {spec.name for spec in BACKBONES if spec.redistributable is False}
    assert marked == {"uni", "uni2-h", "virchow2", "conch"}
    assert all("ND" in BACKBONES.get(name).licence and BACKBONES.get(name).gated for name in marked)


def test_the_registry_loads_no_torch():
    code = "import sys, cytolora.models.backbones.registry as _; "
    code += "sys.exit('torch' in sys.modules or 'huggingface_hub' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_encoders_on_one_file_of_weights_have_two_recipes():
    """Frozen features are cached under the recipe: QuickGELU's features must not be taken for GELU's."""
    clip = BACKBONES.get("clip-vit-b16")
    with torch.device("meta"):
        quick = build_encoder(clip).recipe
        plain = build_encoder(replace(clip, architecture="vit_base_patch16_clip_224")).recipe
        pooled = build_encoder(replace(clip, projection=None, feature_dim=None)).recipe
    assert len({quick, plain, pooled}) == 3
