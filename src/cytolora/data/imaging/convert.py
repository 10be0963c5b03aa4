"""Colours of decoded images to 8-bit RGB, whatever their mode, depth and transparency."""

from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.imaging.pixels import (
    SIXTEEN_BIT,
    Pixels,
    boxes,
    in_parts,
    on_white,
    opacity,
    rgb_of,
    unreadable,
    upright,
)
from cytolora.data.imaging.samples import ValueRange, eight_bits, value_range
from cytolora.data.imaging.tiff import Samples

_CONVERSIONS = {
    "1": "black and white, repeated in three channels",
    "L": "gray, repeated in three channels",
    "P": "palette, looked up",
    "CMYK": "CMYK, converted without a colour profile",
    "YCbCr": "YCbCr, converted",
    "LAB": "CIELAB, converted",
    "HSV": "HSV, converted",
}
_EIGHT = 8
_MIN_OPACITY = 13
"""Alpha, of 255, that some pixel of an image has at least: at 5 % nobody sees a cell on white."""
OPAQUE, ON_WHITE = "opaque transparency, dropped", "transparency, laid on white"
FURTHER = "further samples ignored"


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


def from_samples(samples: Samples, decoding: Decoding, name: str, profile: Any, orientation: Any) -> Decoded:
    """Makes 8-bit RGB of samples of any depth."""
    num_colours = samples.num_colours
    colours, extras = samples.values[..., :num_colours], samples.values[..., num_colours:]
    reach = value_range(colours, samples.bits, samples.declared, decoding)
    if samples.alpha is not None and extras.max() > reach.depth_top:
        raise OSError("transparency above the value range")
    is_plain = samples.alpha is None and num_colours != 4
    if is_plain and not (profile and decoding.icc == "srgb"):
        decoded = Decoded(pixels=_colours(samples, reach), has_profile=bool(profile))
    else:
        decoded = _from_image(_as_image(samples, reach), profile, decoding, name)
    words = [word] if (word := _depth_words(samples, reach)) else []
    words += ["0 is white"] * samples.is_min_white
    asides = ["planes joined"] * samples.is_planar + [FURTHER] * (is_plain and extras.shape[2] > 0)
    decoded = replace(
        decoded,
        pixels=upright(decoded.pixels, orientation),
        conversions=(*words, *decoded.conversions),
        asides=(*decoded.asides, *asides),
    )
    return decoded if samples.bits <= _EIGHT else replace(decoded, used_share=reach.used_share, highest=reach.highest)


def _colours(samples: Samples, reach: ValueRange) -> Pixels:
    """Returns gray or RGB samples as RGB."""
    height, width, _ = samples.values.shape
    pixels = np.empty((height, width, 3), np.uint8)
    for left, top, right, bottom in boxes(height, width):
        pixels[top:bottom, left:right] = _eight_bits(samples, reach, (slice(top, bottom), slice(left, right)))
    return pixels


def _eight_bits(samples: Samples, reach: ValueRange, part: tuple[slice, slice]) -> Pixels:
    eight = eight_bits(samples.values[part][..., : samples.num_colours], reach.top)
    return 255 - eight if samples.is_min_white else eight


def _as_image(samples: Samples, reach: ValueRange) -> Image.Image:
    """Returns samples in Pillow's form, with their transparency."""
    height, width, _ = samples.values.shape
    mode = "CMYK" if samples.num_colours == 4 else "RGB"
    mode = mode if samples.alpha is None else "RGBA" if samples.alpha == 2 else "RGBa"
    image = Image.new(mode, (width, height))
    for left, top, right, bottom in boxes(height, width):
        part = (slice(top, bottom), slice(left, right))
        values = _eight_bits(samples, reach, part)
        if samples.alpha is not None:
            colours = np.broadcast_to(values, (*values.shape[:2], 3))
            alpha = eight_bits(samples.values[part][..., samples.num_colours :][..., :1], reach.depth_top)
            values = np.concatenate([colours, alpha], axis=2)
        elif samples.num_colours == 1:
            values = np.broadcast_to(values, (*values.shape[:2], 3))
        image.paste(Image.frombytes(mode, (right - left, bottom - top), values.tobytes()), (left, top))
    return image


def _from_image(image: Image.Image, profile: Any, decoding: Decoding, name: str) -> Decoded:
    if profile:
        image.info["icc_profile"] = bytes(profile)
    return from_image(image, decoding, name)


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


def from_image(image: Image.Image, decoding: Decoding, name: str) -> Decoded:
    """Makes 8-bit RGB of what Pillow read."""
    if image.mode in ("I", *SIXTEEN_BIT):
        values = np.asarray(image)[:, :, None]
        fits = values.min() >= 0 and values.max() < 2**16
        whole = Samples(
            values=values.astype(np.uint16, copy=False) if fits else values,
            bits=16 if image.mode in SIXTEEN_BIT or fits else 32,
            declared=None,
            is_min_white=False,
            num_colours=1,
            alpha=None,
            is_planar=False,
        )
        return from_samples(whole, decoding, name, image.info.get("icc_profile"), None)
    if image.mode == "F":
        raise OSError("32-bit floating-point pixels have no fixed range; save it with 8 bits per channel")
    words = [_CONVERSIONS[image.mode]] if image.mode in _CONVERSIONS else []
    asides: list[str] = []
    profile = image.info.get("icc_profile")
    applied: bytes | None = profile if profile and decoding.icc == "srgb" else None
    words += ["colour profile, converted to sRGB"] * (applied is not None)
    transparency = opacity(image) if image.has_transparency_data else None
    if transparency is not None:
        least, most = transparency
        if most < _MIN_OPACITY:
            raise unreadable(name, "every pixel is transparent; save it without an alpha channel", "P106")
        words += [ON_WHITE] * (least < 255)
        asides += [OPAQUE] * (least == 255)

    def part(piece: Image.Image) -> Pixels:
        piece = piece if applied is None else _to_srgb(piece, applied)
        return rgb_of(piece) if transparency is None else on_white(piece)

    has_profile = bool(profile) and decoding.icc == "ignore"
    return Decoded(
        pixels=in_parts(image, part), conversions=tuple(words), asides=tuple(asides), has_profile=has_profile
    )


def to_rgb(image: Image.Image, decoding: Decoding = STANDARD) -> Pixels:
    """Makes 8-bit RGB of an image that Pillow opened elsewhere, by the rules of ``decode``.

    Raises:
        DecodeError: If it has no fixed range, or every pixel is transparent.
    """
    name = "the image"
    if decoding.version == 1:
        return rgb_of(image)
    try:
        return from_image(image, decoding, name).pixels
    except OSError as error:
        raise unreadable(name, first_line(error)) from error


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
        raise OSError(f"its colour profile cannot be applied ({first_line(error)}); use --icc ignore") from error
    assert converted is not None
    if alpha is not None:
        converted.putalpha(alpha)
    return converted


def first_line(error: Exception) -> str:
    """Returns the first line of what an error says."""
    return (str(error).splitlines() or [""])[0]
