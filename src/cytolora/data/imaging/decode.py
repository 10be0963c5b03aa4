"""Image files to 8-bit RGB, the same way everywhere: the only place that opens an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.formats import what_it_is
from cytolora.data.imaging import version1
from cytolora.data.imaging.frames import choose
from cytolora.data.imaging.pixels import (
    FORMATS,
    MAX_PIXELS,
    SIXTEEN_BIT,
    Pixels,
    check_size,
    on_white,
    opacity,
    pixel_sha256,
    unreadable,
)
from cytolora.data.imaging.samples import ValueRange, eight_bits, value_range
from cytolora.data.imaging.tiff import COLOR_MAP, SIGNATURES, Samples, Tiff, byte_palette
from cytolora.data.imaging.whole_slide import slide_problem
from cytolora.data.signatures import SIGNATURE_BYTES
from cytolora.errors import DataError

__all__ = ["MAX_PIXELS", "Decoded", "Pixels", "decode", "decode_image", "pixel_sha256", "to_rgb", "unreadable"]

_CONVERSIONS = {
    "1": "black and white, repeated in three channels",
    "L": "gray, repeated in three channels",
    "P": "palette, looked up",
    "CMYK": "CMYK, converted without a colour profile",
    "YCbCr": "YCbCr, converted",
    "LAB": "CIELAB, converted",
    "HSV": "HSV, converted",
}
_SEVERAL = {"MPO": "first of several pictures", "PNG": "first picture of an animation", "WEBP": "first of an animation"}
"""Files that hold further pictures which are no frames of a stack."""
_FRAME_WORDS = {"middle": "middle", "sharpest": "sharpest", "max": "maximum"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""By EXIF orientation."""
_EIGHT = 8
_MIN_OPACITY = 13
"""Alpha, of 255, that some pixel of an image has at least: at 5 % nobody sees a cell on white."""
OPAQUE, ON_WHITE = "opaque transparency, dropped", "transparency, laid on white"
_FURTHER = "further samples ignored"
_BYTE_PALETTE = "palette of 8 bits in a file that should hold 16, looked up"
_ORIENTATION, _ICC = 274, 34675
_PNG, _PNG_HEADER = b"\x89PNG\r\n\x1a\n", 26
_PNG_SAMPLES = {2: 3, 4: 2, 6: 4}
"""By colour type, the samples of PNG files that Pillow reads with their upper 8 bits alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Pixels of an image, and how they were made."""

    pixels: Pixels
    conversions: tuple[str, ...] = ()
    """How the colours of a file that is no plain 8-bit RGB were made, in words; empty for one that is."""
    asides: tuple[str, ...] = ()
    """What else was done, with no change to its colours: frames chosen, copies left out."""
    used_share: float | None = None
    """Of an image of more than 8 bits, its highest value by that which becomes white."""
    highest: int | None = None
    """Of an image of more than 8 bits, its highest value."""
    has_profile: bool = False
    """Whether it carries a colour profile that was not applied."""
    format: str = ""
    """``PNG``, ``TIFF``, …"""

    @property
    def conversion(self) -> str:
        """All conversions and asides in one text."""
        return "; ".join((*self.conversions, *self.asides))

    @property
    def colours(self) -> str:
        """The conversions alone in one text."""
        return "; ".join(self.conversions)


def decode(
    source: Path | BinaryIO, name: str = "", *, decoding: Decoding = STANDARD, max_pixels: int = MAX_PIXELS
) -> Pixels:
    """Reads an image as 8-bit RGB, upright; docs/data.md states the rules.

    Args:
        name: What an error calls the image; needed where ``source`` is no path.
        decoding: The choices that a file may leave open.
        max_pixels: Width times height, looked at before anything is decoded; at most ``MAX_PIXELS``.

    Raises:
        DecodeError: If the file is no image, is cut off, leaves a choice open, or has more pixels than any microscope
            field; its ``code`` says which.
    """
    return decode_image(source, name, decoding=decoding, max_pixels=max_pixels).pixels


def decode_image(
    source: Path | BinaryIO, name: str = "", *, decoding: Decoding = STANDARD, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Reads an image like ``decode`` and says how it was converted."""
    name, max_pixels = name or str(source), min(max_pixels, MAX_PIXELS)
    try:
        if problem := slide_problem(source, name):
            raise unreadable(name, f"{problem}; predict it alone, with the positions of its cells: --cells FILE")
        if decoding.version == 1:
            return Decoded(pixels=version1.read(source, name, max_pixels))
        with _opened(source) as file:
            return _read(file, name, decoding, max_pixels)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise unreadable(name, f"more than {max_pixels:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise unreadable(name, what_it_is(_head(source))) from error
    except OSError as error:
        raise unreadable(name, error.strerror or _first_line(error)) from error
    except Exception as error:  # on damaged files the readers raise whatever their arithmetic meets
        raise unreadable(name, f"damaged ({type(error).__name__}: {_first_line(error)})") from error


def _head(source: Path | BinaryIO) -> bytes:
    with _opened(source) as file:
        file.seek(0)
        return file.read(SIGNATURE_BYTES)


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield source


def _read(file: BinaryIO, name: str, decoding: Decoding, max_pixels: int) -> Decoded:
    file.seek(0)
    head = file.read(_PNG_HEADER)
    file.seek(0)
    if head.startswith(SIGNATURES):
        return _read_tiff(file, name, decoding, max_pixels)
    with Image.open(file, formats=FORMATS) as image:
        check_size(name, image.width, image.height, max_pixels)
        if is_deep_png(head) or (image.mode in SIXTEEN_BIT and "transparency" in image.info):
            check_size(name, image.width, image.height, max_pixels, num_bytes=image.width * image.height * 8)
            decoded = _from_png(file, image, name, decoding)
        else:
            further = getattr(image, "n_frames", 1) > 1 and _SEVERAL.get(image.format or "")
            image.load()
            decoded = _to_rgb(ImageOps.exif_transpose(image), decoding, name)
            if further:
                decoded = replace(decoded, asides=(*decoded.asides, further))
        return replace(decoded, format=image.format or "")


def is_deep_png(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PNG with 16 bits in more than one sample."""
    return len(head) >= _PNG_HEADER and head.startswith(_PNG) and head[24] == 16 and head[25] in _PNG_SAMPLES


def _from_png(file: BinaryIO, image: Image.Image, name: str, decoding: Decoding) -> Decoded:
    import imagecodecs

    file.seek(0)
    values = imagecodecs.png_decode(file.read())
    num_colours = 1 if values.shape[2] == 2 else 3
    samples = Samples(
        values=values,
        bits=16,
        declared=None,
        is_min_white=False,
        num_colours=num_colours,
        alpha=2 if values.shape[2] > num_colours else None,
        is_planar=False,
    )
    orientation = image.getexif().get(_ORIENTATION)
    return _from_samples(samples, decoding, name, image.info.get("icc_profile"), orientation)


def _read_tiff(file: BinaryIO, name: str, decoding: Decoding, max_pixels: int) -> Decoded:
    try:
        tiff = Tiff(file)
    except Exception:  # a directory that tifffile does not read; Pillow may, or says what is wrong
        file.seek(0)
        return _shallow(file, 0, name, decoding, max_pixels, only=True)
    check_size(name, *tiff.size, max_pixels, num_bytes=tiff.num_bytes if tiff.page(0) is None else 0)
    decodings: list[Decoded] = []

    def frame(number: int) -> Pixels:
        decodings[:] = [_frame(tiff, number, file, name, decoding, max_pixels)]
        return decodings[0].pixels

    if tiff.count == 1:
        pixels, chosen = frame(0), []
    elif decoding.frame is None:
        how = "choose with --frame N, middle, sharpest or max where it is trained or checked, or save one frame a file"
        raise unreadable(name, f"it holds {tiff.words()}, and nothing says which is meant; {how}", "P104")
    else:
        pixels = choose(tiff.count, frame, decoding.frame)
        chosen = [f"{_FRAME_WORDS.get(str(decoding.frame), f'number {decoding.frame}')} of {tiff.count} frames"]
    left_out = [f"{tiff.num_copies} reduced copies left out"] if tiff.num_copies else []
    merged = ["three channels merged as red, green and blue"] if tiff.has_channels else []
    (last,) = decodings
    conversions, asides = (*last.conversions, *merged), (*last.asides, *chosen, *left_out)
    return replace(last, pixels=pixels, conversions=conversions, asides=asides, format="TIFF")


def _frame(tiff: Tiff, number: int, file: BinaryIO, name: str, decoding: Decoding, max_pixels: int) -> Decoded:
    page = tiff.page(number)
    if page is None:
        return _from_samples(
            tiff.samples(number), decoding, name, tiff.tag(number, _ICC), tiff.tag(number, _ORIENTATION)
        )
    decoded = _shallow(file, page, name, decoding, max_pixels)
    is_white = ("0 is white",) * tiff.is_min_white(number)
    further = (_FURTHER,) * tiff.has_further_samples(number)
    return replace(decoded, conversions=(*decoded.conversions, *is_white), asides=(*decoded.asides, *further))


def _shallow(
    file: BinaryIO, page: int, name: str, decoding: Decoding, max_pixels: int, *, only: bool = False
) -> Decoded:
    """Reads a directory with at most 8 bits a sample by Pillow.

    Args:
        only: Refuses what may hold more bits or frames than Pillow reads.
    """
    file.seek(0)
    with Image.open(file, formats=FORMATS) as image:
        image.seek(page)
        check_size(name, image.width, image.height, max_pixels)
        if only and (getattr(image, "n_frames", 1) > 1 or max(_bits(image)) > 8):
            raise OSError("its directories are damaged")
        image.load()
        colours = byte_palette(image.tag_v2.get(COLOR_MAP)) if isinstance(image, TiffImageFile) else b""
        if colours and image.mode == "P":
            image.putpalette(colours, "RGB;L")
        decoded = _to_rgb(ImageOps.exif_transpose(image), decoding, name)
        return replace(decoded, conversions=(_BYTE_PALETTE, *decoded.conversions[1:])) if colours else decoded


def _bits(image: Any) -> tuple[int, ...]:
    return tuple(image.tag_v2.get(258, (1,)))


def _from_samples(samples: Samples, decoding: Decoding, name: str, profile: Any, orientation: Any) -> Decoded:
    """Makes 8-bit RGB of samples of any depth."""
    num_colours = samples.num_colours
    colours, extras = samples.values[..., :num_colours], samples.values[..., num_colours:]
    reach = value_range(colours, samples.bits, samples.declared, decoding)
    eight = eight_bits(colours, reach.top)
    words = [word] if (word := _depth_words(samples, reach)) else []
    if samples.is_min_white:
        eight, words = 255 - eight, [*words, "0 is white"]
    asides = ["planes joined"] if samples.is_planar else []
    if samples.alpha is not None:
        alpha = eight_bits(extras[..., :1], reach.depth_top) if extras.max() <= reach.depth_top else None
        if alpha is None:
            raise OSError("transparency above the value range")
        mode = "RGBA" if samples.alpha == 2 else "RGBa"
        image = Image.fromarray(np.concatenate([np.broadcast_to(eight, (*eight.shape[:2], 3)), alpha], axis=2))
        image = image if mode == "RGBA" else Image.frombytes(mode, image.size, image.tobytes())
    elif num_colours == 4:
        image = Image.fromarray(np.ascontiguousarray(eight), "CMYK")
    else:
        image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(eight, (*eight.shape[:2], 3))))
        asides += [_FURTHER] if extras.shape[2] else []
    if orientation in _UPRIGHT:
        image = image.transpose(_UPRIGHT[orientation])
    if profile:
        image.info["icc_profile"] = bytes(profile)
    decoded = _to_rgb(image, decoding, name)
    decoded = replace(decoded, conversions=(*words, *decoded.conversions), asides=(*decoded.asides, *asides))
    return decoded if samples.bits <= _EIGHT else replace(decoded, used_share=reach.used_share, highest=reach.highest)


def _depth_words(samples: Samples, reach: ValueRange) -> str:
    kind = {1: "gray", 3: "RGB", 4: "CMYK"}[samples.num_colours]
    if kind == "RGB" and samples.alpha is not None:
        kind = "RGBA"
    sign = "signed " if samples.values.dtype.kind == "i" else ""
    scaled = "divided by 257" if reach.top == 65535 else f"0 to {reach.top:,} scaled to 0 to 255"
    repeated = " and repeated in three channels" if kind == "gray" else ""
    if samples.bits <= _EIGHT and not sign:
        return "" if kind != "gray" else "gray, repeated in three channels"
    return f"{sign}{samples.bits}-bit {kind}, {scaled}{repeated}"


def _to_rgb(image: Image.Image, decoding: Decoding, name: str) -> Decoded:
    """Makes 8-bit RGB of what Pillow read."""
    if image.mode in ("I", *SIXTEEN_BIT):
        values = np.asarray(image)[:, :, None]
        fits = values.min() >= 0 and values.max() < 2**16
        whole = Samples(
            values=values.astype(np.int64).astype(np.uint16) if fits else values,
            bits=16 if image.mode in SIXTEEN_BIT or fits else 32,
            declared=None,
            is_min_white=False,
            num_colours=1,
            alpha=None,
            is_planar=False,
        )
        return _from_samples(whole, decoding, name, image.info.get("icc_profile"), None)
    if image.mode == "F":
        raise OSError("32-bit floating-point pixels have no fixed range; save it with 8 bits per channel")
    words = [_CONVERSIONS[image.mode]] if image.mode in _CONVERSIONS else []
    asides: list[str] = []
    profile = image.info.get("icc_profile")
    if profile and decoding.icc == "srgb":
        image, words = _to_srgb(image, profile), [*words, "colour profile, converted to sRGB"]
    if image.has_transparency_data:
        least, most = opacity(image)
        if most < _MIN_OPACITY:
            raise unreadable(name, "every pixel is transparent; save it without an alpha channel", "P106")
        words += [ON_WHITE] * (least < 255)
        asides += [OPAQUE] * (least == 255)
        pixels = on_white(image)
    else:
        pixels = np.array(image.convert("RGB"))
    has_profile = bool(profile) and decoding.icc == "ignore"
    return Decoded(pixels=pixels, conversions=tuple(words), asides=tuple(asides), has_profile=has_profile)


def to_rgb(image: Image.Image, decoding: Decoding = STANDARD) -> Pixels:
    """Makes 8-bit RGB of an image that Pillow opened elsewhere, by the rules of ``decode``.

    Raises:
        DecodeError: If it has no fixed range, or every pixel is transparent.
    """
    name = "the image"
    if decoding.version == 1:
        return np.array(image.convert("RGB"))
    try:
        return _to_rgb(image, decoding, name).pixels
    except OSError as error:
        raise unreadable(name, _first_line(error)) from error


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """Converts colours by an embedded profile; an alpha channel stays as it is.

    Raises:
        OSError: If the profile is damaged, or that of other channels.
    """
    from PIL import ImageCms

    try:
        source: Any = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = source.profile.xcolor_space.strip()
        if (space == "CMYK" and image.mode != "CMYK") or space not in ("RGB", "GRAY", "CMYK"):
            raise OSError(f"its colour profile is of {space}, its pixels are {image.mode}")
        alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
        colours = image.convert({"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[space])
        target = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(colours, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise OSError(f"its colour profile cannot be applied ({_first_line(error)}); use --icc ignore") from error
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
