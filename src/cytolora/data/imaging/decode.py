"""Files to pixels, the same way everywhere: the only place that opens an image."""

from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from cytolora.errors import DataError

Pixels = NDArray[np.uint8]
"""Height x width x 3, RGB."""

_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Pillow's readers that may run; all others stay shut, whatever a file says of itself."""

MAX_PIXELS = 89_478_485
"""Width times height; Pillow's own threshold for a decompression bomb (MAX_IMAGE_PIXELS)."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")

_CONVERSIONS = {
    "1": "black and white, repeated in three channels",
    "L": "gray, repeated in three channels",
    "P": "palette, looked up",
    "CMYK": "CMYK, converted without a colour profile",
    "YCbCr": "YCbCr, converted",
    "LAB": "CIELAB, converted",
    "HSV": "HSV, converted",
    "I": "16-bit gray, divided by 257 and repeated in three channels",
}
_CONVERSIONS |= dict.fromkeys(_SIXTEEN_BIT, _CONVERSIONS["I"])


def decode(source: Path | BinaryIO, name: str = "", *, max_pixels: int = MAX_PIXELS) -> Pixels:
    """Reads an image as 8-bit RGB, upright; transparent pixels lie on white, of several frames the first is read.

    Args:
        name: What an error calls the image; needed where ``source`` is no path.
        max_pixels: Width times height, looked at before anything is decoded; at most ``MAX_PIXELS``.

    Raises:
        DataError: If the file is no image, is cut off, or has more pixels than any microscope field.
    """
    return decode_with_conversion(source, name, max_pixels=max_pixels)[0]


def pixel_sha256(pixels: Pixels) -> str:
    """Returns the SHA-256 of size and pixels: equal for copies without loss, whatever their file format."""
    height, width, _ = pixels.shape
    return sha256(f"{width}x{height}:".encode() + pixels.tobytes()).hexdigest()


def decode_with_conversion(
    source: Path | BinaryIO, name: str = "", *, max_pixels: int = MAX_PIXELS
) -> tuple[Pixels, str]:
    """Reads an image like ``decode`` and says in words how it was converted; empty for plain 8-bit RGB."""
    name, max_pixels = name or str(source), min(max_pixels, MAX_PIXELS)
    try:
        with Image.open(source, formats=_FORMATS) as image:
            if image.width * image.height > max_pixels:
                raise unreadable(name, f"{image.width} x {image.height} pixels, at most {max_pixels:,} are read")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise unreadable(name, f"more than {max_pixels:,} pixels") from error
    except OSError as error:
        raise unreadable(name, error.strerror or _first_line(error)) from error
    except Exception as error:  # on damaged files Pillow's readers raise whatever their arithmetic meets
        raise unreadable(name, f"damaged ({type(error).__name__}: {_first_line(error)})") from error


def _to_rgb(image: Image.Image) -> tuple[Pixels, str]:
    if image.mode in ("I", *_SIXTEEN_BIT):
        return _from_sixteen_bit(image), _CONVERSIONS[image.mode]
    if image.mode == "F":
        raise OSError("floating-point pixels have no fixed range; save it with 8 bits per channel")
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGBA", above.size, (255, 255, 255, 255))
        return np.array(Image.alpha_composite(white, above).convert("RGB")), "transparency, laid on white"
    return np.array(image.convert("RGB")), _CONVERSIONS.get(image.mode, "")


def _from_sixteen_bit(image: Image.Image) -> Pixels:
    values = np.asarray(image, dtype=np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise OSError("32-bit pixels have no fixed range; save it with 8 bits per channel")
    gray = ((values + 128) // 257).astype(np.uint8)
    return np.repeat(gray[:, :, None], 3, axis=2)


def unreadable(name: str, why: str) -> DataError:
    """Returns the error of a file that is no image."""
    return DataError(f"Cannot read {name} as an image: {why}. Run `cytolora check DATA` to list every bad file.")


def _first_line(error: Exception) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        return "none of PNG, JPEG, BMP, TIFF, WebP"
    return (str(error).splitlines() or [""])[0]
