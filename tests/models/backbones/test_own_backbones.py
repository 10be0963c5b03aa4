"""Backbones of one's own: what cannot be read as it is written is refused, and never read as something else."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from small_encoders import FUSED, randomised, relative

from cytolora.cli.app import main
from cytolora.config.run import Preprocess
from cytolora.errors import ConfigError
from cytolora.models.backbones.registry import BACKBONES, read_backbone_file
from cytolora.models.backbones.spec import BackboneSpec, Pool
from cytolora.models.checkpoints.building import build_encoder
from cytolora.models.checkpoints.loading import load_encoder

TINY = {"num_classes": 0, "depth": 1, "embed_dim": 48, "num_heads": 3, "img_size": 32}


def written(folder: Path, architecture: str, pool: str, arguments: dict[str, Any]) -> Path:
    """Writes a description as a user would; JSON is YAML."""
    preprocess = {"size_px": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    described = {"name": "own", "architecture": architecture, "arguments": arguments, "weights": "own.safetensors"}
    path = folder / "own.yaml"
    path.write_text(json.dumps({**described, "pool": pool, "preprocess": preprocess, "licence": "none"}))
    return path


def own(architecture: str, pool: Pool, size_px: int = 32, **arguments: Any) -> BackboneSpec:
    preprocess = Preprocess(size_px=size_px, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    return replace(FUSED, name="own", architecture=architecture, arguments=arguments, pool=pool, preprocess=preprocess)


@pytest.mark.parametrize("pool", ["cls", "mean_patch", "cls+mean"])
@pytest.mark.parametrize("architecture", ["beit_base_patch16_224", "eva02_base_patch14_224"])
def test_a_encoder_that_normalises_after_pooling_is_not_read_without_that_norm(architecture: str, pool: Pool):
    size_px = 28 if "eva02" in architecture else 32
    with pytest.raises(
        ConfigError, match=rf"{architecture}.*\(fc_norm\), which the pool '.*' would leave out.*pool: timm"
    ):
        build_encoder(own(architecture, pool, size_px, **{**TINY, "img_size": size_px}))


@pytest.mark.parametrize("architecture", ["beit_base_patch16_224", "eva02_base_patch14_224"])
def test_the_pool_timm_gives_what_timm_gives(architecture: str, tmp_path: Path):
    size_px = 28 if "eva02" in architecture else 32
    spec = own(architecture, "timm", size_px, **{**TINY, "img_size": size_px})
    stock = randomised(timm.create_model(architecture, **spec.arguments)).eval()
    save_file(stock.state_dict(), tmp_path / "own.safetensors")
    batch = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert relative(load_encoder(spec, tmp_path / "own.safetensors")(batch), stock(batch)) < 1e-6


@pytest.mark.parametrize("pool", ["cls", "cls+mean"])
@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("vit_tiny_patch16_224", {**TINY, "class_token": False, "global_pool": ""}),
        ("vit_base_patch16_siglip_224", TINY),
        ("vit_medium_patch16_reg1_gap_256", {**TINY, "fc_norm": False}),
    ],
)
def test_the_class_token_of_a_encoder_without_one_is_not_its_first_patch(
    architecture: str, arguments: dict[str, Any], pool: Pool
):
    with pytest.raises(ConfigError, match=rf"the pool .{pool[:3]}.*class token.*{architecture}.*has none.*mean_patch"):
        build_encoder(own(architecture, pool, **arguments))


def test_without_a_class_token_no_patch_is_taken_for_one():
    """timm's mixers say nothing of prefix tokens: all of their tokens are patches."""
    spec = own("mixer_s32_224", "mean_patch", 224, num_classes=0)
    encoder = build_encoder(spec).eval()
    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert relative(encoder(batch), encoder.trunk(batch)) < 1e-6


@pytest.mark.parametrize("pool", ["cls", "mean_patch"])
@pytest.mark.parametrize("architecture", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_a_encoder_that_gives_no_tokens_gives_no_feature_of_a_wrong_width(architecture: str, pool: Pool):
    with pytest.raises(ConfigError, match=rf"own: .*{architecture}.*pool: timm"):
        build_encoder(own(architecture, pool, 224, num_classes=0))
    assert build_encoder(own(architecture, "timm", 224, num_classes=0)).feature_dim in (512, 768)


def test_an_image_size_that_the_encoder_does_not_take_is_said_when_it_is_built():
    with pytest.raises(ConfigError, match=r"does not take an image of 48 x 48 px.*Let size_px .* img_size .* agree"):
        build_encoder(own("vit_tiny_patch16_224", "cls", 48, **TINY))
    with pytest.raises(ConfigError) as caught:
        build_encoder(own("vit_tiny_patch16_224", "cls", 48, **TINY))
    assert ".." not in str(caught.value)


@pytest.mark.parametrize("name", ["own.yaml", "/data/Encoders/own.YML", "./own.yaml"])
def test_a_file_in_the_place_of_a_models_name_is_told_the_option_that_reads_it(name: str):
    with pytest.raises(ConfigError, match=r"it is a file, expected a name\. Read it with --backbone-file"):
        BACKBONES.get(name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"act_layer": "foo"}, {"norm_layer": "foo"}, {"num_heads": 0}, {"patch_size": 0}, {"img_size": "abc"},
        {"norm_eps": "abc"}, {"norm_eps": 0}, {"norm_eps": True}, {"depth": "abc"}, {"wheels": 4},
    ],
    ids=str,
)  # fmt: skip
def test_an_argument_that_fits_nothing_is_named_in_one_line(arguments: dict[str, Any], tmp_path: Path):
    spec = read_backbone_file(written(tmp_path, "vit_tiny_patch16_224", "cls", {**TINY, **arguments}))
    with pytest.raises(ConfigError, match=r"own: (timm cannot build|norm_eps is)") as caught:
        build_encoder(spec)
    assert "\n" not in str(caught.value)


def test_an_epsilon_is_a_number_though_yaml_reads_a_text():
    encoder = build_encoder(own("vit_tiny_patch16_224", "cls", norm_eps="1e-6", **TINY))
    assert encoder.trunk.norm.eps == 1e-6


@pytest.mark.parametrize(
    ("architecture", "arguments"),
    [
        ("hf-hub:org/name", {}),
        ("local-dir:/tmp", {}),
        ("vit_tiny_patch16_224", {"checkpoint_path": "own.bin"}),
        ("vit_tiny_patch16_224", {"cache_dir": 5}),
        ("vit_tiny_patch16_224", {"pretrained": True}),
        ("vit_tiny_patch16_224", {"pretrained_cfg_overlay": {"hf_hub_id": "org/name"}}),
    ],
)
def test_a_description_opens_nothing_but_the_weights_it_names(
    architecture: str, arguments: dict[str, Any], tmp_path: Path
):
    with pytest.raises(ConfigError, match=r"own\.yaml: .*might load something else"):
        read_backbone_file(written(tmp_path, architecture, "cls", arguments))
    with pytest.raises(ConfigError, match=r"own: .*might load something else"):
        build_encoder(own(architecture, "cls", **arguments))


def test_features_of_a_described_encoder_that_fits_no_pool_are_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The whole way, as a user goes it: exit code 2, one line, no file of features."""
    (tmp_path / "cells").mkdir()
    Image.new("RGB", (32, 32), (200, 120, 150)).save(tmp_path / "cells" / "one.png")
    description = written(tmp_path, "resnet18", "mean_patch", {"num_classes": 0})
    save_file(timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "own.safetensors")
    arguments = ["embed", str(tmp_path / "cells"), "--unlabelled", "--model", "own", "--backbone-file"]
    arguments += [str(description), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out.parquet")]
    monkeypatch.setattr(BACKBONES, "_entries", {entry.name: entry for entry in BACKBONES})  # a file adds to them
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--quiet"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "own: the pool 'mean_patch'" in line
    assert not (tmp_path / "out.parquet").exists()
