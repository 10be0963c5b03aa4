"""Versions of the pixel rules: what was read before is read the same, and what changed says so."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.config.reading import DECODE_VERSION, VERSION_1, Decoding, ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import decode, decode_image, pixel_sha256
from cytolora.errors import ConfigError, DataError


def noise(*shape: int, dtype: str = "uint8", top: int = 256, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


RGB = Image.fromarray(noise(24, 31, 3))
VARIANTS = {
    "png": (RGB, {}),
    "png gray": (RGB.convert("L"), {}),
    "png palette": (RGB.quantize(16), {}),
    "png palette transparent": (RGB.quantize(16), {"transparency": 3}),
    "png bilevel": (RGB.convert("1"), {}),
    "png alpha": (Image.fromarray(noise(24, 31, 4)), {}),
    "png gray alpha": (RGB.convert("LA"), {}),
    "png gray 16": (Image.fromarray(noise(24, 31, dtype="uint16", top=65536)), {}),
    "bmp": (RGB, {}),
    "bmp palette": (RGB.quantize(16), {}),
    "tiff": (RGB, {}),
    "tiff lzw": (RGB, {"compression": "tiff_lzw"}),
    "tiff deflate": (RGB, {"compression": "tiff_adobe_deflate"}),
    "tiff gray": (RGB.convert("L"), {}),
    "tiff bilevel": (RGB.convert("1"), {"compression": "group4"}),
    "tiff cmyk": (RGB.convert("CMYK"), {}),
    "tiff palette": (RGB.quantize(16), {}),
    "tiff alpha": (Image.fromarray(noise(24, 31, 4)), {}),
    "tiff gray 16": (Image.fromarray(noise(24, 31, dtype="uint16", top=65536)), {}),
    "webp lossless": (RGB, {"lossless": True}),
}
PINNED = {
    "png": "b35e71c259064e55",
    "png gray": "a9b2a37b4a7943a8",
    "png palette": "a6be9a134ebe04e3",
    "png palette transparent": "9c39482b6f166c32",
    "png bilevel": "7f6dbbb303708b7a",
    "png alpha": "cea6300b82cdd5c8",
    "png gray alpha": "a9b2a37b4a7943a8",
    "png gray 16": "1df8ab410503e521",
    "bmp": "b35e71c259064e55",
    "bmp palette": "a6be9a134ebe04e3",
    "tiff": "b35e71c259064e55",
    "tiff lzw": "b35e71c259064e55",
    "tiff deflate": "b35e71c259064e55",
    "tiff gray": "a9b2a37b4a7943a8",
    "tiff bilevel": "7f6dbbb303708b7a",
    "tiff cmyk": "b35e71c259064e55",
    "tiff palette": "a6be9a134ebe04e3",
    "tiff alpha": "cea6300b82cdd5c8",
    "tiff gray 16": "1df8ab410503e521",
    "webp lossless": "b35e71c259064e55",
}
"""First 16 digits of the pixels' SHA-256, computed before there were versions."""


def content(name: str) -> bytes:
    image, options = VARIANTS[name]
    buffer = io.BytesIO()
    image.save(buffer, format=name.split()[0].upper(), **options)
    return buffer.getvalue()


@pytest.mark.parametrize("name", VARIANTS)
def test_plain_files_decode_to_the_pixels_of_before(name: str, tmp_path: Path):
    assert pixel_sha256(decode(io.BytesIO(content(name)), name))[:16] == PINNED[name]
    assert pixel_sha256(decode(io.BytesIO(content(name)), name, decoding=VERSION_1))[:16] == PINNED[name]
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / f"cell.{name.split()[0]}").write_bytes(content(name))
    (sample,) = load_manifest(tmp_path).samples
    assert (sample.pixel_rules, sample.pixels_key) == ("", sample.sha256)


@pytest.mark.parametrize("name", ["jpeg", "webp"])
def test_lossy_files_decode_as_pillow_decodes_them(name: str):
    buffer = io.BytesIO()
    RGB.save(buffer, format=name)
    expected = np.array(Image.open(buffer).convert("RGB"))
    np.testing.assert_array_equal(decode(io.BytesIO(buffer.getvalue()), name), expected)
    np.testing.assert_array_equal(decode(io.BytesIO(buffer.getvalue()), name, decoding=VERSION_1), expected)


def stack(folder: Path, *names: str) -> Path:
    """Class folders with one plain BMP and some three-plane TIFF files."""
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    Image.fromarray(noise(9, 8, 3)).save(folder / "a" / "plain.bmp")
    Image.fromarray(noise(9, 8, 3, seed=1)).save(folder / "b" / "plain.bmp")
    for place, name in enumerate(names):
        tifffile.imwrite(folder / "a" / name, noise(3, 9, 8, 3, seed=2 + place), photometric="rgb")
    return folder


def test_a_folder_on_which_no_rule_acts_keeps_its_fingerprint_whatever_is_chosen(tmp_path: Path):
    """Pinned: computed before there were rules."""
    plain = "ad54d18fbd1ad1ed00734f08fa353b03702b5a892b51db6a15ebc0c250be26f6"
    cells = stack(tmp_path / "cells")
    for decoding in (Decoding(), Decoding(frame="max"), Decoding(value_range="used"), Decoding(icc="srgb")):
        manifest = load_manifest(cells, reading=ReadOptions(decoding=decoding))
        assert (manifest.fingerprint, manifest.changed_pixels()) == (plain, [])


def test_images_that_changed_rules_read_are_marked_by_the_name_of_the_rule(tmp_path: Path):
    cells = stack(tmp_path / "cells", "stack.tif")
    found = {
        frame: load_manifest(cells, reading=ReadOptions(decoding=Decoding(frame=frame)))
        for frame in (None, 0, 1, "middle", "max")
    }
    marks = {frame: one.changed_pixels() for frame, one in found.items()}
    assert marks == {
        None: ["1 image: several-frames"],
        0: [],  # the first frame is what was read before
        1: ["1 image: number 1 of 3 frames"],
        "middle": ["1 image: middle of 3 frames"],
        "max": ["1 image: maximum of 3 frames"],
    }
    assert len({one.fingerprint for one in found.values()}) == 5
    assert len({one.fingerprint_before for one in found.values()}) == 1
    assert found[0].fingerprint == found[0].fingerprint_before


def test_a_cache_of_pixels_does_not_mix_frames(tmp_path: Path):
    cells = stack(tmp_path / "cells", "stack.tif")
    planes = noise(3, 9, 8, 3, seed=2)
    for frame in (0, 2, 1):
        manifest = load_manifest(cells, reading=ReadOptions(decoding=Decoding(frame=frame)))
        (sample,) = (one for one in manifest.samples if one.path.endswith("tif"))
        cache = PixelCache(tmp_path / "cache", manifest.root, manifest.decoding)
        np.testing.assert_array_equal(cache.native(sample), planes[frame])


def test_version_1_reads_the_first_frame_and_the_upper_bits(tmp_path: Path):
    planes = noise(3, 9, 8, 3)
    tifffile.imwrite(tmp_path / "stack.tif", planes, photometric="rgb")
    np.testing.assert_array_equal(decode(tmp_path / "stack.tif", decoding=VERSION_1), planes[0])
    deep = noise(9, 8, 3, dtype="uint16", top=65536)
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    np.testing.assert_array_equal(decode(tmp_path / "deep.tif", decoding=VERSION_1), deep >> 8)
    np.testing.assert_array_equal(decode(tmp_path / "deep.tif"), (deep.astype(int) + 128) // 257)


def test_used_is_one_range_for_a_dataset_and_kept_as_a_number(tmp_path: Path):
    for place, top in enumerate((4000, 900)):
        (tmp_path / "ab"[place]).mkdir()
        values = noise(9, 8, dtype="uint16", top=top, seed=place)
        tifffile.imwrite(tmp_path / "ab"[place] / "cell.tif", values, photometric="minisblack")
    manifest = load_manifest(tmp_path, reading=ReadOptions(decoding=Decoding(value_range="used")))
    assert manifest.decoding == Decoding(value_range=4095)
    pixels = decode(tmp_path / "b" / "cell.tif", decoding=manifest.decoding)
    values = noise(9, 8, dtype="uint16", top=900, seed=1).astype(int)
    np.testing.assert_array_equal(pixels[..., 0], (values * 255 + 2047) // 4095)  # not stretched for itself


def test_an_image_above_the_range_that_was_chosen_is_refused(tmp_path: Path):
    tifffile.imwrite(tmp_path / "cell.tif", np.full((4, 4), 4096, np.uint16), photometric="minisblack")
    with pytest.raises(DataError, match="values up to 4,096, above the value range of 0 to 4,095"):
        decode(tmp_path / "cell.tif", decoding=Decoding(value_range=4095))


@pytest.mark.parametrize(
    "choice",
    [{"frame": -1}, {"frame": "last"}, {"frame": True}, {"icc": "adobe"}, {"value_range": 12}, {"value_range": "auto"}],
)
def test_a_choice_that_there_is_not_is_refused(choice: dict):
    with pytest.raises(ConfigError, match=next(iter(choice))):
        Decoding(**choice)


def test_rules_of_a_later_version_are_refused():
    with pytest.raises(ConfigError, match=f"rules of version {DECODE_VERSION + 1}"):
        Decoding(version=DECODE_VERSION + 1)


def test_plain_images_have_no_conversion():
    assert [decode_image(io.BytesIO(content(name)), name).conversions for name in ("png", "bmp", "tiff")] == [()] * 3
