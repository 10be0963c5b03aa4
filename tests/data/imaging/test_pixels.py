"""The cache of decoded images: equal pixels, kept whole or not at all, made anew when damaged."""

import errno
import io
import multiprocessing
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytolora.config.run import Preprocess
from cytolora.core.cache_damage import one_notice
from cytolora.core.cache_entries import entries
from cytolora.core.cache_folder import set_limit
from cytolora.data.imaging.cache import MAX_PIXELS, PixelCache
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.views import evaluation_view, kept_evaluation_view
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import DataError

SIZES = [(7, 5), (90, 70), (300, 224), (1500, 1100)]
"""The last one is beyond the bound."""
PREPROCESS = Preprocess(size_px=16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Four photographs of noise, of different sizes and formats."""
    root = tmp_path_factory.mktemp("cells")
    samples = []
    for number, (size, suffix) in enumerate(zip(SIZES, ("png", "bmp", "jpg", "png"), strict=True)):
        noise = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(root / f"{number}.{suffix}")
        samples.append(Sample(path=f"{number}.{suffix}", label="a"))
    return Manifest(name="noise", root=root, classes=("a",), samples=tuple(samples)).with_hashes()


def kept_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_second_cache_reads_equal_read_only_pixels_without_the_images(cells: Manifest, tmp_path: Path):
    first = PixelCache(tmp_path, cells.root)
    originals = [first.native(sample) for sample in cells.samples]
    second = PixelCache(tmp_path, Path("nowhere"))
    for sample, original in zip(cells.samples, originals, strict=True):
        again = second.native(sample)
        np.testing.assert_array_equal(again, original)
        assert not again.flags.writeable
        assert not original.flags.writeable


def test_images_up_to_the_bound_keep_their_own_pixels_and_larger_ones_are_reduced(cells: Manifest, tmp_path: Path):
    cache = PixelCache(tmp_path, cells.root)
    for sample in cells.samples[:3]:
        np.testing.assert_array_equal(cache.native(sample), decode(cells.root / sample.path))
    height, width, _ = cache.native(cells.samples[3]).shape
    assert 0.99 * MAX_PIXELS < height * width <= MAX_PIXELS
    assert width / height == pytest.approx(1500 / 1100, rel=0.01)


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_sees_the_very_pixels_that_it_would_see_without_a_cache(
    cells: Manifest, tmp_path: Path, resize, interpolation
):
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocess = Preprocess(size_px=56, mean=zeros, std=ones, resize=resize, interpolation=interpolation)
    for _ in range(2):  # made, then read
        cache = PixelCache(tmp_path, cells.root)
        for sample in cells.samples:
            bare = evaluation_view(decode(cells.root / sample.path), preprocess)
            assert (kept_evaluation_view(cache, sample, preprocess) == bare).all()
            np.testing.assert_array_equal(cache.whole(sample), decode(cells.root / sample.path))


def test_two_preprocessings_do_not_share_a_view(cells: Manifest, tmp_path: Path):
    cache = PixelCache(tmp_path, cells.root)
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    for size_px in (16, 32):
        preprocess = Preprocess(size_px=size_px, mean=zeros, std=ones)
        assert kept_evaluation_view(cache, cells.samples[0], preprocess).shape == (3, size_px, size_px)


def test_equal_files_are_kept_once(cells: Manifest, tmp_path: Path):
    root = tmp_path / "copies"
    root.mkdir()
    for name in ("x.png", "y.png"):
        (root / name).write_bytes((cells.root / "0.png").read_bytes())
    samples = tuple(Sample(path=name, label="a") for name in ("x.png", "y.png"))
    copies = Manifest(name="copies", root=root, classes=("a",), samples=samples).with_hashes()
    cache = PixelCache(tmp_path / "cache", root)
    for sample in copies.samples:
        cache.native(sample)
    assert len(kept_files(tmp_path / "cache")) == 1


def damage(content: bytes) -> list[bytes]:
    """Empty, cut within the header, cut within the pixels, longer, one bit turned in header or pixels."""
    turned = [bytearray(content) for _ in range(3)]
    for copy, place in zip(turned, (0, 9, len(content) - 1), strict=True):
        copy[place] ^= 1
    return [b"", content[:10], content[:-1], content + b"x", *map(bytes, turned)]


@pytest.mark.parametrize("case", range(7))
def test_a_damaged_file_is_noticed_and_made_anew(cells: Manifest, tmp_path: Path, case: int):
    sample = cells.samples[0]
    PixelCache(tmp_path, cells.root).native(sample)
    (file,) = kept_files(tmp_path)
    content = file.read_bytes()
    file.write_bytes(damage(content)[case])
    np.testing.assert_array_equal(PixelCache(tmp_path, cells.root).native(sample), decode(cells.root / sample.path))
    assert file.read_bytes() == content


@pytest.mark.parametrize("case", range(7))
def test_a_damaged_file_is_told_of_once_though_nothing_is_kept_in_its_place(
    cells: Manifest, tmp_path: Path, caplog, case: int
):
    sample = cells.samples[0]
    PixelCache(tmp_path, cells.root).native(sample)
    (file,) = kept_files(tmp_path)
    file.write_bytes(damage(file.read_bytes())[case])
    for _ in range(2):
        np.testing.assert_array_equal(PixelCache(tmp_path, cells.root).whole(sample), decode(cells.root / sample.path))
    assert len(caplog.records) == 1
    assert kept_files(tmp_path) == []


def test_damaged_images_are_told_of_in_one_line_with_their_number(cells: Manifest, tmp_path: Path, caplog):
    cache = PixelCache(tmp_path / "pixels", cells.root)
    for sample in cells.samples:
        cache.native(sample)
    for case, file in enumerate(kept_files(tmp_path)):
        file.write_bytes(damage(file.read_bytes())[case])
    with one_notice():
        again = PixelCache(tmp_path / "pixels", cells.root)
        for sample in cells.samples:
            np.testing.assert_array_equal(again.whole(sample), decode(cells.root / sample.path))
    (record,) = caplog.records
    assert record.getMessage().startswith(f"4 entries of {tmp_path / 'pixels'} are damaged")


def test_images_removed_to_make_room_are_decoded_again_without_a_word(cells: Manifest, tmp_path: Path, caplog):
    cache = PixelCache(tmp_path / "pixels", cells.root)
    set_limit(tmp_path, 100_000)
    for sample in cells.samples[:3] * 2:
        np.testing.assert_array_equal(cache.native(sample), decode(cells.root / sample.path))
    assert sum(entry.num_bytes for entry in entries(tmp_path)) <= 100_000
    assert not caplog.records


def test_the_file_of_another_image_is_not_taken_for_this_ones(cells: Manifest, tmp_path: Path):
    sample, other = cells.samples[:2]
    PixelCache(tmp_path, cells.root).native(sample)
    (file,) = kept_files(tmp_path)
    PixelCache(tmp_path, cells.root).native(other)
    (another,) = [path for path in kept_files(tmp_path) if path != file]
    file.write_bytes(another.read_bytes())
    np.testing.assert_array_equal(PixelCache(tmp_path, cells.root).native(sample), decode(cells.root / sample.path))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_costs_no_image_and_leaves_no_half_cache(
    cells: Manifest, tmp_path: Path, monkeypatch, caplog, code
):
    cache = PixelCache(tmp_path, cells.root)
    cache.native(cells.samples[0])
    before = kept_files(tmp_path)

    class FullDisk(io.FileIO):
        def write(self, content) -> int:
            super().write(content[: len(content) // 2])
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr("cytolora.core.files.open", FullDisk, raising=False)
        for sample in cells.samples[1:3] * 2:
            np.testing.assert_array_equal(cache.native(sample), decode(cells.root / sample.path))
            assert kept_evaluation_view(cache, sample, PREPROCESS).shape == (3, 16, 16)
    assert [record.getMessage() for record in caplog.records] == [
        f"Cannot keep decoded images in {tmp_path}: {os.strerror(code)}. They are decoded whenever they are needed."
    ]
    assert kept_files(tmp_path) == before
    np.testing.assert_array_equal(cache.native(cells.samples[1]), decode(cells.root / cells.samples[1].path))
    assert len(kept_files(tmp_path)) == 2


@pytest.mark.parametrize("folder", ["file", "file/below", "read-only"])
def test_where_no_folder_can_be_made_images_are_decoded_all_the_same(
    cells: Manifest, tmp_path: Path, monkeypatch, caplog, folder: str
):
    (tmp_path / "file").write_text("of the user's")
    if folder == "read-only":  # whoever runs the tests may be root, who writes everywhere

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr("cytolora.data.imaging.cache.write_bytes", refuse)
    cache = PixelCache(tmp_path / folder, cells.root)
    for sample in cells.samples[:3]:
        np.testing.assert_array_equal(cache.native(sample), decode(cells.root / sample.path))
        np.testing.assert_array_equal(cache.whole(sample), decode(cells.root / sample.path))
    assert len(caplog.records) == 1
    assert (tmp_path / "file").read_text() == "of the user's"


def test_what_is_seen_once_is_not_kept_and_what_is_seen_in_every_epoch_is(cells: Manifest, tmp_path: Path):
    cache = PixelCache(tmp_path, cells.root)
    for sample in cells.samples:
        cache.whole(sample)
        cache.native(sample, keep=False)
    assert kept_files(tmp_path) == []
    kept_evaluation_view(cache, cells.samples[1], PREPROCESS)
    assert [path.parent.parent.name == "native" for path in kept_files(tmp_path)] == [False]  # the view alone
    cache.native(cells.samples[0])
    assert len(kept_files(tmp_path)) == 2


def test_an_unkept_image_for_training_crops_is_the_one_that_would_be_kept(cells: Manifest, tmp_path: Path):
    for sample in cells.samples:
        kept = PixelCache(tmp_path / "kept", cells.root).native(sample)
        unkept = PixelCache(tmp_path / "unkept", cells.root).native(sample, keep=False)
        np.testing.assert_array_equal(unkept, kept)
        assert not unkept.flags.writeable


@pytest.fixture
def decodes(monkeypatch) -> list[str]:
    """Names of the images that a cache decodes."""
    names: list[str] = []

    def counted(source: object, name: str = "", **choices: Any) -> np.ndarray:
        names.append(Path(name).name)
        return decode(source, name, **choices)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr("cytolora.data.imaging.cache.decode", counted)
    return names


@pytest.mark.parametrize("ask", [PixelCache.whole, PixelCache.native])
def test_an_image_that_was_looked_at_is_not_decoded_again_and_given_up_when_it_is_asked_for(
    cells: Manifest, tmp_path: Path, decodes: list[str], ask
):
    cache, sample = PixelCache(tmp_path, cells.root), cells.samples[1]
    pixels = decode(cells.root / sample.path)
    alive = weakref.ref(pixels)
    cache.hold(sample, pixels)
    del pixels
    np.testing.assert_array_equal(ask(cache, sample), decode(cells.root / sample.path))
    assert decodes == []
    assert alive() is None
    cache.whole(sample)
    assert decodes == (["1.bmp"] if ask is PixelCache.whole else [])  # of native it reads what was kept


def test_images_are_held_up_to_the_bound_and_the_others_decoded_again(
    cells: Manifest, tmp_path: Path, decodes: list[str], monkeypatch
):
    images = {sample: decode(cells.root / sample.path) for sample in cells.samples}
    monkeypatch.setattr(
        "cytolora.data.imaging.cache.HELD_BYTES", sum(images[sample].nbytes for sample in cells.samples[:2])
    )
    cache = PixelCache(tmp_path, cells.root)
    for _ in range(2):  # held twice is held once
        for sample, pixels in images.items():
            cache.hold(sample, pixels)
    for sample, pixels in images.items():
        np.testing.assert_array_equal(cache.whole(sample), pixels)
    assert decodes == ["2.jpg", "3.png"]
    cache.hold(cells.samples[0], images[cells.samples[0]])  # there is room again
    cache.whole(cells.samples[0])
    assert decodes == ["2.jpg", "3.png"]


def _fill(folder: Path, cells: Manifest) -> None:
    cache = PixelCache(folder, cells.root)
    expected = {sample.path: PixelCache(folder / "alone", cells.root).native(sample) for sample in cells.samples}
    for sample in cells.samples * 5:
        path = next((one for one in kept_files(folder) if not one.name.startswith(".")), None)
        if path is not None:  # no file that the other process is writing
            path.unlink(missing_ok=True)  # so that there is something to write all the time
        if not np.array_equal(cache.native(sample), expected[sample.path]):
            sys.exit(1)


@pytest.mark.slow
def test_two_processes_may_fill_it_at_once(cells: Manifest, tmp_path: Path):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_fill, args=(tmp_path, cells)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert not [path for path in kept_files(tmp_path) if path.name.startswith(".")]


def test_a_file_that_changed_since_it_was_hashed_is_refused_and_not_kept(cells: Manifest, tmp_path: Path):
    root = tmp_path / "cells"
    root.mkdir()
    (root / "0.png").write_bytes((cells.root / "0.png").read_bytes())
    Image.new("RGB", (3, 3)).save(root / "0.png")
    with pytest.raises(DataError, match=r"0\.png has changed since the dataset was read"):
        PixelCache(tmp_path / "cache", root).native(cells.samples[0])
    assert kept_files(tmp_path / "cache") == []


def test_an_image_that_is_none_is_named_by_its_path(tmp_path: Path):
    (tmp_path / "text.png").write_text("no image")
    samples = (Sample(path="text.png", label="a"),)
    manifest = Manifest(name="text", root=tmp_path, classes=("a",), samples=samples).with_hashes()
    with pytest.raises(DataError, match=r"Cannot read .*text\.png as an image: none of PNG"):
        PixelCache(tmp_path / "cache", tmp_path).native(manifest.samples[0])


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted in /proc")
def test_no_file_stays_open_after_its_image_is_given_up(cells: Manifest, tmp_path: Path):
    """A mapped file holds a descriptor, of which a process has about a thousand."""
    cache = PixelCache(tmp_path, cells.root)
    cache.native(cells.samples[0])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        cache.native(cells.samples[0])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
