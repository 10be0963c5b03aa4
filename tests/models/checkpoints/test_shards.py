"""Sharded checkpoints: whichever of their files is named, all shards are read, and what is missing is named."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from small_encoders import FUSED, images, randomised, shrunk
from torch import Tensor

from cytolora.classifier.bundle.manifest import LocalFile
from cytolora.errors import WeightsError
from cytolora.models.checkpoints.building import build_trunk
from cytolora.models.checkpoints.checkpoint import read_state
from cytolora.models.checkpoints.hub import find
from cytolora.models.checkpoints.loading import load_encoder
from cytolora.models.checkpoints.offline_folder import keep, verify
from cytolora.models.checkpoints.shards import checkpoint_bytes, checkpoint_sha256, read_index
from cytolora.training.resources import Inputs

SPEC = shrunk(FUSED)
STATE = {name: tensor.clone() for name, tensor in randomised(build_trunk(SPEC)).state_dict().items()}
ENDINGS = ("safetensors", "bin")


def sharded(folder: Path, state: Mapping[str, Tensor] = STATE, *, num: int = 3, ending: str = "safetensors") -> Path:
    """Writes a checkpoint as transformers does; returns its index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "model" if ending == "safetensors" else "pytorch_model"
    weight_map: dict[str, str] = {}
    for number in range(num):
        name = f"{stem}-{number + 1:05}-of-{num:05}.{ending}"
        part = {key: state[key] for key in list(state)[number::num]}
        save_file(part, folder / name) if ending == "safetensors" else torch.save(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = folder / f"{stem}.{ending}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def same_encoder(path: Path) -> bool:
    reference = build_trunk(SPEC).eval()
    reference.load_state_dict(STATE)
    with torch.inference_mode():
        return torch.equal(load_encoder(SPEC, path)(images(FUSED)), reference(images(FUSED)))


@pytest.mark.parametrize("ending", ENDINGS)
def test_folder_index_and_each_shard_mean_the_whole_checkpoint(ending: str, tmp_path: Path):
    index = sharded(tmp_path / "hf", ending=ending)
    for named in (index.parent, index, *read_index(index).shards):
        assert find(SPEC, named) == index
    assert same_encoder(index)


def test_shards_of_the_hubs_cache_are_links_to_blobs(tmp_path: Path):
    index = sharded(tmp_path / "blobs")
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(index.parent.iterdir())):
        blob = file.rename(index.parent / str(number))
        (snapshot / file.name).symlink_to(blob)
    found = find(SPEC, tmp_path)
    assert found == snapshot / index.name
    assert same_encoder(snapshot / index.name)


def test_a_single_file_beside_an_index_is_preferred(tmp_path: Path):
    index = sharded(tmp_path)
    save_file(STATE, tmp_path / "model.safetensors")
    assert find(SPEC, tmp_path) == tmp_path / "model.safetensors"
    assert find(SPEC, index) == index


def test_an_index_of_any_name_is_found_in_its_folder(tmp_path: Path):
    index = sharded(tmp_path)
    other = index.rename(tmp_path / "encoder.safetensors.index.json")
    assert find(SPEC, tmp_path) == other
    assert same_encoder(other)


@settings(max_examples=20)
@given(num=st.integers(1, 7), ending=st.sampled_from(ENDINGS))
def test_any_number_of_shards_gives_the_tensors_of_the_whole(
    num: int, ending: str, tmp_path_factory: pytest.TempPathFactory
):
    index = sharded(tmp_path_factory.mktemp("shards"), num=num, ending=ending)
    state = read_state(index)
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_the_hash_is_over_names_and_content_of_all_files(tmp_path: Path):
    index = sharded(tmp_path)
    before = checkpoint_sha256(index)
    assert before == checkpoint_sha256(sharded(tmp_path / "elsewhere"))
    assert checkpoint_bytes(index) == sum(file.stat().st_size for file in tmp_path.iterdir() if file.is_file())
    shard = read_index(index).shards[1]
    state = load_file(shard)
    save_file({name: tensor + 1 for name, tensor in state.items()}, shard)
    assert checkpoint_sha256(index) != before


def test_the_hash_of_a_single_file_is_its_own(tmp_path: Path):
    import hashlib

    save_file(STATE, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    assert checkpoint_sha256(tmp_path / "model.safetensors") == hashlib.sha256(content).hexdigest()
    assert checkpoint_bytes(tmp_path / "model.safetensors") == len(content)


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_missing_shards_are_named_and_copying_them_is_enough(gone: int, tmp_path: Path):
    index = sharded(tmp_path)
    shard = read_index(index).shards[gone]
    moved = shard.rename(tmp_path / "moved")
    with pytest.raises(WeightsError, match=rf"lists 3 shards, of which 1 are not there \({shard.name}\)") as caught:
        read_state(index)
    assert "\n" not in str(caught.value)
    moved.rename(shard)
    assert same_encoder(index)


def test_a_shard_without_its_index_says_so_and_copying_the_index_is_enough(tmp_path: Path):
    index = sharded(tmp_path)
    shard = read_index(index).shards[0]
    moved = index.rename(tmp_path / "moved")
    for named in (shard, tmp_path):
        with pytest.raises(WeightsError, match=r"one shard .*its index model\.safetensors\.index\.json is not beside"):
            find(SPEC, named)
    moved.rename(index)
    assert find(SPEC, shard) == find(SPEC, tmp_path) == index


@pytest.mark.parametrize("change", ["one less", "one more"])
def test_shards_and_index_of_two_checkpoints_are_refused(change: str, tmp_path: Path):
    index = sharded(tmp_path)
    shard = read_index(index).shards[0]
    state = load_file(shard)
    if change == "one less":
        state.pop(sorted(state)[0])
    else:
        state["more"] = torch.zeros(1)
    save_file(state, shard)
    with pytest.raises(WeightsError, match=r"(lacks|also holds) .*index and shards are of two checkpoints"):
        read_state(index)


@pytest.mark.parametrize(
    "content",
    [
        "", "[]", "{}", '{"weight_map": {}}', '{"weight_map": {"a": 5}}', '{"weight_map": ["a"]}', "[" * 100_000,
        '{"weight_map": {"a": "../secret.safetensors"}}', '{"weight_map": {"a": "/etc/hostname"}}',
        '{"weight_map": {"a": "C:\\\\secret.safetensors"}}', '{"weight_map": {"a": "..\\\\secret.safetensors"}}',
        '{"weight_map": {"a": ""}}', '{"weight_map": {"a": "a\\u0000b"}}', '{"weight_map": {"a": "\\ud800"}}',
        '{"weight_map": NaN}',
    ],
)  # fmt: skip
def test_an_index_that_is_none_or_reaches_outside_is_refused_in_one_line(content: str, tmp_path: Path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    save_file({"a": torch.zeros(1)}, tmp_path.parent / "secret.safetensors")
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json is no index of shards") as caught:
        read_state(index)
    assert "\n" not in str(caught.value)
    str(caught.value).encode()


def test_shards_in_a_folder_below_the_index_are_read(tmp_path: Path):
    (tmp_path / "parts").mkdir()
    save_file(STATE, tmp_path / "parts" / "all.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(STATE, "parts/all.safetensors")}))
    assert same_encoder(index)


def test_a_bundles_local_file_counts_while_all_shards_are_as_they_were(tmp_path: Path):
    index = sharded(tmp_path)
    sha256 = checkpoint_sha256(index)
    local = LocalFile(path=str(index), num_bytes=checkpoint_bytes(index))
    assert local.problem(sha256) == ""
    shard = read_index(index).shards[2]
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"?")
    assert local.problem(sha256) == "has changed since"
    shard.unlink()
    assert local.problem(sha256) == "lacks shards, or its index has changed"
    shard.write_bytes(content)
    assert local.problem(sha256) == ""


def test_a_sharded_checkpoint_is_carried_whole_and_verified(tmp_path: Path):
    index = sharded(tmp_path / "hf")
    spec = replace(SPEC, name="nano")  # a registered name, whose file the folder then stands for
    folder = tmp_path / "carried"
    record = keep(spec, index, folder)
    assert (record.sha256, record.num_bytes) == (checkpoint_sha256(index), checkpoint_bytes(index))
    assert verify(folder) == {"nano": ""}
    found = find(spec, folder=folder)
    assert found is not None
    assert same_encoder(found)
    assert Inputs(data={}, weights_dir=folder).weights_sha256("nano") == record.sha256
    (folder / "nano" / "model-00002-of-00003.safetensors").unlink()
    assert "1 are not there (model-00002-of-00003.safetensors)" in verify(folder)["nano"]
