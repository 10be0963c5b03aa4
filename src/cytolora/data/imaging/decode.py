"""Image files to 8-bit RGB, the same way everywhere: the only place that opens an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.formats import what_it_is
from cytolora.data.imaging import version1
from cytolora.data.imaging.convert import (
    FURTHER,
    ON_WHITE,
    OPAQUE,
    Decoded,
    first_line,
    from_image,
    from_samples,
    to_rgb,
)
from cytolora.data.imaging.frames import choose
from cytolora.data.imaging.pixels import (
    FORMATS,
    MAX_PIXELS,
    SIXTEEN_BIT,
    Pixels,
    check_size,
    pixel_sha256,
    unreadable,
    upright,
)
from cytolora.data.imaging.png import check_rows, data_bytes, is_deep_png, is_true_colour
from cytolora.data.imaging.room import one_image, take_room
from cytolora.data.imaging.stated_sizes import (
    Picture,
    check_opened,
    check_pillow_directory,
    fewest_bytes,
    file_bytes,
    memory_of,
    webp_size,
)
from cytolora.data.imaging.tiff import COLOR_MAP, SIGNATURES, Samples, Tiff, byte_palette
from cytolora.data.imaging.whole_slide import slide_problem
from cytolora.data.signatures import SIGNATURE_BYTES
from cytolora.errors import DataError

__all__ = [
    "MAX_PIXELS",
    "ON_WHITE",
    "OPAQUE",
    "Decoded",
    "Pixels",
    "decode",
    "decode_image",
    "pixel_sha256",
    "to_rgb",
    "unreadable",
]

_SEVERAL = {"MPO": "first of several pictures", "PNG": "first picture of an animation", "WEBP": "first of an animation"}
"""Files that hold further pictures which are no frames of a stack."""
_FRAME_WORDS = {"middle": "middle", "sharpest": "sharpest", "max": "maximum"}
_BYTE_PALETTE = "palette of 8 bits in a file that should hold 16, looked up"
_ORIENTATION, _ICC = 274, 34675
_HEADER_BYTES = 30
"""As many tell the size of a WebP."""
_LARGE_WEBP = 2**22
"""Pixels of WebP from which Pillow does not decode it: it takes 22 bytes a pixel."""


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
        with one_image(), _opened(source) as file:
            return _read(file, name, decoding, max_pixels)
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise unreadable(name, f"more than {max_pixels:,} pixels") from error
    except Image.UnidentifiedImageError as error:
        raise unreadable(name, what_it_is(_head(source))) from error
    except OSError as error:
        raise unreadable(name, error.strerror or first_line(error)) from error
    except Exception as error:  # on damaged files the readers raise whatever their arithmetic meets
        raise unreadable(name, f"damaged ({type(error).__name__}: {first_line(error)})") from error


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
    head = file.read(_HEADER_BYTES)
    file.seek(0)
    is_tiff = head.startswith(SIGNATURES)
    if is_tiff and decoding.version != 1:
        return _read_tiff(file, name, decoding, max_pixels)
    if (canvas := webp_size(head)) is not None:
        check_size(name, *canvas, max_pixels)  # Pillow makes room for it when it opens the file
    decoded, orientation = _opened_by_pillow(file, head, name, decoding, max_pixels)
    return replace(decoded, pixels=upright(decoded.pixels, orientation))  # Pillow's form of them is gone by now


def _opened_by_pillow(
    file: BinaryIO, head: bytes, name: str, decoding: Decoding, max_pixels: int
) -> tuple[Decoded, Any]:
    """Returns an image, and how it has to be turned."""
    with Image.open(file, formats=FORMATS) as image:
        check_size(name, image.width, image.height, max_pixels)
        is_png = image.format == "PNG"
        stored = data_bytes(file) if is_png else file_bytes(file)
        picture, num_pixels = Picture(name, image.width, image.height), image.width * image.height
        check = check_pillow_directory if image.format == "TIFF" else check_opened
        check(picture, image, stored)
        is_deep = is_deep_png(head) or (image.mode in SIXTEEN_BIT and "transparency" in image.info)
        if decoding.version == 1 or not is_deep:
            _take_room(file, memory_of(picture, _memory_of_pillow(image), fewest_bytes(image), stored))
            if is_png:
                image.load()
                check_rows(file, image, name)
            if decoding.version == 1:
                return Decoded(pixels=version1.read(image)), None
            decoded, orientation = _from_pillow(file, image, name, decoding)
            return replace(decoded, format=image.format or ""), orientation
        check_size(name, image.width, image.height, max_pixels, num_bytes=num_pixels * 8)
        is_opaque_rgb = is_true_colour(head) and "transparency" not in image.info
        needed = num_pixels * (6 + 3 if is_opaque_rgb else 8 + 4 + 3)
        _take_room(file, memory_of(picture, needed, fewest_bytes(image), stored))
        orientation, profile = image.getexif().get(_ORIENTATION), image.info.get("icc_profile")
    del image  # to find where EXIF stands, Pillow has decoded the pixels
    return replace(_from_png(file, profile, name, decoding), format="PNG"), orientation


def _take_room(file: BinaryIO, num_bytes: int) -> None:
    """Takes room for an image, with its file where that stands in memory."""
    take_room(num_bytes + (file_bytes(file) if isinstance(file, BytesIO) else 0))


def _from_pillow(file: BinaryIO, image: Image.Image, name: str, decoding: Decoding) -> tuple[Decoded, Any]:
    """Returns an image, and how it has to be turned."""
    further = getattr(image, "n_frames", 1) > 1 and _SEVERAL.get(image.format or "")
    if image.format == "WEBP" and not further and image.width * image.height > _LARGE_WEBP:
        decoded = _from_webp(file, image, name, decoding)
    else:
        image.load()
        decoded = from_image(image, decoding, name)
    decoded = replace(decoded, asides=(*decoded.asides, further)) if further else decoded
    return decoded, image.getexif().get(_ORIENTATION)


def _from_webp(file: BinaryIO, image: Image.Image, name: str, decoding: Decoding) -> Decoded:
    import imagecodecs

    file.seek(0)
    pixels = imagecodecs.webp_decode(file.read(), hasalpha=image.mode == "RGBA")
    if pixels.shape[:2] != (image.height, image.width):
        raise OSError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels, where its header states another size")
    profile = image.info.get("icc_profile")
    if image.mode == "RGB" and not (profile and decoding.icc == "srgb"):
        return Decoded(pixels=pixels, has_profile=bool(profile))
    whole = Image.frombuffer(image.mode, image.size, pixels, "raw", image.mode, 0, 1)
    whole.info["icc_profile"] = profile
    return from_image(whole, decoding, name)


def _memory_of_pillow(image: Image.Image) -> int:
    """Returns the bytes that Pillow takes to decode an image, with its pixels as RGB."""
    num_pixels = image.width * image.height
    if image.format == "WEBP":
        is_lean = num_pixels > _LARGE_WEBP and getattr(image, "n_frames", 1) == 1
        return num_pixels * (4 + len(image.getbands()) if is_lean else 22)
    own = {"1": 1, "L": 1, "P": 1}.get(image.mode, 4)
    if image.format in ("JPEG", "MPO"):  # progressive ones keep all coefficients, of two bytes, until the end
        return num_pixels * (own + max(3, 2 * len(image.getbands())))
    return num_pixels * (own + 3)


def _from_png(file: BinaryIO, profile: Any, name: str, decoding: Decoding) -> Decoded:
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
    return from_samples(samples, decoding, name, profile, None)


def _read_tiff(file: BinaryIO, name: str, decoding: Decoding, max_pixels: int) -> Decoded:
    try:
        tiff = Tiff(file)
    except Exception:  # a directory that tifffile does not read; Pillow may, or says what is wrong
        file.seek(0)
        return _shallow(file, 0, name, decoding, max_pixels, only=True)
    check_size(name, *tiff.size, max_pixels, num_bytes=tiff.num_bytes if tiff.page(0) is None else 0)
    tiff.check_stored(name)
    _take_room(file, memory_of(Picture(name, *tiff.size), tiff.memory_bytes, tiff.pixel_bytes, file_bytes(file)))
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
        return from_samples(
            tiff.samples(number), decoding, name, tiff.tag(number, _ICC), tiff.tag(number, _ORIENTATION)
        )
    decoded = _shallow(file, page, name, decoding, max_pixels)
    is_white = ("0 is white",) * tiff.is_min_white(number)
    further = (FURTHER,) * tiff.has_further_samples(number)
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
        if only:  # nothing else has looked at it
            picture, stored = Picture(name, image.width, image.height), file_bytes(file)
            check_pillow_directory(picture, image, stored)
            _take_room(file, memory_of(picture, _memory_of_pillow(image), fewest_bytes(image), stored))
        if only and (getattr(image, "n_frames", 1) > 1 or max(_bits(image)) > 8):
            raise OSError("its directories are damaged")
        image.load()
        colours = byte_palette(image.tag_v2.get(COLOR_MAP)) if isinstance(image, TiffImageFile) else b""
        if colours and image.mode == "P":
            image.putpalette(colours, "RGB;L")
        decoded = from_image(image, decoding, name)
        decoded = replace(decoded, pixels=upright(decoded.pixels, image.getexif().get(_ORIENTATION)))
        return replace(decoded, conversions=(_BYTE_PALETTE, *decoded.conversions[1:])) if colours else decoded


def _bits(image: Any) -> tuple[int, ...]:
    return tuple(image.tag_v2.get(258, (1,)))
