"""Pixels as a value: their type, limits, hash, errors and the parts of decoding that all formats share."""

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

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
_core: Any = Image.core
_core.set_block_size(2**26)  # malloc gives freed blocks above 32 MB back to the system; Pillow's have 16
_PART_PIXELS = 2**20
"""Of the parts in which a large image is converted."""
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
    digest = sha256(f"{width}x{height}:".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def boxes(height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Divides an image into parts of at most 2**20 pixels: left, top, right and bottom of each.

    A conversion goes through several forms of the pixels. Of a large image they do not stand in memory whole.
    """
    across = max(1, min(width, _PART_PIXELS))
    down = max(1, _PART_PIXELS // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            yield left, top, min(left + across, width), min(top + down, height)


def in_parts(image: Image.Image, convert: Callable[[Image.Image], Any]) -> Pixels:
    """Converts an image part by part; ``convert`` makes RGB of one, whatever stands around it."""
    if image.width * image.height <= _PART_PIXELS:
        whole = convert(image)
        return whole if isinstance(whole, np.ndarray) else np.array(whole)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for left, top, right, bottom in boxes(image.height, image.width):
        pixels[top:bottom, left:right] = convert(image.crop((left, top, right, bottom)))
    return pixels


def rgb_of(image: Image.Image) -> Pixels:
    """Returns an image as RGB by Pillow's rules."""
    return in_parts(image, lambda part: part.convert("RGB"))


def on_white(image: Image.Image) -> Pixels:
    """Lays an image with transparency on white."""
    return in_parts(image, _on_white)


def _on_white(image: Image.Image) -> Image.Image:
    above = image.convert("RGBA")
    white = Image.new("RGBA", above.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, above).convert("RGB")


def opacity(image: Image.Image) -> tuple[int, int]:
    """Returns the lowest and highest alpha of an image with transparency, 0 to 255, but for a few pixels at its top."""
    counts = np.zeros(256, np.int64)
    for box in boxes(image.height, image.width):
        counts += image.crop(box).convert("RGBA").getchannel("A").histogram()
    most = np.searchsorted(counts.cumsum(), counts.sum() - int(FEW * counts.sum()))
    return int(np.flatnonzero(counts)[0]), int(most)


def upright(pixels: Pixels, orientation: Any) -> Pixels:
    """Turns pixels as EXIF's orientation says; any other value leaves them as they are."""
    turned = _UPRIGHT[orientation](pixels) if orientation in _UPRIGHT else pixels
    return np.ascontiguousarray(turned)


_UPRIGHT: dict[Any, Callable[[Pixels], Pixels]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""By orientation, from the last row of the table in EXIF 2.32, 4.6.5."""
