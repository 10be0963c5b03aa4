"""Pixel rules of version 1, kept for bundles that name none: Pillow as it reads by itself, the first frame alone."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from cytolora.data.imaging.pixels import FORMATS, SIXTEEN_BIT, Pixels, check_size, on_white


def read(source: Path | BinaryIO, name: str, max_pixels: int) -> Pixels:
    """Reads an image as 8-bit RGB; what Pillow raises is not caught here."""
    with Image.open(source, formats=FORMATS) as image:
        check_size(name, image.width, image.height, max_pixels)
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))


def _to_rgb(image: Image.Image) -> Pixels:
    if image.mode in ("I", *SIXTEEN_BIT):
        return _from_sixteen_bit(image)
    if image.mode == "F":
        raise OSError("floating-point pixels have no fixed range; save it with 8 bits per channel")
    return on_white(image) if image.has_transparency_data else np.array(image.convert("RGB"))


def _from_sixteen_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image, dtype=np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise OSError("32-bit pixels have no fixed range; save it with 8 bits per channel")
    gray = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)
