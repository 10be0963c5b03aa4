"""Parity part of a trial: ten drawn images, and planted faults that it must name."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import official
import official_timm
import pytest
import torch
from official import SMALL, Official, Size

from cytolora.classifier.trial.images import SIZES, drawn_images
from cytolora.classifier.trial.parity import try_parity
from cytolora.classifier.trial.part import Part
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints import loading

WRITERS: dict[str, Callable[[Path, Size], Official]] = {
    "CLIP, transformers": official.hf_clip,
    "CLIP, open_clip": partial(official.open_clip_vit, name="clip-vit-b16", quick_gelu=True),
    "QuiltNet": partial(official.open_clip_vit, name="quiltnet-b16", quick_gelu=False),
    "ViT, transformers": official.hf_vit,
    "DINOv2, transformers": official.hf_dinov2,
    "DINOv2's code": partial(official_timm.dinov2_code, name="dinov2-b14"),
    "UNI": partial(official_timm.timm_native, name="uni"),
    "ViT, timm": partial(official_timm.timm_native, name="dinobloom-b", safetensors=True),
}


drawn = cache(drawn_images)
"""Once for all tests, which only read them."""


def tried(made: Official, spec: BackboneSpec | None = None) -> dict[str, Part]:
    return {part.name: part for part in try_parity(spec or made.spec, made.weights, drawn())}


def test_ten_images_are_drawn_alike_each_time_and_most_are_of_odd_sizes():
    first, second = drawn_images(), drawn_images()
    assert [image.shape[1::-1] for image in first] == list(SIZES)
    assert len(first) == 10
    assert all((one == other).all() for one, other in zip(first, second, strict=True))
    assert (768, 431) in SIZES
    assert sum(width != height for width, height in SIZES) == 8


@pytest.mark.parametrize("name", WRITERS)
def test_weights_in_their_official_layout_pass(name: str, tmp_path: Path):
    parts = tried(WRITERS[name](tmp_path, SMALL))
    assert parts["features"].verdict == "passed", parts["features"].text
    assert parts["features"].figures["difference"] < 1e-6
    assert parts["features"].figures["images"] == 10
    assert parts["preprocessing"].verdict == ("not possible" if name == "DINOv2's code" else "passed")


def test_one_image_cut_a_pixel_beside_ours_by_transformers_is_said_and_no_failure(tmp_path: Path):
    part = tried(official.hf_clip(tmp_path, SMALL))["preprocessing"]
    assert part.figures["cut_one_pixel_off"] == 1  # 95 x 64: half of 31 pixels on either side
    assert part.figures["feature_difference_through_it"] > 0.01
    assert "9 of 10 images equal, 1 cut one pixel beside ours" in part.text


def swapped_query_and_key(state, layout, *, splits_qkv):
    named = RENAME(state, layout, splits_qkv=splits_qkv)
    for name, tensor in named.items():
        if ".attn.qkv." in name:
            query, key, value = tensor.chunk(3)
            named[name] = torch.cat([key, query, value])
    return named


RENAME = loading.to_encoder_names


@pytest.mark.parametrize("name", ["CLIP, open_clip", "ViT, transformers", "DINOv2, transformers", "UNI"])
def test_query_and_key_in_each_others_place_fail_the_features(name: str, tmp_path: Path, monkeypatch):
    made = WRITERS[name](tmp_path, SMALL)
    monkeypatch.setattr(loading, "to_encoder_names", swapped_query_and_key)
    part = tried(made)["features"]
    assert part.verdict == "failed"
    assert part.figures["difference"] > 100 * part.figures["allowed"]
    assert "allowed 1e-06" in part.text


def test_another_activation_fails_the_features(tmp_path: Path):
    made = official.hf_clip(tmp_path, SMALL)
    part = tried(made, replace(made.spec, architecture="vit_base_patch16_clip_224"))["features"]
    assert part.verdict == "failed"
    assert part.figures["difference"] > 1e-3


def test_the_epsilon_that_is_really_confused_fails_the_features_with_room_to_spare(tmp_path: Path):
    """timm's 1e-6 for the 1e-12 of Google's ViT: in float64 the difference is well above what is allowed."""
    made = official.hf_vit(tmp_path, SMALL)
    spec = replace(made.spec, arguments={**made.spec.arguments, "norm_eps": 1e-6})
    part = tried(made, spec)["features"]
    assert part.verdict == "failed"
    assert part.figures["difference"] > 5 * part.figures["allowed"]


@pytest.mark.parametrize(
    "change",
    [
        {"mean": (0.5, 0.5, 0.5)},
        {"std": (0.5, 0.5, 0.5)},
        {"interpolation": "bicubic"},
        {"resize": "squash"},
        {"resize_px": 73},
    ],
)
def test_another_preprocessing_fails_by_name(change, tmp_path: Path):
    made = official_timm.timm_native(tmp_path, SMALL, name="uni")
    parts = tried(made, replace(made.spec, preprocess=replace(made.spec.preprocess, **change)))
    assert parts["preprocessing"].verdict == "failed"
    assert "images differ by up to" in parts["preprocessing"].text
    assert parts["features"].verdict == "passed"  # of equal pixels


def test_another_size_fails_the_preprocessing_by_its_shape(tmp_path: Path):
    made = official_timm.timm_native(tmp_path, SMALL, name="uni")
    preprocess = replace(made.spec.preprocess, size_px=80)
    parts = tried(made, replace(made.spec, preprocess=preprocess))
    assert parts["preprocessing"].verdict == "failed"
    assert "views of (3, 64, 64), expected (3, 80, 80)" in parts["preprocessing"].text


@pytest.mark.parametrize("name", ["siglip2-b16", "eva02-clip-b16"])
def test_a_resize_rule_that_an_entry_overrides_knowingly_is_said_with_its_reason(name: str, tmp_path: Path):
    """timm's copies say 0.9 and a crop; their authors' library does not."""
    writer = official_timm.eva02_clip if "eva" in name else partial(official_timm.timm_native, name=name)
    made = writer(tmp_path, SMALL)
    assert tried(made)["preprocessing"].text == "10 of 10 images equal."
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_pct": 0.9, "crop_mode": "center"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    part = tried(made)["preprocessing"]
    assert part.verdict == "passed"
    assert "10 of 10 images are resized otherwise, knowingly" in part.text
    assert tried(made, replace(made.spec, overrides=None))["preprocessing"].verdict == "failed"


@pytest.mark.parametrize("name", ["siglip2-b16", "eva02-clip-b16"])
@pytest.mark.parametrize(
    "change",
    [{"mean": [0.1, 0.2, 0.3]}, {"std": [0.9, 0.5, 0.5]}, {"mean": [0.3, 0.2, 0.1], "std": [0.7, 0.7, 0.7]}],
)
def test_a_resize_rule_overridden_knowingly_hides_no_other_mean_or_deviation(change, name: str, tmp_path: Path):
    writer = official_timm.eva02_clip if "eva" in name else partial(official_timm.timm_native, name=name)
    made = writer(tmp_path, SMALL)
    config = json.loads((tmp_path / "config.json").read_text())
    config["pretrained_cfg"] |= {"crop_pct": 0.9, "crop_mode": "center"} | change
    (tmp_path / "config.json").write_text(json.dumps(config))
    part = tried(made)["preprocessing"]
    assert part.verdict == "failed", part.text
    assert "10 of 10 images differ by up to" in part.text
