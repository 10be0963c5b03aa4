"""Frozen features: computed once, made anew when their file is damaged, never half kept."""

import errno
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cytolora import features as features_module
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.pixels import PixelCache
from cytolora.errors import DataError
from cytolora.features import extract
from cytolora.specs import Preprocess

PREPROCESS = Preprocess(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class _Mean(nn.Module):
    """A tower that gives the mean colour, and counts the images that it was asked for."""

    recipe = "mean colour"

    def __init__(self) -> None:
        super().__init__()
        self.num_images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_images += len(images)
        return images.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def manifest(drawn_cells: Path) -> Manifest:
    return load_manifest(drawn_cells)


def _extract(manifest: Manifest, folder: Path, preprocess: Preprocess = PREPROCESS) -> tuple[Tensor, int]:
    """Returns the features, and how many images the tower had to see."""
    tower = _Mean()
    found = extract(
        tower,  # pyright: ignore[reportArgumentType]
        manifest,
        preprocess,
        weights_sha256="0",
        pixels=PixelCache(folder / "pixels", manifest.root),
        cache=folder / "features",
        device=torch.device("cpu"),
    )
    return found, tower.num_images


def test_a_second_extraction_only_reads(manifest: Manifest, tmp_path: Path):
    first, num_seen = _extract(manifest, tmp_path)
    assert (first.shape, num_seen) == ((60, 3), 60)
    again, num_seen = _extract(manifest, tmp_path)
    assert num_seen == 0
    assert (again == first).all()
    assert _extract(manifest, tmp_path, Preprocess(size_px=9, mean=PREPROCESS.mean, std=PREPROCESS.std))[1] == 60


@pytest.mark.parametrize("content", [b"", b"no tensors", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_file_is_made_anew(manifest: Manifest, tmp_path: Path, content: bytes | None):
    first, _ = _extract(manifest, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] if content is None else content)
    again, num_seen = _extract(manifest, tmp_path)
    assert num_seen == 60
    assert (again == first).all()
    assert file.read_bytes() == whole


def test_a_full_disk_is_one_clear_error(manifest: Manifest, tmp_path: Path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features_module, "write_bytes", full)
    with pytest.raises(DataError, match=r"Cannot keep features in .*: No space left on device\..*make room"):
        _extract(manifest, tmp_path)
    assert not (tmp_path / "features").exists()
