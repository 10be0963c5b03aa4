"""Files to pixels: every kind of image ends as upright 8-bit RGB, or as a named error."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolora.data.imaging.decode import decode, decode_image
from cytolora.errors import DataError


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "BMP"])
def test_lossless_formats_give_the_very_pixels(tmp_path: Path, rgb: np.ndarray, suffix: str):
    path = tmp_path / f"cell.{suffix}"
    Image.fromarray(rgb).save(path)
    decoded = decode_image(path)
    pixels, conversion = decoded.pixels, decoded.conversion
    assert pixels.dtype == np.uint8
    assert conversion == ""
    np.testing.assert_array_equal(pixels, rgb)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_formats_keep_the_shape(tmp_path: Path, rgb: np.ndarray, suffix: str):
    Image.fromarray(rgb).save(tmp_path / f"cell.{suffix}")
    assert decode(tmp_path / f"cell.{suffix}").shape == (5, 7, 3)


def test_transparent_pixels_lie_on_white(tmp_path: Path):
    values = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(values, "RGBA").save(tmp_path / "alpha.png")
    decoded = decode_image(tmp_path / "alpha.png")
    pixels, conversion = decoded.pixels, decoded.conversion
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    assert conversion == "transparency, laid on white"


@pytest.mark.parametrize(("suffix", "byte_order"), [("png", ">"), ("tif", "<")])
def test_sixteen_bits_become_eight(tmp_path: Path, suffix: str, byte_order: str):
    values = np.array([[0, 257, 32896, 65535]], dtype=f"{byte_order}u2").astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    decoded = decode_image(tmp_path / f"deep.{suffix}")
    pixels, conversion = decoded.pixels, decoded.conversion
    assert pixels[0, :, 0].tolist() == [0, 1, 128, 255]
    assert pixels.shape == (1, 4, 3)
    assert "16-bit" in conversion


@pytest.mark.parametrize(
    ("mode", "word"), [("L", "gray"), ("1", "black and white"), ("P", "palette"), ("CMYK", "CMYK")]
)
def test_other_modes_become_rgb_and_say_so(tmp_path: Path, mode: str, word: str):
    Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode).save(tmp_path / "cell.tif")
    decoded = decode_image(tmp_path / "cell.tif")
    pixels, conversion = decoded.pixels, decoded.conversion
    assert pixels.shape == (2, 3, 3)
    assert pixels.min() >= 254
    assert word in conversion


def test_floating_point_pixels_are_refused(tmp_path: Path):
    Image.new("F", (3, 2), 0.5).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match="no fixed range"):
        decode(tmp_path / "float.tif")


def test_the_camera_orientation_is_applied(tmp_path: Path, rgb: np.ndarray):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise by 90 degrees
    Image.fromarray(rgb).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(decode(tmp_path / "turned.png"), np.rot90(rgb, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, rgb: np.ndarray, suffix: str):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.tile(rgb, (20, 20, 1))).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=rf"Cannot read .*cut\.{suffix} as an image: .*cytolora check DATA"):
        decode(path)


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"GIF89a\x01\x00\x01\x00"])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "no.png").write_bytes(content)
    with pytest.raises(DataError, match=r"none of PNG, JPEG, BMP, TIFF, WebP|it is empty|it is GIF inside"):
        decode(tmp_path / "no.png")


def test_readers_of_other_formats_stay_shut(tmp_path: Path):
    Image.new("RGB", (2, 2)).save(tmp_path / "script.png", format="EPS")
    with pytest.raises(DataError, match="none of PNG"):
        decode(tmp_path / "script.png")


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="No such file"):
        decode(tmp_path / "no.png")


def bomb(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 9_000)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, size: tuple[int, int]):
    (tmp_path / "bomb.png").write_bytes(bomb(*size))
    with pytest.raises(DataError, match=r"bomb\.png as an image: .*89,478,485"):
        decode(tmp_path / "bomb.png")


def test_bytes_in_memory_are_read_like_files(rgb: np.ndarray):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG")
    buffer.seek(0)
    np.testing.assert_array_equal(decode(buffer, name="upload.png"), rgb)
