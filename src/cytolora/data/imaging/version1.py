"""Pixel rules of version 1, kept for bundles that name none: Pillow as it reads by itself, the first frame alone."""

import numpy as np
from PIL import Image, ImageOps

from cytolora.data.imaging.pixels import SIXTEEN_BIT, Pixels, boxes, on_white, rgb_of


def read(image: Image.Image) -> Pixels:
    """Reads an opened image as 8-bit RGB; what Pillow raises is not caught here."""
    image.load()
    ImageOps.exif_transpose(image, in_place=True)
    return _to_rgb(image)


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", *SIXTEEN_BIT):
        return _from_sixteen_bit(image)
    if image.mode == "F":
        raise OSError("floating-point pixels have no fixed range; save it with 8 bits per channel")
    return on_white(image) if image.has_transparency_data else rgb_of(image)


def _from_sixteen_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise OSError("32-bit pixels have no fixed range; save it with 8 bits per channel")
    pixels = np.empty((*values.shape, 3), np.uint8)
    for left, top, right, bottom in boxes(*values.shape):
        part = values[top:bottom, left:right].astype(np.int64)
        pixels[top:bottom, left:right] = ((part + 128) // 257).astype(np.uint8)[:, :, None]
    return pixels
