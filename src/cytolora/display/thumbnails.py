"""Thumbnails: images as data URIs, small enough to travel inside a page."""

import base64
import io

from PIL import Image

from cytolora.data.imaging.decode import Pixels

_EDGE_PX = 128
_QUALITY = 85
"""Of WebP, in [0, 100]; every browser since 2020 shows it."""


def thumbnail(pixels: Pixels, *, edge_px: int = _EDGE_PX, quality: int = _QUALITY) -> str:
    """Returns an image as the data URI of a WebP, proportions kept.

    Args:
        edge_px: Length of the longer edge, at most; a smaller image keeps its size.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((edge_px, edge_px), Image.Resampling.LANCZOS, reducing_gap=3.0)
    sink = io.BytesIO()
    image.save(sink, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(sink.getvalue()).decode()
