"""Findings of pixels: small value range, frames, transparency, no content, profiles, classes that differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny_downloads import DOWNLOADS

from cytolora.classifier.fit.prepare import read_cells
from cytolora.config.reading import Decoding, ReadOptions
from cytolora.core.findings import Finding
from cytolora.data.datasets import DATASETS, load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.content import has_content
from cytolora.data.imaging.decode import decode
from cytolora.data.quality.audit import audit
from cytolora.errors import DataError


def cell(seed: int, shade: int = 0) -> np.ndarray:
    """A drawn cell with noise, 8-bit RGB."""
    random = np.random.default_rng(seed)
    yy, xx = np.mgrid[:40, :40]
    at = random.integers(15, 25, 2)
    pixels = np.full((40, 40, 3), 225.0)
    pixels[(xx - at[0]) ** 2 + (yy - at[1]) ** 2 < random.integers(90, 200)] = (180, 140, 190)
    pixels[(xx - at[0]) ** 2 + (yy - at[1]) ** 2 < random.integers(20, 60)] = (90, 60, 130)
    return np.clip(pixels + random.normal(0, 5, pixels.shape) - shade, 0, 255).astype(np.uint8)


def png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path.with_suffix(".png"))


def camera(bits: int, **options: Any) -> Callable[[Path, np.ndarray], None]:
    """Writes the samples of a camera of some bits into 16-bit TIFF files."""

    def write(path: Path, pixels: np.ndarray) -> None:
        deep = pixels.astype(np.uint16) << (bits - 8)
        tifffile.imwrite(path.with_suffix(".tif"), deep, photometric="rgb", **options)

    return write


def gray(write: Callable[[Path, np.ndarray], None]) -> Callable[[Path, np.ndarray], None]:
    return lambda path, pixels: write(path, pixels[..., 0])


def dataset(root: Path, *writers: Callable[[Path, np.ndarray], None], number: int = 6, shades=(0, 0)) -> Path:
    """Two classes of drawn cells, each written in its own way."""
    for place, write in enumerate(writers):
        folder = root / ("hsil", "normal")[place]
        folder.mkdir(parents=True)
        for seed in range(number):
            write(folder / f"{seed}", cell(seed + 100 * place, shades[place]))
    return root


def found(root: Path, **choices: Any) -> dict[str, Finding]:
    """Findings of pixels by code; those of groups and duplicates are left out."""
    manifest = load_manifest(root, reading=ReadOptions(decoding=Decoding(**choices)))
    return {one.code: one for one in audit(manifest).findings() if one.code.startswith("P")}


def blank(path: Path, pixels: np.ndarray) -> None:
    png(path, np.full_like(pixels, 255))


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13])
def test_a_camera_of_few_bits_in_files_of_16_is_named_with_what_is_used(tmp_path: Path, bits: int):
    root = dataset(tmp_path, camera(bits), camera(bits))
    assert found(root)["P102"].count == 12
    assert set(found(root)) == {"P102", "P103"}
    assert set(found(root, value_range="used")) == {"P103"}


def test_a_camera_that_uses_a_quarter_of_the_range_is_not_named(tmp_path: Path):
    assert set(found(dataset(tmp_path, camera(15), camera(16)))) == {"P103"}


def test_deep_colour_is_named_among_the_conversions(tmp_path: Path):
    text = found(dataset(tmp_path, camera(16), camera(16)))["P103"].text
    assert text == "Images that are not 8-bit RGB: 12 16-bit RGB, divided by 257."


def test_planar_files_are_read_right_and_named(tmp_path: Path):
    def planar(path: Path, pixels: np.ndarray) -> None:
        deep = pixels.astype(np.uint16).transpose(2, 0, 1) * 257
        tifffile.imwrite(path.with_suffix(".tif"), deep, photometric="rgb", planarconfig="separate")

    root = dataset(tmp_path, planar, planar)
    assert "planes joined" in found(root)["P103"].text
    np.testing.assert_array_equal(decode(root / "hsil" / "3.tif"), cell(3))


def test_images_of_one_colour_are_named_and_no_others(tmp_path: Path):
    root = dataset(tmp_path, png, png)
    blank(root / "normal" / "white", cell(0))
    one = found(root)["P105"]
    assert (one.count, one.examples) == (1, ("normal/white.png",))


def stack(path: Path, pixels: np.ndarray) -> None:
    planes = np.stack([np.full_like(pixels, 230), pixels, np.full_like(pixels, 225)])
    tifffile.imwrite(path.with_suffix(".tif"), planes, photometric="rgb")


def transparent(path: Path, pixels: np.ndarray) -> None:
    alpha = np.zeros((*pixels.shape[:2], 1), np.uint8)
    Image.fromarray(np.concatenate([pixels, alpha], axis=2)).save(path.with_suffix(".png"))


@pytest.mark.parametrize(
    ("write", "code", "word"), [(stack, "P104", "several frames"), (transparent, "P106", "transp")]
)
def test_what_leaves_a_choice_open_is_a_finding_of_check_and_refused_by_fit_and_run(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], code: str, word: str
):
    root = dataset(tmp_path / "cells", write, png)
    one = found(root)[code]
    assert (one.count, one.severity) == (6, "error")
    with pytest.raises(DataError, match=rf"{word}.*hsil/0"):
        read_cells(root)
    manifest = load_manifest(root)
    with pytest.raises(DataError, match=r"Cannot read .*hsil.0"):
        PixelCache(tmp_path / "cache", manifest.root, manifest.decoding).native(manifest.samples[0])


def test_a_frame_that_is_chosen_leaves_nothing_to_report_but_the_choice(tmp_path: Path):
    root = dataset(tmp_path, stack, stack)
    assert set(found(root, frame="sharpest")) == {"P103"}
    assert set(found(root, frame=0)) == {"P103", "P105"}


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (camera(12), png, "hsil: 16-bit RGB, divided by 257 (TIFF), dark"),
        (camera(16), png, "hsil: 16-bit RGB, divided by 257 (TIFF); normal: plain 8-bit RGB (PNG)"),
        (gray(png), png, "hsil: gray, repeated in three channels (PNG)"),
        (png, gray(png), "normal: gray, repeated in three channels (PNG)"),
        (camera(16), gray(png), "normal: gray"),
        (lambda path, pixels: Image.fromarray(pixels).quantize(32).save(path.with_suffix(".png")), png, "palette"),
    ],
)
def test_a_class_that_was_recorded_in_another_way_is_named(tmp_path: Path, first, second, words: str):
    assert words in found(dataset(tmp_path, first, second))["P109"].text


def test_a_class_that_is_dark_while_the_other_is_not_is_named(tmp_path: Path):
    one = found(dataset(tmp_path, png, png, shades=(175, 0)))["P109"]
    assert one.examples[0].startswith("hsil: dark (mean ")
    assert one.count == 1


@pytest.mark.parametrize("shades", [(0, 0), (60, 0), (0, 90), (175, 175)])
def test_classes_of_other_brightness_within_reason_are_not_named(tmp_path: Path, shades: tuple[int, int]):
    assert found(dataset(tmp_path, png, png, shades=shades)) == {}


def test_other_formats_of_the_same_pixels_are_not_named(tmp_path: Path):
    def bmp(path: Path, pixels: np.ndarray) -> None:
        Image.fromarray(pixels).save(path.with_suffix(".bmp"))

    assert found(dataset(tmp_path, png, bmp)) == {}


def test_two_images_of_a_class_are_no_evidence(tmp_path: Path):
    assert "P109" not in found(dataset(tmp_path, gray(png), png, number=2))


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
def test_official_downloads_have_no_finding_of_pixels(tmp_path: Path, name: str):
    DOWNLOADS[name].make(tmp_path)
    assert not [one for one in audit(load_manifest(tmp_path, name)).findings() if one.code.startswith("P")]


NOISE = np.random.default_rng(0)
BLANK = {
    "white": np.full((60, 50, 3), 255, np.uint8),
    "black": np.zeros((60, 50, 3), np.uint8),
    "a colour": np.full((60, 50, 3), (200, 30, 90), np.uint8),
    "sensor noise": np.clip(NOISE.normal(235, 2.5, (60, 50, 3)), 0, 255).astype(np.uint8),
    "two levels": NOISE.integers(253, 256, (60, 50, 3)).astype(np.uint8),
    "one dead pixel": np.pad(np.zeros((1, 1, 3), np.uint8), ((20, 39), (20, 29), (0, 0)), constant_values=250),
    "one pixel alone": np.full((1, 1, 3), 9, np.uint8),
    "uneven light": np.repeat(np.linspace(238, 250, 3000).reshape(60, 50, 1), 3, axis=2).astype(np.uint8),
}


@pytest.mark.parametrize("name", BLANK)
@pytest.mark.parametrize("quality", [None, 30, 90])
def test_one_colour_is_no_content_also_after_jpeg(name: str, quality: int | None, tmp_path: Path):
    pixels = BLANK[name]
    if quality is not None and name == "one dead pixel":
        pytest.skip("JPEG spreads it over 64 pixels: an edge like any other")
    if quality is not None:
        Image.fromarray(pixels).save(tmp_path / "blank.jpg", quality=quality)
        pixels = decode(tmp_path / "blank.jpg")
    assert not has_content(pixels)


@pytest.mark.parametrize("contrast", [0.25, 0.5, 1.0])
def test_pale_and_small_cells_are_content(contrast: float):
    for seed in range(40):
        pale = 225 - (225 - cell(seed).astype(float)) * contrast
        assert has_content(pale.astype(np.uint8))
        framed = np.pad(pale.astype(np.uint8), ((30, 30), (30, 30), (0, 0)), constant_values=225)
        assert has_content(framed)


@pytest.mark.slow
def test_the_real_herlev_has_no_finding_of_pixels(herlev_dir: Path):
    manifest = load_manifest(herlev_dir, "herlev")
    assert {one.code for one in audit(manifest).findings()} & {f"P{code}" for code in range(101, 110)} == set()
    assert manifest.changed_pixels() == []


def test_every_reader_of_the_registry_was_looked_at():
    assert set(DOWNLOADS) <= {spec.name for spec in DATASETS}
