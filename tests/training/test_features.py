"""Frozen features: computed once, made anew when their file is damaged, never half kept."""

import errno
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor, nn

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest
from cytolora.errors import DataError, WeightsError
from cytolora.training import features as features_module
from cytolora.training.features import chunks

PREPROCESS = Preprocess(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class _Mean(nn.Module):
    """An encoder that gives the mean colour, and counts the images that it was asked for."""

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
    """Returns the features, and how many images the encoder had to see."""
    encoder = _Mean()
    parts = chunks(
        lambda: encoder,  # pyright: ignore[reportArgumentType]
        manifest,
        preprocess,
        recipe=encoder.recipe,
        weights_sha256="0",
        pixels=PixelCache(folder / "pixels", manifest.root),
        cache=folder / "features",
        device=torch.device("cpu"),
    )
    return torch.cat([part.features for part in parts]), encoder.num_images


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


def test_a_flipped_bit_anywhere_in_the_file_changes_no_feature(manifest: Manifest, tmp_path: Path):
    few = replace(manifest, samples=manifest.samples[:5])
    first, _ = _extract(few, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    whole = file.read_bytes()
    for place in range(len(whole)):
        turned = bytearray(whole)
        turned[place] ^= 1 << place % 8
        file.write_bytes(turned)
        again, num_seen = _extract(few, tmp_path)
        assert torch.equal(again, first), place
        assert num_seen == 5, place
        assert file.read_bytes() == whole


def test_a_damaged_file_is_told_of_and_one_of_an_earlier_version_is_not(manifest: Manifest, tmp_path: Path, caplog):
    _extract(manifest, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _extract(manifest, tmp_path)
    assert [record.getMessage() for record in caplog.records] == [f"{file} is damaged: it is not used but made anew."]
    file.write_bytes(whole.partition(b"\n")[2])
    assert _extract(manifest, tmp_path)[1] == 60
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "foreign", [torch.zeros(60, 7), torch.zeros(60, 3, dtype=torch.int64), torch.full((60, 3), torch.nan)]
)
def test_features_without_a_checksum_are_made_anew_whatever_they_are(
    manifest: Manifest, tmp_path: Path, foreign: Tensor
):
    first, _ = _extract(manifest, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    file.write_bytes(save({"features": foreign}))
    again, num_seen = _extract(manifest, tmp_path)
    assert torch.equal(again, first)
    assert num_seen == 60


def test_a_file_copied_over_that_of_other_features_is_not_used(manifest: Manifest, tmp_path: Path):
    """Of another view of as many images: the shapes agree."""
    otherwise = replace(PREPROCESS, mean=(0.4, 0.5, 0.6))
    first, _ = _extract(manifest, tmp_path)
    (file,) = (tmp_path / "features").iterdir()
    _extract(manifest, tmp_path, otherwise)
    (other,) = [path for path in (tmp_path / "features").iterdir() if path != file]
    file.write_bytes(other.read_bytes())
    again, num_seen = _extract(manifest, tmp_path)
    assert torch.equal(again, first)
    assert num_seen == 60


def test_features_that_are_no_numbers_are_refused_and_not_kept(manifest: Manifest, tmp_path: Path, monkeypatch):
    def third_image_overflows(encoder: _Mean, images: Tensor) -> Tensor:
        features = images.mean(dim=(2, 3))
        features[2] = torch.inf
        return features

    monkeypatch.setattr(_Mean, "forward", third_image_overflows)
    few = replace(manifest, samples=manifest.samples[:5])
    with pytest.raises(WeightsError, match=rf"features of 1 of 5 images .* \(first {few.samples[2].path}\): the chec"):
        _extract(few, tmp_path)
    assert not (tmp_path / "features").exists()


def test_a_full_disk_is_one_clear_error(manifest: Manifest, tmp_path: Path, monkeypatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features_module, "write_bytes", full)
    with pytest.raises(DataError, match=r"Cannot keep features in .*: No space left on device\..*make room"):
        _extract(manifest, tmp_path)
    assert not (tmp_path / "features").exists()


def test_chunks_come_in_order_and_ask_for_the_encoder_only_where_something_is_missing(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr(features_module, "_CHUNK", 25)
    encoder, asked = _Mean(), []

    def parts() -> list[features_module.Chunk]:
        found = features_module.chunks(
            lambda: asked.append(1) or encoder,  # pyright: ignore[reportArgumentType]
            manifest,
            PREPROCESS,
            recipe=encoder.recipe,
            weights_sha256="0",
            pixels=PixelCache(tmp_path / "pixels", manifest.root),
            cache=tmp_path / "features",
            device=torch.device("cpu"),
        )
        return list(found)

    first = parts()
    assert [len(part.features) for part in first] == [25, 25, 10]
    assert tuple(sample for part in first for sample in part.samples) == manifest.samples
    (tmp_path / "features" / sorted((tmp_path / "features").iterdir())[0].name).unlink()
    assert len(asked) == 3
    again = parts()
    assert len(asked) == 4
    assert all((old.features == new.features).all() for old, new in zip(first, again, strict=True))


def test_features_are_kept_apart_by_weights_view_and_images(manifest: Manifest, tmp_path: Path):
    def seen(
        images: Manifest, weights: str = "0", preprocess: Preprocess = PREPROCESS, augment: AugmentSpec | None = None
    ) -> int:
        encoder = _Mean()
        parts = chunks(
            lambda: encoder,  # pyright: ignore[reportArgumentType]
            images,
            preprocess,
            recipe=encoder.recipe,
            weights_sha256=weights,
            pixels=PixelCache(tmp_path / "pixels", images.root),
            cache=tmp_path / "features",
            device=torch.device("cpu"),
            augment=augment,
        )
        return len(list(parts)) and encoder.num_images

    few = replace(manifest, samples=manifest.samples[:7])
    otherwise = replace(PREPROCESS, resize="squash")
    assert seen(few) == 7
    assert seen(few, weights="1") == 7
    assert seen(few, preprocess=otherwise) == 7
    assert seen(few, augment=AugmentSpec()) == 7
    assert seen(few, augment=AugmentSpec(min_scale=0.08)) == 7
    assert seen(replace(manifest, samples=manifest.samples[:8])) == 8
    assert seen(few) == seen(few, augment=AugmentSpec()) == 0


def test_an_image_too_long_and_narrow_is_named_and_not_scaled(tmp_path: Path):
    """A backbone that scales the shorter edge would need 1 TB for it."""
    for number, size in enumerate([(9, 9), (1, 3_000_000)]):
        (tmp_path / "cells" / f"{number}").mkdir(parents=True)
        Image.new("RGB", size).save(tmp_path / "cells" / f"{number}" / "a.png")
    manifest = load_manifest(tmp_path / "cells")
    with pytest.raises(DataError, match=r"1/a\.png: An image of 1 x 3000000 pixels is too long and narrow"):
        _extract(manifest, tmp_path / "cache", replace(PREPROCESS, size_px=384))
