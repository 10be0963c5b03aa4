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
PINNED: dict[str, str] = {}


def content(name: str) -> bytes:
    image, options = VARIANTS[name]
    buffer = io.BytesIO()
    image.save(buffer, format=name.split()[0].upper(), **options)
    return buffer.getvalue()
