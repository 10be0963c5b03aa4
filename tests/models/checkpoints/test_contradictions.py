"""Configurations beside the weights are asked: a contradiction is an error with both values, or trusted by word."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import official
import pytest
import timm
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from official import SMALL
from PIL import Image
from safetensors.torch import save_file
from small_encoders import FUSED

from cytolora.cli.app import main
from cytolora.core.findings import Finding
from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec, read_backbone_file
from cytolora.models.checkpoints.contradictions import check_neighbours
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.checkpoints.neighbours import read_neighbours

GELU = official.fitted("quiltnet-b32", replace(SMALL, patch_px=32))
QUICK = official.fitted("clip-vit-b16", SMALL)
VISION = {"hidden_size": 128, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16}
EDGES = {"height": 64, "width": 64}
ROTARY = {"input_size": [3, 96, 96], "fixed_input_size": False}
CLIP = {"image_mean": official.CLIP_MEAN, "image_std": official.CLIP_STD}


def beside(folder: Path, name: str = "config.json", content: Any = None, **values: Any) -> Path:
    """Writes a configuration beside a file of weights, whose path it returns."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(values if content is None else content))
    return folder / "model.safetensors"


def asked(spec: BackboneSpec, path: Path) -> tuple[Finding, ...]:
    return check_neighbours(spec, path)


def refused(spec: BackboneSpec, path: Path) -> str:
    with pytest.raises(WeightsError, match="beside the weights names another") as caught:
        check_neighbours(spec, path)
    message = str(caught.value)
    assert "\n" not in message
    (trusted, *_) = check_neighbours(spec, path, trust_weights=True)
    assert trusted.code == "W601"
    return message


def test_an_activation_of_transformers_that_the_entry_does_not_have_is_refused(tmp_path: Path):
    """QuiltNet's copy for transformers says quick_gelu, its entry, as open_clip runs it, GELU."""
    made = official.hf_clip(tmp_path / "hf", replace(SMALL, patch_px=32), name="clip-vit-b32")
    with pytest.raises(
        WeightsError, match=r"config\.json .*activation \(vision_config\.hidden_act: quick_gelu\)"
    ) as caught:
        load_encoder(GELU, made.weights)
    message = str(caught.value)
    assert (
        "entry quiltnet-b32 of https://huggingface.co/wisdomik/QuiltNet-B-32 (gelu, vit_base_patch32_clip_224)"
        in message
    )
    assert "--trust-weights" in message
    assert load_encoder(GELU, made.weights, trust_weights=True).feature_dim == SMALL.projected
    assert load_encoder(made.spec, made.weights).feature_dim == SMALL.projected


def test_a_backbone_file_is_compared_as_a_registered_entry_is(tmp_path: Path):
    described = {
        "name": "own", "architecture": "vit_base_patch32_clip_224", "pool": "cls", "licence": "x", "projection": 512,
        "arguments": {"num_classes": 0}, "weights": "hf/model.safetensors",
        "preprocess": {"size_px": 224, "mean": official.CLIP_MEAN, "std": official.CLIP_STD},
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(described))
    spec = read_backbone_file(tmp_path / "own.yaml")
    path = beside(tmp_path / "hf", model_type="clip", vision_config={"hidden_act": "quick_gelu"})
    assert "hidden_act: quick_gelu) than the entry own of own.yaml (gelu, vit_base_patch32_clip_224)" in refused(
        spec, path
    )


@pytest.mark.parametrize(
    ("spec", "name", "content", "message"),
    [
        (GELU, "config.json", {"model_type": "clip", "vision_config": {}}, "hidden_act: quick_gelu"),
        (GELU, "config.json", {"vision_config_dict": {"hidden_act": "quick_gelu"}}, "hidden_act: quick_gelu"),
        (QUICK, "config.json", {"vision_config": {"hidden_act": "gelu_new"}}, "hidden_act: gelu_tanh"),
        (QUICK, "config.json", {"vision_config": {**VISION, "layer_norm_eps": 1e-6}}, "layer_norm_eps: 1e-06"),
        (QUICK, "config.json", {**VISION, "hidden_act": "gelu"}, r"(hidden_act: gelu) than the entry"),
        (QUICK, "config.json", {"vision_config": {**VISION, "image_size": 336}}, "vision_config.image_size: 336"),
        (QUICK, "config.json", {"vision_config": {**VISION, "hidden_size": 1024}}, "vision_config.hidden_size: 1024"),
        (QUICK, "config.json", {**VISION, "num_hidden_layers": 24}, "num_hidden_layers: 24"),
        (QUICK, "config.json", {**VISION, "patch_size": [14, 14]}, "patch_size: 14"),
        (QUICK, "preprocessor_config.json", {**CLIP, "image_mean": [0.5] * 3}, "image_mean: [0.5, 0.5, 0.5]"),
        (QUICK, "preprocessor_config.json", {**CLIP, "image_std": [0.5] * 3}, "image_std: [0.5, 0.5, 0.5]"),
        (QUICK, "preprocessor_config.json", {**CLIP, "crop_size": 224, "size": 256}, "crop_size: 224"),
        (QUICK, "preprocessor_config.json", {**CLIP, "size": {"height": 96, "width": 96}}, "size: 96"),
        (QUICK, "preprocessor_config.json", {**CLIP, "do_normalize": False}, "do_normalize: [0, 0, 0]"),
        (QUICK, "open_clip_config.json", {"model_cfg": {"vision_cfg": {"layers": 2}}}, "quick_gelu: gelu"),
        (GELU, "open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": VISION}}, "quick_gelu"),
        (
            QUICK, "open_clip_config.json",
            {"model_cfg": {"quick_gelu": True, "vision_cfg": VISION}, "preprocess_cfg": {"mean": [0.5] * 3}},
            "preprocess_cfg.mean: [0.5, 0.5, 0.5]",
        ),
        (QUICK, "config.json", {"architecture": "vit_base_patch16_clip_224"}, "architecture vit_base_patch16_clip_224"),
        (QUICK, "config.json", {"architecture": "x", "pretrained_cfg": {"mean": [0.5] * 3}}, "mean: [0.5, 0.5, 0.5]"),
        (QUICK, "config.json", {"architecture": "x", "pretrained_cfg": {"input_size": [3, 96, 96]}}, "input_size: 96"),
        (QUICK, "config.json", {"architecture": "x", "std": [0.5] * 3}, "std: [0.5, 0.5, 0.5]"),
        (QUICK, "config.json", {"architecture": "x", "model_args": {"act_layer": "gelu"}}, "act_layer: gelu"),
        (QUICK, "config.json", {**VISION, "num_attention_heads": 16}, "num_attention_heads: 16) than the entry"),
        (QUICK, "config.json", {"vision_config": {**VISION, "num_attention_heads": 1}}, "num_attention_heads: 1)"),
        (QUICK, "config.json", {"architecture": "x", "model_args": {"num_heads": 8}}, "model_args.num_heads: 8)"),
        (
            QUICK, "open_clip_config.json",
            {"model_cfg": {"quick_gelu": True, "vision_cfg": {"width": 128, "head_width": 16}}},
            "vision_cfg.head_width: 8)",
        ),
        (QUICK, "preprocessor_config.json", {**CLIP, "do_rescale": False}, "do_rescale: [0.0018"),
        (QUICK, "preprocessor_config.json", {**CLIP, "rescale_factor": 1 / 127.5}, "rescale_factor: [0.240"),
        (QUICK, "preprocessor_config.json", {**CLIP, "rescale_factor": 1.0}, "rescale_factor: [0.0018"),
    ],
)  # fmt: skip
def test_every_contradiction_names_key_and_both_values(
    spec: BackboneSpec, name: str, content: Mapping[str, Any], message: str, tmp_path: Path
):
    text = refused(spec, beside(tmp_path, name, content))
    assert message in text
    assert f"{tmp_path / name} beside the weights names another" in text


@pytest.mark.parametrize(
    ("spec", "name", "content"),
    [
        (QUICK, "config.json", {"model_type": "clip", "vision_config": {**VISION, "hidden_act": "quick_gelu"}}),
        (QUICK, "preprocessor_config.json", {**CLIP, "crop_size": EDGES, "size": 70, "resample": 3}),
        (QUICK, "preprocessor_config.json", {"image_mean": [0.4815, 0.4578, 0.4082], "size": {"shortest_edge": 224}}),
        (QUICK, "preprocessor_config.json", {"image_mean": [255 * value for value in official.CLIP_MEAN]}),
        (QUICK, "open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": {"layers": [3, 4, 6, 3]}}}),
        (GELU, "open_clip_config.json", {"model_cfg": {"vision_cfg": {"layers": 2, "image_size": [64, 64]}}}),
        (GELU, "config.json", {"architecture": "no_such_encoder", "pretrained_cfg": {"mean": official.CLIP_MEAN}}),
        (QUICK, "config.json", {"architecture": "x", "pretrained_cfg": ROTARY}),
        (QUICK, "config.json", {**VISION, "num_attention_heads": 2, "hidden_act": "quick_gelu"}),
        (QUICK, "open_clip_config.json", {"model_cfg": {"quick_gelu": True, "vision_cfg": {"width": 128}}}),
        (QUICK, "preprocessor_config.json", {**CLIP, "do_rescale": True, "rescale_factor": 0.00392156862745098}),
        (
            QUICK, "preprocessor_config.json",
            {"do_rescale": False, "image_mean": [255 * value for value in official.CLIP_MEAN]},
        ),
    ],
)  # fmt: skip
def test_a_configuration_that_agrees_or_leaves_a_fact_open_is_no_finding(
    spec: BackboneSpec, name: str, content: Mapping[str, Any], tmp_path: Path
):
    assert asked(spec, beside(tmp_path, name, content)) == ()


@pytest.mark.parametrize(
    "spec", [spec for spec in BACKBONES if spec.hub and spec.hub.repo.startswith("timm/")], ids=str
)
def test_timms_own_configuration_of_each_of_its_entries_contradicts_nothing(spec: BackboneSpec, tmp_path: Path):
    assert spec.hub is not None
    cfg: Any = timm.get_pretrained_cfg(spec.hub.repo.removeprefix("timm/"))
    content = {"architecture": cfg.architecture, "pretrained_cfg": cfg.to_dict()}
    assert [str(one) for one in asked(spec, beside(tmp_path, content=content)) if one.code == "W601"] == []


def test_of_two_libraries_that_of_the_file_is_asked(tmp_path: Path):
    """QuiltNet's repository has both, and they disagree."""
    beside(tmp_path, "open_clip_config.json", {"model_cfg": {"vision_cfg": {"layers": 2}}})
    beside(tmp_path, model_type="clip", vision_config={"hidden_act": "quick_gelu"})
    assert asked(GELU, tmp_path / "open_clip_pytorch_model.bin") == ()
    assert "quick_gelu" in refused(GELU, tmp_path / "pytorch_model.bin")
    assert asked(GELU, tmp_path / "epoch_10.pt") == ()  # of either library: one of them agrees
    assert "quick_gelu" in refused(QUICK, tmp_path / "open_clip_pytorch_model.bin")


def test_beside_a_link_of_the_hubs_cache_means_the_snapshot(tmp_path: Path):
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "blob").write_bytes(b"x")
    link = beside(snapshot, vision_config={"hidden_act": "quick_gelu"})
    link.symlink_to("../../blob")
    (tmp_path / "short.safetensors").symlink_to(link)
    for path in (link, tmp_path / "short.safetensors"):
        assert str(snapshot / "config.json") in refused(GELU, path)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"hidden_act": NaN}', "[" * 100_000, "null", '"\\ud800"',
     '{"model_type": "bert", "vocab_size": 5}',
     " " * (2**20 + 1), '{"model_type": "\\ud800"}'],
)  # fmt: skip
def test_what_is_damaged_or_of_another_model_is_a_note(content: str, tmp_path: Path):
    path = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text(content)
    (found,) = asked(GELU, path)
    assert (found.code, found.severity) == ("W602", "note")
    assert found.examples == (f"{tmp_path.name}/config.json",)
    assert str(tmp_path) not in str(found), "findings are stored and published"
    assert "\n" not in str(found)
    str(found).encode()


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["architecture", "vision_config", "hidden_act", "image_mean", "size", "model_cfg", "vision_cfg",
                         "input_size", "pretrained_cfg", "patch_size", "resample", "preprocess_cfg", "model_type"]),
        inner, max_size=5),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(_JSON, st.sampled_from(["config.json", "preprocessor_config.json", "open_clip_config.json"]))
def test_no_content_of_a_configuration_is_a_crash(tmp_path_factory: pytest.TempPathFactory, content: Any, name: str):
    folder = tmp_path_factory.getbasetemp() / "neighbours"
    found = read_neighbours(beside(folder, name, content))
    (folder / name).unlink()
    for one in found.statements:
        assert isinstance(one.value, str | float | tuple)


def test_another_interpolation_is_a_note(tmp_path: Path):
    (found,) = asked(QUICK, beside(tmp_path, "preprocessor_config.json", {**CLIP, "resample": 2}))
    assert (found.code, found.severity) == ("W603", "note")
    assert "(resample: bilinear)" in str(found)


def test_what_an_entry_overrides_knowingly_is_data(tmp_path: Path):
    path = beside(tmp_path, vision_config={"hidden_act": "quick_gelu", "layer_norm_eps": 1e-6})
    known = replace(GELU, overrides={"activation": "open_clip's configuration, https://example.org"})
    assert "epsilon" in refused(known, path)
    assert "activation" not in refused(known, path)


def test_the_command_line_refuses_and_trusts_by_an_option_even_with_features_in_the_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments: dict[str, Any] = {"img_size": 32, "embed_dim": 48, "depth": 1, "num_heads": 3, "num_classes": 0}
    weights = tmp_path / "w"
    weights.mkdir()
    save_file(timm.create_model("vit_tiny_patch16_224", **arguments).state_dict(), weights / "model.safetensors")
    own = {"name": "contradicted", "architecture": "vit_tiny_patch16_224", "arguments": arguments, "pool": "cls",
           "weights": "w/model.safetensors", "licence": "x",
           "preprocess": {"size_px": 32, "mean": [0.5] * 3, "std": [0.5] * 3}}  # fmt: skip
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    (tmp_path / "cells").mkdir()
    Image.new("RGB", (40, 40), (200, 120, 150)).save(tmp_path / "cells" / "a.png")

    def embed(*more: str) -> tuple[Any, str]:
        options = ["--backbone-file", str(tmp_path / "own.yaml"), "--out", str(tmp_path / "o.parquet")]
        options += ["--cache", str(tmp_path / "cache")]
        with pytest.raises(SystemExit) as ended:
            main(["embed", str(tmp_path / "cells"), "--unlabelled", *options, *more])
        BACKBONES._entries.pop("contradicted", None)  # pyright: ignore
        written = capsys.readouterr()
        return ended.value.code, written.out + written.err

    assert embed()[0] in (0, None)
    (weights / "config.json").write_text(json.dumps({**VISION, "hidden_size": 48, "hidden_act": "quick_gelu"}))
    code, text = embed()
    assert code == 2
    assert "hidden_act: quick_gelu" in text
    assert "--trust-weights" in text
    code, text = embed("--trust-weights")
    assert code in (0, None)
    assert "the entry was trusted" in text


def test_the_fixture_of_an_encoder_without_neighbours_is_asked_nothing(tmp_path: Path):
    torch.save({}, tmp_path / "model.bin")
    assert asked(FUSED, tmp_path / "model.bin") == ()
