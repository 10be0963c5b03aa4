"""Damaged and hostile images end as pixels or as a named error: never a crash, a hang or another exception."""

import io
import random
import time

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.data.imaging.decode import decode
from cytolora.errors import DataError

_MAX_SECONDS = 10.0
"""Processor time of one image of a few kilobytes: how busy the machine is does not count."""


def _originals() -> dict[str, bytes]:
    """One small file of every format, mode and compression that is read."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 31, 4), dtype=np.uint8)
    rgba = Image.fromarray(noise)
    rgb = rgba.convert("RGB")
    deep = Image.fromarray(np.arange(24 * 31, dtype=np.uint16).reshape(24, 31) * 80)
    exif = Image.Exif()
    exif[0x0112] = 6
    variants = {
        "png": (rgb, {}),
        "png alpha": (rgba, {}),
        "png palette": (rgb.quantize(16), {"transparency": 3}),
        "png deep": (deep, {}),
        "jpeg": (rgb, {"exif": exif}),
        "jpeg progressive": (rgb, {"progressive": True}),
        "jpeg cmyk": (rgb.convert("CMYK"), {}),
        "bmp": (rgb, {}),
        "bmp palette": (rgb.quantize(16), {}),
        "tiff": (rgb, {}),
        "tiff lzw": (rgb, {"compression": "tiff_lzw"}),
        "tiff deflate": (rgb, {"compression": "tiff_adobe_deflate"}),
        "tiff jpeg": (rgb, {"compression": "jpeg"}),
        "tiff fax": (rgb.convert("1"), {"compression": "group4"}),
        "tiff deep": (deep, {}),
        "webp": (rgba, {"exif": exif}),
        "webp lossless": (rgb, {"lossless": True}),
    }
    files = {}
    for name, (image, options) in variants.items():
        buffer = io.BytesIO()
        image.save(buffer, format=name.split()[0].upper(), **options)
        files[name] = buffer.getvalue()
    colour = np.random.default_rng(1).integers(0, 65536, (24, 31, 3)).astype(np.uint16)
    for compression in ("none", "lzw", "deflate"):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, colour, photometric="rgb", compression=compression)
        files[f"tiff rgb 16 {compression}"] = buffer.getvalue()
    return {**files, "png rgb 16": bytes(imagecodecs.png_encode(colour))}


def _mutate(content: bytes, rng: random.Random) -> bytes:
    """Changes bytes, mostly among the first, where sizes and offsets stand; cuts, repeats or swaps a part."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        reach = rng.choice((64, 256, len(changed)))
        changed[rng.randrange(min(reach, len(changed)))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    match rng.randrange(5):
        case 0:
            del changed[rng.randrange(len(changed)) :]
        case 1:
            start = rng.randrange(len(changed))
            changed[start:start] = changed[start : start + rng.randrange(200)]
        case 2:
            start = rng.randrange(len(changed))
            del changed[start : start + rng.randrange(40)]
    return bytes(changed)


def _read_mutated(num_images: int, seed: int) -> tuple[int, int]:
    """Reads mutated images and returns how many were read and how many refused."""
    rng, originals = random.Random(seed), _originals()
    num_read = num_refused = 0
    for number in range(num_images):
        name = rng.choice(sorted(originals))
        content = _mutate(originals[name], rng)
        start = time.thread_time()
        try:
            pixels = decode(io.BytesIO(content), name=f"{name} {number}")
        except DataError as error:
            message = str(error)
            num_refused += message.startswith(f"Cannot read {name} {number} as an image: ") and "\n" not in message
        else:
            assert (pixels.dtype, pixels.ndim, pixels.shape[2]) == (np.uint8, 3, 3)
            num_read += 1
        assert time.thread_time() - start < _MAX_SECONDS, (name, number, seed)
    assert num_read + num_refused == num_images
    return num_read, num_refused


pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of much that is wrong with a file


def test_every_original_is_read():
    for name, content in _originals().items():
        assert decode(io.BytesIO(content), name=name).shape in ((24, 31, 3), (31, 24, 3))


def test_500_mutated_images_are_read_or_refused_by_name():
    num_read, num_refused = _read_mutated(500, seed=0)
    assert min(num_read, num_refused) > 50


@pytest.mark.slow
def test_10_000_mutated_images_are_read_or_refused_by_name():
    num_read, num_refused = _read_mutated(10_000, seed=1)
    assert min(num_read, num_refused) > 1000
