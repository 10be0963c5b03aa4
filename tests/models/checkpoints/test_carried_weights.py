"""Checkpoints carried over: a folder that is none, a manifest that lies, a cache that is damaged; `--weights-dir`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_hub import FakeHub, fake_hub
from PIL import Image
from safetensors.torch import save
from small_encoders import FUSED
from weight_commands import cytolora, cytolora_here, fetch, last_line

from cytolora.cli.app import main
from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import HubFile
from cytolora.models.checkpoints.hub import find, intact
from cytolora.models.checkpoints.offline_folder import keep, read_manifest, verify
from cytolora.training.resources import Inputs

CONTENT = save({"x": torch.arange(50_000, dtype=torch.float32)})
ON_HUB = replace(FUSED, hub=HubFile(repo="owner/name", filename="model.safetensors"))


@pytest.fixture
def carried(tmp_path: Path) -> Path:
    """A folder with the built-in backbone in it."""
    nano = BACKBONES.get("nano")
    assert nano.weights is not None
    keep(nano, nano.weights, tmp_path / "carried")
    return tmp_path / "carried"


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    (tmp_path / "cells").mkdir()
    Image.new("RGB", (64, 64), (200, 120, 150)).save(tmp_path / "cells" / "one.png")
    return tmp_path / "cells"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Runs the command line; returns the one line that it ends with."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def embedding(cells: Path, *arguments: str) -> list[str]:
    out, cache = str(cells.parent / "out.parquet"), str(cells.parent / "cache")
    return ["embed", str(cells), "--unlabelled", "--quiet", "--out", out, "--cache", cache, *arguments]


@pytest.mark.slow
def test_a_damaged_file_of_the_cache_is_not_carried_and_fetched_anew(tmp_path: Path):
    with fake_hub(CONTENT) as hub:
        assert fetch(hub, tmp_path).returncode == 0
        (blob,) = (path for path in (tmp_path / "home").rglob("blobs/*") if path.is_file())
        blob.chmod(0o644)
        blob.write_bytes(b"y" + CONTENT[1:])
        damaged = fetch(hub, tmp_path, HF_HUB_OFFLINE="1")
        assert damaged.returncode == 2
        assert "The download of uni is damaged: SHA-256" in last_line(damaged)
        assert verify(tmp_path / "carried") == {"uni": ""}  # the good copy of before
        assert fetch(hub, tmp_path).returncode == 0
        assert verify(tmp_path / "carried") == {"uni": ""}


def test_a_file_of_ones_own_is_never_removed(tmp_path: Path):
    own = tmp_path / ("0" * 64)
    own.write_bytes(b"whatever")
    assert intact(ON_HUB, own) == own
    assert own.exists()


@pytest.mark.parametrize("command", ["list", "embed"])
def test_a_folder_that_is_none_is_said_and_the_hub_not_asked_instead(
    command: str, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "empty").mkdir()
    for folder, message in (("nowhere", "is no folder with a weights.json"), ("empty", "holds no weights.json")):
        given = ["--weights-dir", str(tmp_path / folder)]
        arguments = ["weights", "list", *given] if command == "list" else embedding(cells, "--model", "uni", *given)
        line = refused(capsys, *arguments)
        assert f"{tmp_path / folder} {message}" in line
        assert "cytolora weights fetch NAME --to DIR" in line


def test_a_carried_checkpoint_is_what_a_command_reads(
    carried: Path, cells: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with fake_hub(CONTENT) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        with pytest.raises(SystemExit) as ended:
            main(embedding(cells, "--model", "nano", "--weights-dir", str(carried)))
        assert ended.value.code == 0
        assert not hub.requests
    assert "1 image x 96 features of nano" in capsys.readouterr().out


def test_a_carried_checkpoint_that_changed_is_refused_by_both_hashes(
    carried: Path, cells: Path, capsys: pytest.CaptureFixture[str]
):
    file = carried / "nano" / "nano.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\x80?")
    line = refused(capsys, *embedding(cells, "--model", "nano", "--weights-dir", str(carried)))
    assert f"{carried}: nano/nano.safetensors has SHA-256" in line
    assert not (cells.parent / "out.parquet").exists()


def test_a_vocabulary_that_changed_on_the_way_is_refused(tmp_path: Path):
    for name in ("open_clip_pytorch_model.bin", "vocab.txt"):
        (tmp_path / name).write_text(name)
    spec, folder = BACKBONES.get("biomedclip"), tmp_path / "carried"
    keep(spec, tmp_path / "open_clip_pytorch_model.bin", folder, [tmp_path / "vocab.txt"])
    assert len(Inputs(data={}, weights_dir=folder).weights_sha256("biomedclip")) == 64
    (folder / "biomedclip" / "vocab.txt").write_text("other")
    with pytest.raises(WeightsError, match=r"biomedclip/vocab\.txt is not there, or not as it was"):
        Inputs(data={}, weights_dir=folder).weights_sha256("biomedclip")


def test_what_the_manifest_does_not_list_or_lists_in_vain_is_not_read(carried: Path):
    (carried / "fused").mkdir()
    (carried / "fused" / "model.safetensors").write_bytes(CONTENT)
    with pytest.raises(WeightsError, match=r"fused is not listed in weights\.json.*Fetch it again"):
        find(ON_HUB, folder=carried)
    (carried / "nano" / "nano.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"nano\.safetensors is not there, though weights\.json lists it"):
        find(BACKBONES.get("nano"), folder=carried)
    assert find(BACKBONES.get("nano"), BACKBONES.get("nano").weights, carried) == BACKBONES.get("nano").weights


def twice(manifest: dict[str, list[dict[str, object]]]) -> str:
    return json.dumps({"checkpoints": manifest["checkpoints"] * 2})


def changed(**values: object) -> Callable[[dict[str, list[dict[str, object]]]], str]:
    return lambda manifest: json.dumps({"checkpoints": [{**manifest["checkpoints"][0], **values}]})


@pytest.mark.parametrize(
    "spoil",
    [
        twice, lambda _: "[" * 200_000, lambda _: '{"checkpoints": [{"\\ud800": 1}]}',
        changed(name="\ud800"), changed(name="nano: as it was written\nuni"), changed(name="a b"), changed(name=""),
        changed(file="nano/\ud800"), changed(file="nano/a\nb"), changed(file="\ud800/../.."), changed(sha256="\ud800"),
        changed(others={"vocab.txt": "\ud800"}), changed(others={"\ud800": "0" * 64}),
    ],
)  # fmt: skip
def test_a_hostile_manifest_is_refused_in_one_line_that_can_be_printed(
    spoil: Callable[[dict[str, list[dict[str, object]]]], str], carried: Path, capsys: pytest.CaptureFixture[str]
):
    manifest = carried / "weights.json"
    manifest.write_text(spoil(json.loads(manifest.read_text())))
    line = refused(capsys, "weights", "verify", str(carried))
    assert f"{manifest} is damaged" in line
    line.encode()
    with pytest.raises(WeightsError, match="is damaged"):
        read_manifest(carried)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_place_that_cannot_be_written_to_is_said_before_anything_is_downloaded(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("")
    line = refused(capsys, "weights", "fetch", "nano", "--to", str(tmp_path / place))
    assert f"Cannot write to {tmp_path / place}: " in line
    with fake_hub(CONTENT) as hub:
        done = cytolora_here("weights", "fetch", "uni", "--to", str(tmp_path / place), endpoint=hub.url, home=tmp_path)
        assert done.returncode == 2
        assert not hub.requests


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    monkeypatch.setattr("cytolora.models.checkpoints.offline_folder.shutil.copyfile", full)
    with pytest.raises(WeightsError, match=r"Cannot write to .*carried: No space left on device"):
        keep(ON_HUB, tmp_path / "model.safetensors", tmp_path / "carried")


def test_embedding_where_fetching_is_forbidden_is_refused_and_asks_nobody(
    cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with fake_hub(CONTENT) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE forbids to fetch it" in refused(capsys, *embedding(cells, "--model", "uni"))
        assert not hub.requests


@pytest.mark.slow
def test_embedding_respects_the_offline_flag_as_fetching_does(cells: Path):
    """`run`, `fit`, `learning-curve` and Python's load_backbone fetch through the same door."""
    with fake_hub(CONTENT) as hub:
        offline: FakeHub = hub
        arguments = embedding(cells, "--model", "uni")
        home = cells.parent / "home"
        done = cytolora(*arguments, endpoint=offline.url, home=home, HF_HUB_OFFLINE="1")
        assert done.returncode == 2
        assert "HF_HUB_OFFLINE forbids to fetch it" in last_line(done)
        assert not hub.requests
        online = cytolora(*arguments, endpoint=hub.url, home=home)
        assert online.returncode == 2  # what the imitation serves is no encoder
        assert any("MahmoodLab/UNI/resolve/main/pytorch_model.bin" in request for request in hub.requests)
