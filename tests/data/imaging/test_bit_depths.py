"""Bit depth and type of samples: what is said of a conversion, or of a refusal, is what the file holds."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.decode import Decoded, decode_image
from cytolora.data.imaging.marks import changed_rule
from cytolora.data.imaging.pixels import DecodeError
from cytolora.data.quality.audit import audit
from cytolora.training.embed import unlabelled


def written(values: np.ndarray, **options: Any) -> io.BytesIO:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    buffer.seek(0)
    return buffer


def read(values: np.ndarray, **options: Any) -> Decoded:
    return decode_image(written(values, **options), "cell")


def levels(top: int, dtype: str, *samples: int) -> np.ndarray:
    """Values from 0 to ``top`` in equal steps."""
    values = np.linspace(0, top, 12 * 16).reshape(12, 16, *[1] * len(samples))
    return np.broadcast_to(values, (12, 16, *samples)).round().astype(dtype)


def scaled(values: np.ndarray, top: int) -> np.ndarray:
    eight = np.floor(values.astype(float) * 255 / top + 0.5).astype(np.uint8)
    return eight if eight.ndim == 3 else np.repeat(eight[:, :, None], 3, axis=2)


READ: dict[str, tuple[np.ndarray, dict[str, Any], int, str]] = {
    "bool": (levels(1, "bool"), {}, 1, "black and white, repeated in three channels"),
    "uint8": (levels(255, "uint8"), {}, 255, "gray, repeated in three channels"),
    "uint8 RGB": (levels(255, "uint8", 3), {"photometric": "rgb"}, 255, ""),
    "int8": (levels(127, "int8"), {}, 127, "signed 8-bit gray, 0 to 127 scaled to 0 to 255 and repeated"),
    "10 bits packed": (levels(1023, "uint16"), {"bitspersample": 10}, 1023, "10-bit gray, 0 to 1,023 scaled"),
    "12 bits packed": (levels(4095, "uint16"), {"bitspersample": 12}, 4095, "12-bit gray, 0 to 4,095 scaled"),
    "uint16": (levels(65535, "uint16"), {}, 65535, "16-bit gray, divided by 257"),
    "uint16 RGB": (levels(65535, "uint16", 3), {"photometric": "rgb"}, 65535, "16-bit RGB, divided by 257"),
    "int16": (levels(32767, "int16"), {}, 32767, "signed 16-bit gray, 0 to 32,767 scaled"),
    "uint32": (levels(65535, "uint32"), {}, 65535, "32-bit gray, divided by 257"),
    "uint32 RGB": (levels(65535, "uint32", 3), {"photometric": "rgb"}, 65535, "32-bit RGB, divided by 257"),
    "int32": (levels(65535, "int32"), {}, 65535, "signed 32-bit gray, divided by 257"),
    "uint64": (levels(65535, "uint64"), {}, 65535, "64-bit gray, divided by 257"),
}
"""Samples, how they are written, which becomes white, and what is said."""


@pytest.mark.parametrize("name", READ)
def test_the_conversion_names_the_bit_depth_of_the_file(name: str):
    values, options, top, words = READ[name]
    decoded = read(values, **{"photometric": "minisblack", **options})
    np.testing.assert_array_equal(decoded.pixels, scaled(values, top))
    assert decoded.conversion.startswith(words)
    assert bool(decoded.conversion) == bool(words)


REFUSED: dict[str, tuple[np.ndarray, str]] = {
    "uint32": (levels(2**31, "uint32"), r"32-bit pixels have no fixed range, and values up to 2,147,483,648 are more"),
    "int32": (levels(70_000, "int32"), r"32-bit pixels have no fixed range, and values up to 70,000 are more"),
    "uint64": (levels(2**40, "uint64"), r"64-bit pixels have no fixed range"),
    "float16": (levels(1, "float16"), r"16-bit floating-point pixels have no fixed range"),
    "float32": (levels(1, "float32"), r"32-bit floating-point pixels have no fixed range"),
    "float64": (levels(1, "float64"), r"64-bit floating-point pixels have no fixed range"),
    "complex64": (levels(1, "complex64"), r"64-bit complex floating-point pixels have no fixed range"),
    "negative int16": (levels(9, "int16") - 5, r"signed samples down to -5"),
    "negative int32": (levels(9, "int32") - 5, r"signed samples down to -5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_bit_depth_of_the_file(name: str):
    values, words = REFUSED[name]
    with pytest.raises(DecodeError, match=words):
        read(values, photometric="minisblack")


@pytest.mark.parametrize(("dtype", "top"), [("int32", 65535), ("uint32", 65535), ("uint16", 65535)])
def test_marks_of_deep_images_are_those_of_before(tmp_path: Path, dtype: str, top: int):
    """They are part of stored fingerprints: gray has none, for version 1 read it so, and colour is named 16-bit."""
    gray, colour = tmp_path / "gray.tif", tmp_path / "colour.tif"
    gray.write_bytes(written(levels(top, dtype), photometric="minisblack").getvalue())
    colour.write_bytes(written(levels(top, dtype, 3), photometric="rgb").getvalue())
    assert changed_rule(gray, STANDARD) == ""
    assert changed_rule(colour, STANDARD) == f"{'signed ' * (dtype == 'int32')}16-bit RGB, divided by 257"


def test_a_32_bit_picture_of_pillow_is_named_as_such():
    with pytest.raises(DecodeError, match=r"32-bit floating-point"):
        decode_image(_saved(Image.fromarray(levels(1, "float32"))), "cell")


def _saved(image: Image.Image) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF")
    return buffer


@pytest.mark.parametrize("bits", [9, 10, 11, 12, 13])
def test_nearly_black_images_are_named_by_every_reader_of_a_dataset_and_once_by_check(bits: int, tmp_path: Path):
    for label in ("hsil", "nilm"):
        (tmp_path / label).mkdir()
        for number in range(3):
            values = np.random.default_rng([number, bits, len(label)]).integers(0, 2**bits, (24, 24), np.uint16)
            tifffile.imwrite(tmp_path / label / f"{number}.tif", values)
    names = tuple(f"{label}/{number}.tif" for label in ("hsil", "nilm") for number in range(3))
    manifest = load_manifest(tmp_path)
    for findings in (manifest.findings, unlabelled(tmp_path).findings, audit(manifest).findings()):
        (one,) = [one for one in findings if one.code == "P102"]
        assert (one.count, one.examples) == (6, names)
        assert str(one).startswith(f"6 images use at most {(2**bits - 1) / 65535:.1%} of the values")


def test_a_range_that_was_chosen_and_images_of_8_bits_are_not_called_nearly_black(tmp_path: Path):
    (tmp_path / "hsil").mkdir()
    tifffile.imwrite(tmp_path / "hsil" / "1.tif", np.arange(400, dtype=np.uint16).reshape(20, 20))
    Image.new("L", (20, 20), 9).save(tmp_path / "hsil" / "2.png")
    for used in (True, False):
        decoding = Decoding(value_range="used") if used else STANDARD
        found = unlabelled(tmp_path, decoding).findings
        assert [(one.code, one.examples) for one in found] == ([] if used else [("P102", ("hsil/1.tif",))])
