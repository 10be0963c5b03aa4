"""Checkpoints in the hub's cache that were changed after they were fetched are named, not used."""

import hashlib
import os
from pathlib import Path

import pytest

from cytolora.errors import WeightsError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.checkpoints.shards import checkpoint_sha256
from cytolora.training.resources import Inputs

CONTENT = bytes(range(256)) * 8


def fetched(folder: Path, name: str = "model.safetensors", digest: str | None = None) -> Path:
    """A file as the hub's client lays it down: a link in a snapshot to a blob named after its hash."""
    blob = folder / "blobs" / (digest or hashlib.sha256(CONTENT).hexdigest())
    link = folder / "snapshots" / ("0" * 40) / name
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(CONTENT)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def test_a_whole_file_of_the_hub_is_hashed(tmp_path: Path):
    assert checkpoint_sha256(fetched(tmp_path)) == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:100] + bytes([content[100] ^ 1]) + content[101:],
        lambda content: bytes([content[0] ^ 128]) + content[1:],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: content[::-1],
    ],
    ids=["bit", "first bit", "cut", "longer", "empty", "another"],
)
def test_a_changed_file_of_the_hub_is_named_before_it_is_used(damage, tmp_path: Path):
    link = fetched(tmp_path)
    link.resolve().write_bytes(damage(CONTENT))
    with pytest.raises(WeightsError, match=r"model\.safetensors is damaged: its SHA-256 is .* fetches it again"):
        Inputs(data={}, weights={"nano": link}).weights_sha256("nano")
    assert BACKBONES.get("nano").weights != link


@pytest.mark.parametrize("digest", ["0" * 40, "weights", "0" * 63])
def test_files_that_are_not_named_after_their_sha256_are_taken_as_they_are(digest: str, tmp_path: Path):
    """Small files of the hub are named after git's own hash, and a link may lead anywhere."""
    assert checkpoint_sha256(fetched(tmp_path, digest=digest)) == hashlib.sha256(CONTENT).hexdigest()
