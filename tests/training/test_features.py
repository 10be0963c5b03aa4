"""Frozen features: computed once per image, in any company the same, made anew when damaged, never half cached."""

import errno
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from PIL import Image
from small_encoders import REGISTERED, shrunk, small_encoder
from torch import Tensor, nn

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest
from cytolora.errors import DataError, WeightsError
from cytolora.models.kernels.cpu import for_inference
from cytolora.training import features as features_module
from cytolora.training.features import batch_size, chunks, encode

PREPROCESS = Preprocess(size_px=8, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


class _Mean(nn.Module):
    """An encoder that gives the mean colour, and counts the different images of every pass: padding repeats one."""

    recipe = "mean colour"

    def __init__(self) -> None:
        super().__init__()
        self.num_images = 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_images += len(images.unique(dim=0))
        return images.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def manifest(drawn_cells: Path) -> Manifest:
    return load_manifest(drawn_cells)


def _parts(
    encoder: _Mean,
    manifest: Manifest,
    folder: Path,
    preprocess: Preprocess = PREPROCESS,
    on_images: Callable[[int], None] = lambda images: None,
    augment: AugmentSpec | None = None,
) -> Iterator[Tensor]:
    parts = chunks(
        lambda: encoder,  # pyright: ignore[reportArgumentType]
        manifest,
        preprocess,
        recipe=encoder.recipe,
        weights_sha256="0",
        pixels=PixelCache(folder / "pixels", manifest.root),
        cache=folder / "features",
        device=torch.device("cpu"),
        on_images=on_images,
        augment=augment,
    )
    return (part.features for part in parts)


def _extract(
    manifest: Manifest, folder: Path, preprocess: Preprocess = PREPROCESS, **options: Any
) -> tuple[Tensor, int]:
    """Returns the features, and how many images the encoder had to see."""
    encoder = _Mean()
    return torch.cat(list(_parts(encoder, manifest, folder, preprocess, **options))), encoder.num_images


def test_a_second_extraction_only_reads(manifest: Manifest, tmp_path: Path):
    first, num_seen = _extract(manifest, tmp_path)
    assert (first.shape, num_seen) == ((60, 3), 60)
    again, num_seen = _extract(manifest, tmp_path)
    assert num_seen == 0
    assert (again == first).all()
    assert _extract(manifest, tmp_path, Preprocess(size_px=9, mean=PREPROCESS.mean, std=PREPROCESS.std))[1] == 60


def _shards(folder: Path) -> list[Path]:
    return sorted((folder / "features").rglob("*.shard"))


def _some(manifest: Manifest, places: Sequence[int]) -> Manifest:
    return replace(manifest, samples=tuple(manifest.samples[place] for place in places))


def test_one_image_added_to_many_is_the_only_one_computed(manifest: Manifest, tmp_path: Path):
    _, num_seen = _extract(_some(manifest, range(59)), tmp_path)
    assert num_seen == 59
    whole, num_seen = _extract(manifest, tmp_path)
    assert num_seen == 1
    assert torch.equal(whole, _extract(manifest, tmp_path / "anew")[0])


def test_another_draw_of_cached_images_computes_none(manifest: Manifest, tmp_path: Path):
    whole, _ = _extract(manifest, tmp_path)
    some, num_seen = _extract(_some(manifest, range(7, 50, 3)), tmp_path)
    assert num_seen == 0
    assert torch.equal(some, whole[7:50:3])


def test_an_image_that_is_listed_twice_is_computed_once(manifest: Manifest, tmp_path: Path):
    first, last = manifest.samples[3], manifest.root / manifest.samples[3].path
    copy = replace(first, path="zz/copy.png", elsewhere=last)
    features, num_seen = _extract(replace(manifest, samples=(*manifest.samples[:5], copy)), tmp_path)
    assert num_seen == 5
    assert torch.equal(features[5], features[3])


def test_progress_counts_every_image_whether_cached_or_not(manifest: Manifest, tmp_path: Path):
    _extract(_some(manifest, range(30)), tmp_path)
    told: list[int] = []
    _extract(manifest, tmp_path, on_images=told.append)
    assert sum(told) == 60
    assert told[0] == 30


class _Meeting(_Mean):
    """Waits, with each of its first images, until as many threads are inside; and notes torch's threads there."""

    def __init__(self, num_threads: int) -> None:
        super().__init__()
        self.barrier, self.counts = Barrier(num_threads), list[int]()

    def forward(self, images: Tensor) -> Tensor:
        self.counts.append(torch.get_num_threads())
        if len(self.counts) <= self.barrier.parties:
            self.barrier.wait(60)
        return images.mean(dim=(2, 3))


@pytest.fixture
def three_threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield 3
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)


def test_on_a_cpu_every_thread_computes_an_image_of_its_own(manifest: Manifest, tmp_path: Path, three_threads: int):
    encoder = _Meeting(three_threads)
    features = torch.cat(list(_parts(encoder, manifest, tmp_path / "three")))
    assert set(encoder.counts) == {1}
    assert torch.equal(features, _extract(manifest, tmp_path / "one")[0])


def test_an_image_that_fails_in_a_thread_ends_all_and_leaves_torch_its_threads(
    manifest: Manifest, tmp_path: Path, three_threads: int
):
    paths = [
        Path(shutil.copy(manifest.root / sample.path, tmp_path / f"{place}.png"))
        for place, sample in enumerate(manifest.samples[:20])
    ]
    moved = [replace(sample, path=path.name) for sample, path in zip(manifest.samples, paths, strict=False)]
    paths[5].write_bytes(b"no image")
    some = replace(manifest, root=tmp_path, samples=tuple(moved))
    with pytest.raises(DataError, match=r"5\.png"):
        list(_parts(_Mean(), some, tmp_path / "three"))
    assert torch.get_num_threads() == three_threads


@pytest.mark.parametrize("content", [b"", b"no tensors", None], ids=["empty", "foreign", "cut"])
def test_a_damaged_shard_is_made_anew(manifest: Manifest, tmp_path: Path, content: bytes | None):
    first, _ = _extract(manifest, tmp_path)
    (file,) = _shards(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] if content is None else content)
    again, num_seen = _extract(manifest, tmp_path)
    assert num_seen == (1 if content is None else 60)
    assert torch.equal(again, first)
    assert _extract(manifest, tmp_path)[1] == 0


@pytest.mark.slow
def test_a_flipped_bit_anywhere_in_a_shard_changes_no_feature(manifest: Manifest, tmp_path: Path):
    few = replace(manifest, samples=manifest.samples[:3])
    first, _ = _extract(few, tmp_path)
    (file,) = _shards(tmp_path)
    whole = file.read_bytes()
    for place in range(len(whole)):
        turned = bytearray(whole)
        turned[place] ^= 1 << place % 8
        for shard in _shards(tmp_path):
            shard.unlink()
        file.write_bytes(turned)
        again, num_seen = _extract(few, tmp_path)
        assert torch.equal(again, first), place
        assert 1 <= num_seen <= 3, place
        assert _extract(few, tmp_path)[1] == 0, place


def test_a_damaged_entry_is_told_of_once_and_costs_one_image(manifest: Manifest, tmp_path: Path, caplog):
    first, _ = _extract(manifest, tmp_path)
    (file,) = _shards(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again, num_seen = _extract(manifest, tmp_path)
    assert num_seen == 1
    assert torch.equal(again, first)
    assert _extract(manifest, tmp_path)[1] == 0
    assert [record.getMessage() for record in caplog.records] == [
        f"{file} is damaged: what is damaged of it is not used but made anew."
    ]


def test_cache_files_of_earlier_versions_are_ignored(manifest: Manifest, tmp_path: Path):
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / f"{'0' * 32}.safetensors").write_bytes(b"cytolora sha256 " + b"0" * 64 + b"\n")
    assert _extract(manifest, tmp_path)[1] == 60


def test_a_file_copied_over_that_of_other_features_is_not_used(manifest: Manifest, tmp_path: Path):
    """Of another view of as many images: the shapes agree."""
    otherwise = replace(PREPROCESS, mean=(0.4, 0.5, 0.6))
    first, _ = _extract(manifest, tmp_path)
    (file,) = _shards(tmp_path)
    _extract(manifest, tmp_path, otherwise)
    (other,) = [path for path in _shards(tmp_path) if path != file]
    file.write_bytes(other.read_bytes())
    again, num_seen = _extract(manifest, tmp_path)
    assert torch.equal(again, first)
    assert num_seen == 60


def test_features_that_are_no_numbers_are_refused_and_not_kept(manifest: Manifest, tmp_path: Path, monkeypatch):
    def third_image_overflows(encoder: _Mean, images: Tensor) -> Tensor:
        encoder.num_images += len(images)
        features = images.mean(dim=(2, 3))
        return features if encoder.num_images != 3 else features + torch.inf

    monkeypatch.setattr(_Mean, "forward", third_image_overflows)
    few = replace(manifest, samples=manifest.samples[:5])
    with pytest.raises(WeightsError, match=rf"features of 1 of 5 images .* \(first {few.samples[2].path}\): the chec"):
        _extract(few, tmp_path)
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_where_features_cannot_be_kept_they_are_computed_all_the_same(
    manifest: Manifest, tmp_path: Path, monkeypatch, caplog, code: int
):
    expected, _ = _extract(manifest, tmp_path / "kept")

    def full(path: Path, content: bytes) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("cytolora.core.shards.write_bytes", full)
    monkeypatch.setattr(features_module, "_CHUNK", 25)  # three that cannot be kept
    features, num_seen = _extract(manifest, tmp_path)
    assert torch.equal(features, expected)
    assert num_seen == 60
    assert not (tmp_path / "features").exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"Cannot keep features in {tmp_path / 'features'}: {os.strerror(code)}. "
        "They are computed again whenever they are needed."
    ]


@pytest.mark.parametrize("augment", [None, AugmentSpec()], ids=["evaluation view", "random view"])
def test_frozen_features_leave_no_pixels_and_are_equal_to_those_of_kept_pixels(
    manifest: Manifest, tmp_path: Path, augment: AugmentSpec | None
):
    features, kept = _extract(manifest, tmp_path, augment=augment)[0], PixelCache(tmp_path / "b/pixels", manifest.root)
    assert not (tmp_path / "pixels").exists()
    for sample in manifest.samples:
        kept.native(sample)
    without_files = replace(manifest, root=tmp_path / "gone")  # what is kept is read
    assert torch.equal(_extract(without_files, tmp_path / "b", augment=augment)[0], features)


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
    _shards(tmp_path)[0].unlink()
    assert len(asked) == 3
    again = parts()
    assert len(asked) == 4
    assert all((old.features == new.features).all() for old, new in zip(first, again, strict=True))


def test_features_are_cached_apart_by_weights_and_view_and_shared_by_image(manifest: Manifest, tmp_path: Path):
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
    assert seen(replace(manifest, samples=manifest.samples[:8])) == 1
    assert seen(few) == seen(few, augment=AugmentSpec()) == 0


def test_an_image_too_long_and_narrow_is_named_and_not_scaled(tmp_path: Path):
    """A backbone that scales the shorter edge would need 1 TB for it."""
    for number, size in enumerate([(9, 9), (1, 3_000_000)]):
        (tmp_path / "cells" / f"{number}").mkdir(parents=True)
        Image.new("RGB", size).save(tmp_path / "cells" / f"{number}" / "a.png")
    manifest = load_manifest(tmp_path / "cells")
    with pytest.raises(DataError, match=r"1/a\.png: An image of 1 x 3000000 pixels is too long and narrow"):
        _extract(manifest, tmp_path / "cache", replace(PREPROCESS, size_px=384))


CPU = torch.device("cpu")


@pytest.fixture
def num_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """One, and several: kernels divide a batch among threads at places that depend on its size."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


PRECISIONS, THREADS = ("fp32", "bf16"), (1, 3)
IN_PAIRS = [
    pytest.param(spec, precision, threads, id=f"{spec.name}-{precision}-{threads}")
    for place, spec in enumerate(REGISTERED)
    for precision, threads in zip(PRECISIONS, THREADS if place % 2 else THREADS[::-1], strict=True)
]
"""Every encoder in each precision and with each number of threads, and these in each combination."""


@pytest.mark.parametrize(("spec", "precision", "num_threads"), IN_PAIRS, indirect=["num_threads"])
def test_features_are_equal_alone_in_any_company_and_at_any_position(spec, precision, num_threads: int):
    preprocess = shrunk(spec).preprocess
    shape = (40, 3, preprocess.size_px, preprocess.size_px)
    views = list(torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer cores than threads
        encoder = for_inference(small_encoder(spec), CPU, precision)

    def features(order: Sequence[int]) -> Tensor:
        size = batch_size(CPU)
        parts = [order[first : first + size] for first in range(0, len(order), size)]
        return torch.cat([encode(encoder, [views[index] for index in part], preprocess, CPU) for part in parts])

    expected = features(range(40))
    for alone in (0, 1, 15, 39):
        assert torch.equal(features([alone])[0], expected[alone]), alone
    for seed, size in enumerate((40, 33, 16, 7, 2)):
        order = torch.randperm(40, generator=torch.Generator().manual_seed(seed))[:size].tolist()
        assert torch.equal(features(order), expected[order]), size


def test_a_cache_below_a_file_is_told_and_computing_goes_on(manifest: Manifest, tmp_path: Path):
    (tmp_path / "features").write_text("no folder")
    features, num_seen = _extract(_some(manifest, range(5)), tmp_path)
    assert (len(features), num_seen) == (5, 5)
