"""Images made small enough to travel inside a page."""

import base64
import io
from pathlib import Path

from PIL import Image

from cytolora.data.imaging.decode import decode

_EDGE_PX = 128
_JPEG_QUALITY = 85


def thumbnail(path: Path) -> str:
    """Returns an image file as a data URI of a JPEG, proportions kept.

    Raises:
        DataError: If the file is no image.
    """
    image = Image.fromarray(decode(path))
    image.thumbnail((_EDGE_PX, _EDGE_PX), Image.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
