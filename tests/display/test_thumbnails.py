"""Thumbnails in pages."""

import base64
import io

import numpy as np
from PIL import Image

from cytolora.display.thumbnails import thumbnail


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/webp;base64,"))))


def test_a_thumbnail_keeps_proportions_and_never_enlarges():
    assert _opened(thumbnail(np.zeros((300, 600, 3), dtype=np.uint8))).size == (128, 64)
    assert _opened(thumbnail(np.zeros((300, 600, 3), dtype=np.uint8), edge_px=96)).size == (96, 48)
    assert _opened(thumbnail(np.zeros((20, 40, 3), dtype=np.uint8))).size == (40, 20)


def test_equal_pixels_give_an_equal_thumbnail():
    pixels = np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)
    assert thumbnail(pixels) == thumbnail(pixels.copy())
