"""Pixels as a value: their type, limits, hash, errors and the parts of decoding that all formats share."""

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.errors import DataError

Pixels = NDArray[np.uint8]
"""Height x width x 3, RGB."""

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Pillow's readers that may run; all others stay shut, whatever a file says of itself."""
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

MAX_PIXELS = 89_478_485
"""Width times height; Pillow's own threshold for a decompression bomb (MAX_IMAGE_PIXELS)."""
MAX_BYTES = 3 * MAX_PIXELS
"""Of all samples of all frames that are held in memory at once, as they stand in the file."""


FEW = 0.001
"""Share of the pixels of an image that say nothing about it: hot and dead ones."""


CANNOT_READ = "P101"
"""Code of a file that does not become pixels for no more particular reason."""


class DecodeError(DataError):
    """An image file that does not become pixels; ``code`` is that of its finding."""

    def __init__(self, text: str, code: str = CANNOT_READ) -> None:
        """Takes the code of a kind of finding."""
        super().__init__(text)
        self.code = code


def unreadable(name: str, why: str, code: str = CANNOT_READ) -> DecodeError:
    """Returns the error of a file that is no image, or of one that leaves a choice open."""
    text = f"Cannot read {name} as an image: {why}. Run `cytolora check DATA` to list every bad file."
    return DecodeError(text, code)


def check_size(name: str, width: int, height: int, max_pixels: int, *, num_bytes: int = 0) -> None:
    """Raises a DecodeError for an image that is too large, before anything is allocated.

    Args:
        num_bytes: Of all frames and samples that are to be decoded together.
    """
    if width * height > max_pixels:
        raise unreadable(name, f"{width} x {height} pixels, at most {max_pixels:,} are read")
    if num_bytes > MAX_BYTES:
        raise unreadable(name, f"its frames and samples take {num_bytes:,} bytes, at most {MAX_BYTES:,} are read")


def pixel_sha256(pixels: Pixels) -> str:
    """Returns the SHA-256 of size and pixels: equal for copies without loss, whatever their file format."""
    height, width, _ = pixels.shape
    return sha256(f"{width}x{height}:".encode() + pixels.tobytes()).hexdigest()


def on_white(image: Image.Image) -> Pixels:
    """Lays an image with transparency on white."""
    above = image.convert("RGBA")
    white = Image.new("RGBA", above.size, (255, 255, 255, 255))
    return np.array(Image.alpha_composite(white, above).convert("RGB"))


def opacity(image: Image.Image) -> tuple[int, int]:
    """Returns the lowest and highest alpha of an image with transparency, 0 to 255, but for a few pixels at its top."""
    counts = np.array(image.convert("RGBA").getchannel("A").histogram())
    most = np.searchsorted(counts.cumsum(), counts.sum() - int(FEW * counts.sum()))
    return int(np.flatnonzero(counts)[0]), int(most)
