"""Checkpoints by name: on disk, carried over, in the cache, and from an imitation of the hub on loopback."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fake_hub import COMMIT, FakeHub, fake_hub
from safetensors.torch import save
from small_encoders import FUSED
from weight_commands import cytolora, cytolora_here, fetch, fetch_here, last_line

from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.backbones.spec import HubFile
from cytolora.models.checkpoints.hub import find, find_vocabulary
from cytolora.models.checkpoints.offline_folder import keep, read_manifest, verify
from cytolora.training.resources import Inputs

CONTENT = save({"x": torch.arange(50_000, dtype=torch.float32)})
ON_HUB = replace(FUSED, hub=HubFile(repo="owner/name", filename="model.safetensors"))


@pytest.fixture
def hub():
    with fake_hub(CONTENT) as served:
        yield served


def test_a_download_into_a_log_is_a_plain_line_at_its_start_and_end(hub: FakeHub, tmp_path: Path):
    start, end = fetch_here(hub, tmp_path).stderr.splitlines()
    assert re.fullmatch(r"uni: fetching pytorch_model.bin: [\d.]+ [kM]B", start)
    assert re.fullmatch(r"uni: fetching pytorch_model.bin: ([\d.]+ [kM]B) of \1 \(100 %\) in (?:< )?[\d.]+ s", end)


def test_a_fetched_checkpoint_lies_in_the_folder_with_hash_licence_and_commit(hub: FakeHub, tmp_path: Path):
    done = fetch_here(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "carried" / "uni" / "pytorch_model.bin").read_bytes() == CONTENT
    entry = json.loads((tmp_path / "carried" / "weights.json").read_text())["checkpoints"][0]
    assert (entry["name"], entry["revision"], entry["gated"]) == ("uni", COMMIT, True)
    assert (entry["licence"], entry["redistributable"]) == ("CC-BY-NC-ND-4.0", False)
    assert "neither the file nor weights derived from it travel on" in done.stdout
    assert any("MahmoodLab/UNI/resolve/main/pytorch_model.bin" in request for request in hub.requests)
    asked = len(hub.requests)
    offline = fetch_here(hub, tmp_path, offline=True)
    assert offline.returncode == 0, offline.stderr
    assert len(hub.requests) == asked


def test_a_vocabulary_travels_with_its_weights(hub: FakeHub, tmp_path: Path):
    assert fetch_here(hub, tmp_path, "biomedclip").returncode == 0
    folder = tmp_path / "carried"
    spec = BACKBONES.get("biomedclip")
    weights = find(spec, folder=folder)
    assert weights is not None
    assert find_vocabulary(spec, weights) == folder / "biomedclip" / "vocab.txt"
    assert verify(folder) == {"biomedclip": ""}
    (folder / "biomedclip" / "vocab.txt").write_text("other")
    assert verify(folder)["biomedclip"] == "biomedclip/vocab.txt is not there, or not as it was"


def test_a_pinned_revision_is_what_the_hub_is_asked_for(hub: FakeHub, tmp_path: Path):
    assert fetch_here(hub, tmp_path, "unicas").returncode == 0
    revision = BACKBONES.get("unicas").hub.revision  # pyright: ignore
    assert any(f"/resolve/{revision}/UniCAS.pth" in request for request in hub.requests)


@pytest.mark.parametrize(
    ("behaviour", "message"),
    [
        ("gated", "MahmoodLab/UNI is gated and refused: accept its terms at https://huggingface.co/MahmoodLab/UNI"),
        ("unknown repository", "The hub shows no repository MahmoodLab/UNI"),
        ("no such file", "MahmoodLab/UNI has no file pytorch_model.bin"),
        ("lies", "The download of uni is damaged: SHA-256"),
    ],
)
def test_a_refusal_says_what_happened_and_what_to_do(behaviour, message: str, hub: FakeHub, tmp_path: Path):
    hub.behaviour = behaviour
    done = fetch_here(hub, tmp_path)
    assert done.returncode == 2
    assert message in last_line(done)
    assert not (tmp_path / "carried" / "uni").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behaviour", "message"),
    [("broken", "The hub answered 500 for MahmoodLab/UNI"), ("cuts", "Cannot fetch MahmoodLab/UNI from http")],
)
def test_a_hub_that_fails_again_and_again_is_given_up(behaviour, message: str, hub: FakeHub, tmp_path: Path):
    """Slow: the hub's client tries several times, with pauses."""
    hub.behaviour = behaviour
    done = fetch(hub, tmp_path)
    assert done.returncode == 2
    assert message in last_line(done)
    assert not (tmp_path / "carried" / "uni").exists()


@pytest.mark.slow
def test_a_download_that_breaks_off_once_is_resumed(hub: FakeHub, tmp_path: Path):
    hub.behaviour = "cuts once"
    hub.content = bytes(range(256)) * 100_000  # the hub's client keeps what arrived in pieces of 10 MB
    done = fetch(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "carried" / "uni" / "pytorch_model.bin").read_bytes() == hub.content
    ranges = [request for request in hub.requests if "bytes=" in request and not request.endswith("bytes=0-")]
    assert ranges, hub.requests


@pytest.mark.parametrize("behaviour", ["stalls", "drips"])
@pytest.mark.slow
def test_a_download_that_comes_to_a_halt_is_given_up_in_time(behaviour, hub: FakeHub, tmp_path: Path):
    """A byte now and then resets the deadline of the hub's client; what is stalled may be shorter than its patience."""
    hub.behaviour = behaviour
    options = {"endpoint": hub.url, "home": tmp_path / "home", "stall_seconds": 3}
    start = time.monotonic()
    done = cytolora("weights", "fetch", "uni", "--to", str(tmp_path / "carried"), **options)
    assert time.monotonic() - start < 60  # most of it is the start of Python on a busy machine
    assert done.returncode == 2
    assert "The download of pytorch_model.bin from MahmoodLab/UNI came to a halt" in last_line(done)
    assert "What has arrived is kept; fetch it again" in last_line(done)
    assert not (tmp_path / "carried" / "uni").exists()
    hub.behaviour = "serves"
    assert fetch(hub, tmp_path).returncode == 0
    assert (tmp_path / "carried" / "uni" / "pytorch_model.bin").read_bytes() == CONTENT


@pytest.mark.slow
def test_a_hub_that_falls_silent_is_given_up_by_the_deadline_of_its_client(hub: FakeHub, tmp_path: Path):
    """Slow: it tries again five times, two seconds each here."""
    hub.behaviour = "stalls"
    done = fetch(hub, tmp_path)
    assert done.returncode == 2
    assert "Cannot fetch MahmoodLab/UNI from http" in last_line(done)


@pytest.mark.slow
def test_no_route_to_the_hub_says_how_to_carry_weights_over(tmp_path: Path):
    """Slow: the hub's client tries several times, with pauses."""
    closed = FakeHub(url="http://127.0.0.1:9")
    done = fetch(closed, tmp_path)
    assert done.returncode == 2
    assert "Cannot fetch MahmoodLab/UNI from http://127.0.0.1:9" in last_line(done)
    assert "--weights-dir" in last_line(done)


def test_offline_flags_are_respected(hub: FakeHub, tmp_path: Path):
    done = fetch_here(hub, tmp_path, offline=True)
    assert done.returncode == 2
    assert "uni is not in the hub's cache, and HF_HUB_OFFLINE forbids to fetch it" in last_line(done)
    assert not hub.requests


def test_planning_downloads_nothing(hub: FakeHub, tmp_path: Path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "name: one\ndatasets: [synthetic]\nmodels: [uni]\nshots: [1]\nseeds: [1]\n"
        "methods:\n  linear: {budget: {amount: 1, unit: epochs}}\n"
    )
    out = str(tmp_path / "runs")
    done = cytolora_here("plan", str(grid), "--out", out, endpoint=hub.url, home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert not hub.requests


def test_the_hubs_cache_is_found_by_the_exact_name_and_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").write_bytes(CONTENT)
    (tmp_path / "models--owner--name" / "refs").mkdir()
    (tmp_path / "models--owner--name" / "refs" / "main").write_text(COMMIT)
    assert find(ON_HUB) == snapshot / "model.safetensors"
    assert find(replace(ON_HUB, hub=HubFile(repo="Owner/name", filename="model.safetensors"))) is None
    pinned = HubFile(repo="owner/name", filename="model.safetensors", revision="f" * 40)
    assert find(replace(ON_HUB, hub=pinned)) is None
    assert find(replace(ON_HUB, hub=replace(pinned, revision=COMMIT))) == snapshot / "model.safetensors"


def test_a_folder_gives_the_official_file_first_then_the_safest(tmp_path: Path):
    for name in ("pytorch_model.bin", "other.safetensors", "config.json"):
        (tmp_path / name).write_bytes(b"x")
    assert find(ON_HUB, tmp_path) == tmp_path / "pytorch_model.bin"
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert find(ON_HUB, tmp_path) == tmp_path / "model.safetensors"
    official = replace(ON_HUB, hub=HubFile(repo="owner/name", filename="other.safetensors"))
    assert find(official, tmp_path) == tmp_path / "other.safetensors"


def test_a_folder_that_leaves_it_open_is_an_error_with_the_files_in_it(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds 0 files of weights \(none\), expected one"):
        find(ON_HUB, tmp_path)
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"2 files of weights \(a\.safetensors, b\.safetensors\)"):
        find(ON_HUB, tmp_path)
    with pytest.raises(WeightsError, match=r"No weights file at .*nowhere.*--weights fused=PATH"):
        find(ON_HUB, tmp_path / "nowhere")


def test_a_carried_folder_is_read_back_and_every_damage_is_named(tmp_path: Path):
    checkpoint, folder = tmp_path / "model.safetensors", tmp_path / "carried"
    checkpoint.write_bytes(CONTENT)
    kept = keep(ON_HUB, checkpoint, folder)
    assert read_manifest(folder) == [kept]
    assert find(ON_HUB, folder=folder) == folder / "fused" / "model.safetensors"
    assert verify(folder) == {"fused": ""}
    copied = folder / "fused" / "model.safetensors"
    copied.write_bytes(CONTENT[:-1])
    assert "copied in part" in verify(folder)["fused"]
    copied.write_bytes(b"y" + CONTENT[1:])
    assert "has SHA-256" in verify(folder)["fused"]
    copied.unlink()
    assert verify(folder)["fused"] == "fused/model.safetensors is not there"


def test_verifying_a_folder_without_a_manifest_says_how_to_write_one(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"holds no weights\.json.*cytolora weights fetch"):
        verify(tmp_path)
    (tmp_path / "weights.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"weights\.json is damaged"):
        verify(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"num_bytes": "many"}, {"sha256": 5}, {"file": None}, {"name": [1]}, {"others": ["vocab.txt"]},
        {"file": "/etc/hostname"}, {"file": "../secret"}, {"others": {"../secret": "0"}},
    ],
)  # fmt: skip
def test_a_manifest_that_was_tampered_with_is_refused_in_one_line(change: dict[str, object], tmp_path: Path):
    checkpoint, folder = tmp_path / "model.safetensors", tmp_path / "carried"
    checkpoint.write_bytes(CONTENT)
    keep(ON_HUB, checkpoint, folder)
    manifest = folder / "weights.json"
    (entry,) = json.loads(manifest.read_text())["checkpoints"]
    manifest.write_text(json.dumps({"checkpoints": [{**entry, **change}]}))
    with pytest.raises(WeightsError, match=r"weights\.json is damaged") as caught:
        verify(folder)
    assert "\n" not in str(caught.value)


def test_verify_ends_with_1_where_a_checkpoint_changed(hub: FakeHub, tmp_path: Path):
    assert fetch_here(hub, tmp_path).returncode == 0
    folder = tmp_path / "carried"
    good = cytolora_here("weights", "verify", str(folder), endpoint=hub.url, home=tmp_path)
    assert (good.returncode, good.stdout.strip()) == (0, "uni: as it was written")
    (folder / "uni" / "pytorch_model.bin").write_bytes(b"")
    bad = cytolora_here("weights", "verify", str(folder), endpoint=hub.url, home=tmp_path)
    assert bad.returncode == 1
    assert "has 0 bytes" in bad.stdout


def test_the_list_says_what_is_here_and_on_which_terms(tmp_path: Path):
    done = cytolora_here("weights", "list", "--json", endpoint="http://127.0.0.1:9", home=tmp_path)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["nano"]["path"].endswith("nano.safetensors")
    assert rows["uni"]["path"] is None
    assert (rows["uni"]["gated"], rows["uni"]["redistributable"]) == (True, False)


AGREES = b'{"architecture": "vit_large_patch16_224", "num_features": 1024}'


@pytest.mark.parametrize("name", ["config.json", "open_clip_config.json", "preprocessor_config.json"])
def test_a_configuration_that_the_hub_has_travels_beside_the_weights(hub: FakeHub, tmp_path: Path, name: str):
    hub.files[name] = AGREES
    done = fetch_here(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "carried" / "uni" / name).read_bytes() == AGREES
    assert verify(tmp_path / "carried") == {"uni": ""}
    asked = len(hub.requests)
    assert fetch_here(hub, tmp_path, offline=True).returncode == 0
    assert len(hub.requests) == asked
    assert (tmp_path / "carried" / "uni" / name).read_bytes() == AGREES


def test_a_configuration_is_fetched_for_weights_that_are_in_the_cache_without_it(hub: FakeHub, tmp_path: Path):
    assert fetch_here(hub, tmp_path).returncode == 0
    hub.files["config.json"] = AGREES
    assert not (tmp_path / "carried" / "uni" / "config.json").exists()
    assert fetch_here(hub, tmp_path).returncode == 0
    assert (tmp_path / "carried" / "uni" / "config.json").read_bytes() == AGREES
    assert sum("GET" in request and "pytorch_model.bin" in request for request in hub.requests) == 1


def test_a_carried_configuration_that_contradicts_the_entry_is_refused_when_the_weights_are_read(
    hub: FakeHub, tmp_path: Path
):
    hub.files["preprocessor_config.json"] = b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    assert fetch_here(hub, tmp_path).returncode == 0
    inputs = Inputs(data={}, weights_dir=tmp_path / "carried")
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json.*0\.5.*0\.485"):
        inputs.weight_findings("uni")


def test_weights_without_configurations_are_fetched_as_before(hub: FakeHub, tmp_path: Path):
    assert fetch_here(hub, tmp_path).returncode == 0
    assert sorted(path.name for path in (tmp_path / "carried" / "uni").iterdir()) == ["pytorch_model.bin"]
