"""Prefixes of training code: one rule for all file formats, and never the first of two encoders in silence."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import official
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from official import SMALL
from safetensors.torch import load_file, save_file
from small_encoders import FUSED, randomised, shrunk
from torch import Tensor

from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BackboneSpec
from cytolora.models.checkpoints.building import build_trunk
from cytolora.models.checkpoints.formats import recognised
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.checkpoints.prefixes import WORDS, WRAPPERS

SPEC = shrunk(FUSED)
STATE = {name: tensor.clone() for name, tensor in randomised(build_trunk(SPEC)).state_dict().items()}


def as_safetensors(state: dict[str, Tensor], folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def as_pickle(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save(state, folder / "model.pt")
    return folder / "model.pt"


def as_wrapped(state: dict[str, Tensor], folder: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {0: torch.ones(3)}}}, folder / "model.pth")
    return folder / "model.pth"


def as_shards(state: dict[str, Tensor], folder: Path) -> Path:
    names = list(state)
    weight_map = {}
    for number in range(2):
        shard = f"model-{number + 1:05}-of-00002.safetensors"
        save_file({name: state[name] for name in names[number::2]}, folder / shard)
        weight_map |= dict.fromkeys(names[number::2], shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder / "model.safetensors.index.json"


FORMATS = (as_safetensors, as_pickle, as_wrapped, as_shards)
Write = Callable[[dict[str, Tensor], Path], Path]


def features(spec: BackboneSpec, path: Path) -> Tensor:
    size_px = spec.preprocess.size_px
    batch = torch.randn(2, 3, size_px, size_px, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return load_encoder(spec, path)(batch)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("prefix", ["visual", "module.model", "student.backbone", "_orig_mod.module.encoder"])
def test_a_prefix_is_taken_off_in_every_format(prefix: str, write: Write, tmp_path: Path):
    expected = features(SPEC, as_pickle(STATE, tmp_path))
    path = write({f"{prefix}.{name}": tensor for name, tensor in STATE.items()}, tmp_path)
    assert torch.equal(features(SPEC, path), expected)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(WORDS), max_size=4))
def test_any_sequence_of_prefixes_is_taken_off(words: list[str]):
    prefix = "".join(f"{word}." for word in words)
    state, layout = recognised({prefix + name: tensor for name, tensor in STATE.items()})
    assert layout is not None
    assert layout.name == "timm"
    assert state.keys() == STATE.keys()


@pytest.mark.parametrize("prefix", ["", "model.", "teacher.visual."])
@pytest.mark.parametrize("layout", ["hf_clip", "hf_vit", "hf_dinov2", "hf_siglip", "open_clip"])
def test_every_layout_is_recognised_below_a_prefix(layout: str, prefix: str, tmp_path: Path):
    """``visual.``, ``encoder.`` and ``vision_model.`` are names of these layouts themselves, and stay."""
    if layout == "open_clip":
        made = official.open_clip_vit(tmp_path / "made", SMALL, name="quiltnet-b16", quick_gelu=False)
    else:
        made = getattr(official, layout)(tmp_path / "made", SMALL)
    read = load_file if made.weights.suffix == ".safetensors" else torch.load
    state = {f"{prefix}{name}": tensor.contiguous() for name, tensor in read(made.weights).items()}
    assert torch.equal(features(made.spec, as_pickle(state, tmp_path)), features(made.spec, made.weights))


@pytest.mark.parametrize("write", FORMATS)
def test_of_teacher_and_student_the_teacher_is_read(write: Write, tmp_path: Path):
    expected = features(SPEC, as_pickle(STATE, tmp_path))
    teacher = {f"teacher.backbone.{name}": tensor for name, tensor in STATE.items()}
    student = {f"student.backbone.{name}": tensor + 1 for name, tensor in STATE.items()}
    assert torch.equal(features(SPEC, write({**student, **teacher}, tmp_path)), expected)


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_mapping_around_the_tensors_is_taken_off(wrapper: str, tmp_path: Path):
    expected = features(SPEC, as_pickle(STATE, tmp_path))
    for content in ({wrapper: STATE, "epoch": 1}, {"state_dict": {wrapper: STATE}}):
        torch.save(content, tmp_path / "model.bin")
        assert torch.equal(features(SPEC, tmp_path / "model.bin"), expected)


@pytest.mark.parametrize(
    ("first", "second"),
    [("encoder.", "backbone."), ("", "model."), ("model.encoder.", "model.visual."), ("teacher.", "net.")],
)
def test_two_encoders_are_refused_and_saving_one_of_them_is_enough(first: str, second: str, tmp_path: Path):
    one = {f"{first}{name}": tensor for name, tensor in STATE.items()}
    other = {f"{second}{name}": tensor + 1 for name, tensor in STATE.items()}
    with pytest.raises(WeightsError, match=r"holds two image encoders.*drops") as caught:
        load_encoder(SPEC, as_safetensors({**one, **other}, tmp_path))
    assert "\n" not in str(caught.value)
    assert load_encoder(SPEC, as_safetensors(one, tmp_path)).feature_dim == 48


def test_drops_name_the_encoder_that_is_not_meant(tmp_path: Path):
    expected = features(SPEC, as_pickle(STATE, tmp_path))
    both = {f"{prefix}{name}": tensor.clone() for prefix in ("encoder.", "backbone.") for name, tensor in STATE.items()}
    spec = replace(SPEC, drops=("backbone.",))
    assert torch.equal(features(spec, as_safetensors(both, tmp_path)), expected)


def test_what_lies_beside_the_prefix_is_refused_by_name(tmp_path: Path):
    state = {f"model.{name}": tensor for name, tensor in STATE.items()}
    with pytest.raises(WeightsError, match=r"1 unexpected \(fc\.weight\)"):
        load_encoder(SPEC, as_safetensors({**state, "model.fc.weight": torch.zeros(2)}, tmp_path))
    with pytest.raises(WeightsError, match=r"1 unexpected \(ema_model\.pos_embed\)"):
        load_encoder(SPEC, as_safetensors({**state, "ema_model.pos_embed": torch.zeros(2)}, tmp_path))


def test_a_tensor_with_and_without_the_prefix_is_refused(tmp_path: Path):
    state: dict[str, Any] = {f"model.{name}": tensor for name, tensor in STATE.items()}
    with pytest.raises(WeightsError, match=r"norm\.weight is there twice"):
        load_encoder(SPEC, as_safetensors({**state, "norm.weight": torch.zeros(48)}, tmp_path))


@pytest.mark.parametrize("prefix", ["encoder.", "backbone.", "visual.", "model.net.", "module.student."])
def test_an_encoder_of_no_known_layout_is_found_by_its_own_names(prefix: str, tmp_path: Path):
    spec = replace(FUSED, architecture="resnet10t", pool="timm", name="own")
    state = {name: tensor.clone() for name, tensor in build_trunk(spec).state_dict().items()}
    expected = features(spec, as_pickle(state, tmp_path))
    path = as_safetensors({f"{prefix}{name}": tensor for name, tensor in state.items()}, tmp_path)
    assert torch.equal(features(spec, path), expected)
