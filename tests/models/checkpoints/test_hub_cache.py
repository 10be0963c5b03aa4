"""The hub's cache named as the weights: the snapshot that is meant is taken, or the candidates are named."""

from dataclasses import replace
from pathlib import Path

import pytest
from fake_hub import COMMIT
from small_encoders import FUSED

from cytolora.errors import WeightsError
from cytolora.models.backbones.spec import HubFile
from cytolora.models.checkpoints.hub import find

OTHER = "f" * 40
SPEC = replace(FUSED, hub=HubFile(repo="owner/name", filename="model.safetensors"))
OWN = replace(FUSED, hub=None)


def cached(hub: Path, *commits: str, repo: str = "owner--name", main: str | None = None) -> Path:
    """Lays a repository out as the hub's client does: blobs, and links to them by commit."""
    repository = hub / f"models--{repo}"
    for folder in ("blobs", "refs", "snapshots"):
        (repository / folder).mkdir(parents=True)
    (repository / "blobs" / "x").write_bytes(b"x")
    for commit in commits:
        (repository / "snapshots" / commit).mkdir()
        (repository / "snapshots" / commit / "model.safetensors").symlink_to("../../blobs/x")
    if main is not None:
        (repository / "refs" / "main").write_text(main)
    return repository


@pytest.mark.parametrize("spec", [SPEC, OWN], ids=["of the registry", "own"])
@pytest.mark.parametrize("below", ["", "snapshots", f"snapshots/{COMMIT}", f"snapshots/{COMMIT}/model.safetensors"])
def test_a_repository_of_the_cache_means_its_only_snapshot(below: str, spec, tmp_path: Path):
    repository = cached(tmp_path, COMMIT)
    assert find(spec, repository / below) == repository / "snapshots" / COMMIT / "model.safetensors"


@pytest.mark.parametrize("level", [".", ".."])
def test_the_cache_itself_means_the_backbones_own_repository(level: str, tmp_path: Path):
    hub = tmp_path / "hub"
    repository = cached(hub, COMMIT)
    cached(hub, OTHER, repo="other--model")
    assert find(SPEC, (hub / level).resolve()) == repository / "snapshots" / COMMIT / "model.safetensors"


def test_of_several_snapshots_that_of_main_is_taken(tmp_path: Path):
    repository = cached(tmp_path, COMMIT, OTHER, main=f"{OTHER}\n")
    assert find(SPEC, repository) == repository / "snapshots" / OTHER / "model.safetensors"


def test_a_pinned_revision_comes_before_main(tmp_path: Path):
    repository = cached(tmp_path, COMMIT, OTHER, main=OTHER)
    pinned = replace(SPEC, hub=HubFile(repo="owner/name", filename="model.safetensors", revision=COMMIT))
    assert find(pinned, repository) == repository / "snapshots" / COMMIT / "model.safetensors"


@pytest.mark.parametrize("main", [None, "", "0" * 40, "../../../etc", "\ud800".encode("utf-8", "surrogatepass").hex()])
def test_several_snapshots_without_a_main_are_named_and_one_of_them_can_be_given(main: str | None, tmp_path: Path):
    repository = cached(tmp_path, COMMIT, OTHER, main=main)
    with pytest.raises(WeightsError, match=rf"holds 2 snapshots \({COMMIT}, {OTHER}\)") as caught:
        find(SPEC, repository)
    advised = Path(str(caught.value).rpartition("fused=")[2].rstrip("."))
    assert find(SPEC, advised) == repository / "snapshots" / COMMIT / "model.safetensors"


def test_a_cache_without_the_backbones_repository_names_what_it_holds(tmp_path: Path):
    repository = cached(tmp_path, OTHER, repo="other--model")
    for spec, named in ((SPEC, "without a repository owner/name"), (OWN, "without a repository;")):
        with pytest.raises(WeightsError, match=rf"{named}.*models--other--model") as caught:
            find(spec, tmp_path)
        advised = Path(str(caught.value).rpartition("fused=")[2].rstrip("."))
        assert find(spec, advised) == repository / "snapshots" / OTHER / "model.safetensors"


def test_a_repository_without_a_snapshot_was_not_fetched_to_the_end(tmp_path: Path):
    with pytest.raises(WeightsError, match="holds no snapshot: its download was not finished"):
        find(SPEC, cached(tmp_path))


def test_a_plain_folder_with_a_folder_called_snapshots_is_a_plain_folder(tmp_path: Path):
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert find(SPEC, tmp_path) == tmp_path / "model.safetensors"


def test_a_folder_that_leaves_it_open_names_a_file_that_can_be_given(tmp_path: Path):
    (tmp_path / "step_100").mkdir()
    (tmp_path / "step_100" / "weights.pt").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"holds 0 files of weights .*below it lies step_100/weights\.pt") as caught:
        find(SPEC, tmp_path)
    advised = Path(str(caught.value).rpartition("fused=")[2].rstrip("."))
    assert find(SPEC, advised) == tmp_path / "step_100" / "weights.pt"
    for name in ("a.pt", "b.pt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"2 files of weights \(a\.pt, b\.pt\)") as caught:
        find(SPEC, tmp_path)
    assert find(SPEC, Path(str(caught.value).rpartition("fused=")[2].rstrip("."))) == tmp_path / "a.pt"
