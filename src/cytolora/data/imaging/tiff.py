"""TIFF directories: frames, channels stored as pages, reduced copies, and samples that Pillow reads wrongly."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isqrt, prod
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from cytolora.data.imaging.byte_counts import has_holes, mend_counts
from cytolora.data.imaging.ome import check_planes
from cytolora.data.imaging.pixels import MAX_BYTES
from cytolora.data.imaging.stated_sizes import Directory, Picture, check_directory, check_embedded, check_stored

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Of classic TIFF and BigTIFF in both byte orders."""
COLOR_MAP = 320
_JPEG, _YCBCR = 7, 6
"""Compression, and photometric interpretation."""
_REDUCED, _MASK = 1, 4
"""Bits of NewSubfileType."""
_ALPHA = (1, 2)
"""ExtraSamples: associated (premultiplied) and unassociated alpha."""
_BY_PILLOW = frozenset(TiffImagePlugin.COMPRESSION_INFO) - {50001}
"""Compressions that Pillow reads; WebP (50001) only where its libtiff was built so."""
_MAX_PAGES = 10_000
_MIN_CORRELATION = 0.8
"""Between a page and a larger one reduced to its size, from which it counts as a copy."""
_MAX_COMPARED = 2**24
"""Pixels of a page that are compared with another page; of a larger one, only every second or third row and column."""
_IMAGE_CODECS = frozenset((7, 22610, 33003, 33004, 33005, 34712, 34933, 34934, 50001, 50002, 52546))
"""Compressions that are image formats of their own; their decoders take several times the pixels' bytes."""
_WORDS = {"C": "channels", "Z": "focal planes", "T": "times"}

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it says of damaged files is an error of ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Samples of one frame as they stand in the file, and what they mean."""

    values: NDArray[np.integer]
    """Height x width x samples."""
    bits: int
    declared: int | None
    """MaxSampleValue, where all samples have one."""
    is_min_white: bool
    num_colours: int
    """1 gray, 3 RGB, 4 CMYK."""
    alpha: int | None
    """1 associated, 2 unassociated."""
    is_planar: bool


class Tiff:
    """Frames of one TIFF file: pages without masks and reduced copies; channels of one picture are one frame."""

    def __init__(self, handle: BinaryIO) -> None:
        """Reads the directories, and no pixels.

        Raises:
            Exception: Whatever tifffile meets in a damaged file.
        """
        import tifffile  # not while nothing but PNG is read

        _check_chain(handle)
        self._file = tifffile.TiffFile(handle, _multifile=False)  # pyright: ignore[reportCallIssue]
        check_planes(self._file.pages.first.description)
        self._handle = handle
        self.num_copies = 0
        """Reduced copies (thumbnails, levels of a pyramid) that are left out."""
        self._series = self._without_copies([level for series in self._file.series for level in series.levels])

    def _without_copies(self, series: list[Any]) -> list[Any]:
        main = [one for one in series if not _is_aside(one.keyframe)] or series[:1]
        largest = max(main, key=lambda one: one.keyframe.imagewidth * one.keyframe.imagelength)
        kept = [one for one in main if one is largest or not self._is_copy(one.keyframe, largest.keyframe)]
        self.num_copies = len(series) - len(kept)
        return kept

    def _is_copy(self, small: Any, large: Any) -> bool:
        """Whether a page shows what a much larger one of the same proportions shows."""
        size, full = (small.imagewidth, small.imagelength), (large.imagewidth, large.imagelength)
        is_alike = abs(size[0] * full[1] - size[1] * full[0]) <= max(full)
        if not is_alike or 2 * size[0] > full[0] + 1 or full[0] * full[1] * large.samplesperpixel > MAX_BYTES:
            return False
        try:
            for page in (small, large):
                self._check_page("", page, page)
            grays = [self._gray(page) for page in (small, large)]
        except Exception:  # a page that cannot be read is no copy of another; reading it says why
            return False
        reduced = np.asarray(Image.fromarray(grays[1]).resize(size, Image.Resampling.BOX))
        centred = [values - values.mean() for values in (grays[0], reduced)]
        scale = np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
        return bool(scale > 0 and (centred[0] * centred[1]).sum() / scale >= _MIN_CORRELATION)

    def _gray(self, page: Any) -> NDArray[np.float32]:
        values, axes = page.asarray().reshape(page.shape), page.axes
        step = max(1, isqrt(page.imagewidth * page.imagelength // _MAX_COMPARED))
        values = values[tuple(slice(None, None, step if axis in "YX" else 1) for axis in axes)].astype(np.float32)
        return values.mean(axis=axes.index("S")) if "S" in axes else values

    @property
    def count(self) -> int:
        """Number of frames."""
        return sum(_count(one) for one in self._series)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the largest frame."""
        pages = [one.keyframe for one in self._series]
        return max(page.imagewidth for page in pages), max(page.imagelength for page in pages)

    @property
    def num_bytes(self) -> int:
        """Of the samples that are held together: those of the largest series."""
        return max(prod(one.shape) * one.dtype.itemsize for one in self._series)

    def check_stored(self, name: str) -> None:
        """Raises a DecodeError where a page states more pixels than its strips or tiles can hold."""
        for series in self._series:
            key, pages = series.keyframe, series.pages
            if len(pages) != _count(series) and int(key.compression) == 1:  # frames after each other, one directory
                picture = Picture(name, key.imagewidth, key.imagelength)
                check_stored(picture, prod(series.shape) * series.dtype.itemsize, 1, self._file.filehandle.size)
                continue
            for page in pages:
                if page is not None:
                    self._check_page(name, page, key)

    def _check_page(self, name: str, page: Any, key: Any) -> None:
        picture = Picture(name, key.imagewidth, key.imagelength)
        tile = (int(key.tilewidth), int(key.tilelength)) if key.is_tiled else None
        bits = int(key.bitspersample) * int(key.samplesperpixel)
        mend_counts(page, key, self._file.filehandle.size)
        counts, offsets = page.databytecounts, page.dataoffsets
        directory = Directory(int(key.compression), int(key.photometric), bits, tile, offsets, counts)
        check_directory(picture, directory, self._file.filehandle.size)
        if directory.compression in _IMAGE_CODECS:
            for offset, count in zip(offsets, counts, strict=True):
                if not count:
                    continue
                self._handle.seek(offset)
                check_embedded(picture, directory.compression, self._handle.read(count), _segment_pixels(key))

    @property
    def pixel_bytes(self) -> int:
        """Of the largest frame as it stands in the file, before it was packed."""
        keys = [series.keyframe for series in self._series]
        bits = [k.imagewidth * k.imagelength * int(k.bitspersample) * int(k.samplesperpixel) for k in keys]
        return max(bits) // 8

    @property
    def memory_bytes(self) -> int:
        """Memory, by estimate, in which the largest frame is decoded to RGB."""
        return max(self._memory_of(series.keyframe, self.page(0) is None) for series in self._series)

    def _memory_of(self, key: Any, is_deep: bool) -> int:
        num_pixels = key.imagewidth * key.imagelength
        if not is_deep:
            return num_pixels * (4 + 3)
        part = _segment_pixels(key) * int(key.samplesperpixel) * (key.dtype.itemsize if key.dtype else 1)
        has_image = any(int(extra) in _ALPHA for extra in key.extrasamples) or key.samplesperpixel == 4
        codec = part * (6 if int(key.compression) in _IMAGE_CODECS else 1)
        return self.num_bytes + max(codec, num_pixels * (7 if has_image else 3))

    def words(self) -> str:
        """Says what the frames are, as far as the file does: ``3 channels, 5 focal planes``."""
        (first, *others) = self._series
        known = [f"{size} {_WORDS[axis]}" for axis, size in _frames(first) if axis in _WORDS and size > 1]
        return ", ".join(known) if known and not others else f"{self.count} frames"

    @property
    def has_channels(self) -> bool:
        """Whether three gray pages are declared to be the channels of one picture."""
        return any(_has_channels(one) for one in self._series)

    def page(self, number: int) -> int | None:
        """Returns the directory of a frame of up to 8 unsigned bits, which Pillow reads; None for all others."""
        series, inside = self._locate(number)
        key = series.keyframe
        is_shallow = key.bitspersample in (1, 2, 4, 8) and key.dtype is not None and key.dtype.kind in "ub"
        is_foreign = self._file.is_bigtiff and self._file.byteorder == ">"  # Pillow does not know these
        is_odd = is_foreign or int(key.compression) not in _BY_PILLOW or _has_unnamed_channels(key)
        if not is_shallow or is_odd or _has_channels(series) or len(series.pages) != _count(series):
            return None
        page = series.pages[inside]
        return None if page is None or has_holes(page) else int(page.index)

    @property
    def has_alpha(self) -> bool:
        """Whether any frame has transparency."""
        return any(int(extra) in _ALPHA for one in self._series for extra in one.keyframe.extrasamples)

    @property
    def has_byte_palette(self) -> bool:
        """Whether any frame has a palette of 8 bits."""
        return any(byte_palette(one.keyframe.tags.valueof(COLOR_MAP)) for one in self._series)

    def has_further_samples(self, number: int) -> bool:
        """Whether a frame has samples besides its colours and transparency."""
        return any(int(extra) not in _ALPHA for extra in self._locate(number)[0].keyframe.extrasamples)

    def is_min_white(self, number: int) -> bool:
        """Whether 0 is white."""
        return int(self._locate(number)[0].keyframe.photometric) == 0

    def samples(self, number: int) -> Samples:
        """Reads the samples of one frame.

        Raises:
            OSError: If they have a meaning that is not read.
        """
        series, inside = self._locate(number)
        key = series.keyframe
        _check_kind(key)
        colours = {0: 1, 1: 1, 2: 3, 5: 4}.get(int(key.photometric))
        if int(key.photometric) == _YCBCR and int(key.compression) == _JPEG:
            colours = 3  # tifffile's decoder makes RGB of it
        has_channels = _has_channels(series)
        if colours is None:
            raise OSError(f"{key.bitspersample}-bit samples of photometric interpretation {key.photometric.name}")
        if _has_unnamed_channels(key) and not has_channels:
            what = f"nothing says what its {key.samplesperpixel} samples a pixel are"
            raise OSError(f"{what}; save it as RGB, or one channel a file")
        values = self._frames_of(series)[inside]
        extras = [] if has_channels else [int(extra) for extra in key.extrasamples]
        declared = key.tags.valueof(281)
        declared = min(declared) if isinstance(declared, tuple) and declared else declared
        return Samples(
            values=values,
            bits=int(key.bitspersample),
            declared=declared if isinstance(declared, int) else None,
            is_min_white=int(key.photometric) == 0,
            num_colours=3 if has_channels else colours,
            alpha=extras[0] if extras and extras[0] in _ALPHA else None,
            is_planar=int(key.planarconfig or 1) == 2 and key.samplesperpixel > 1,
        )

    def tag(self, number: int, code: int) -> Any:
        """Returns the value of a tag of a frame's directory, or None."""
        return self._locate(number)[0].keyframe.tags.valueof(code)

    def _locate(self, number: int) -> tuple[Any, int]:
        for series in self._series:
            if number < _count(series):
                return series, number
            number -= _count(series)
        raise OSError(f"no frame {number}")

    @cached_property
    def _arrays(self) -> dict[int, NDArray[np.integer]]:
        return {}

    def _frames_of(self, series: Any) -> NDArray[np.integer]:
        """Returns frames x height x width x samples."""
        key = id(series)
        if key not in self._arrays:
            values, axes = series.asarray().reshape(series.shape), series.axes
            samples = "C" if _has_channels(series) else "S"
            order = [axis for axis in axes if axis not in f"YX{samples}"]
            values = values.transpose([axes.index(axis) for axis in [*order, "Y", "X", *(samples * (samples in axes))]])
            height, width = (series.shape[axes.index(axis)] for axis in "YX")
            self._arrays[key] = values.reshape(_count(series), height, width, -1)
        return self._arrays[key]


def byte_palette(colour_map: Sequence[int] | None) -> bytes:
    """Returns a ColorMap of 8-bit values, red, green and blue after each other; empty where it is none.

    TIFF wants 16 bits (TIFF 6.0, p. 23). Programs that write 8 would give a black image: libtiff tells them, too, by
    the highest value (checkcmap in tif_getimage.c).
    """
    is_byte = colour_map is not None and 0 < max(colour_map, default=0) < 256
    return bytes(colour_map) if colour_map is not None and is_byte else b""


def _check_chain(handle: BinaryIO) -> None:
    """Raises an OSError where directories follow each other in a circle: tifffile would follow them for ever."""
    handle.seek(0)
    head = handle.read(16)
    order: Literal["little", "big"] = "little" if head[:2] == b"II" else "big"
    is_big = head[2:4] in (b"+\0", b"\0+")
    width, num_count, num_entry = (8, 8, 20) if is_big else (4, 2, 12)
    at = int.from_bytes(head[8:16] if is_big else head[4:8], order)
    seen: set[int] = set()
    while at:
        if at in seen or len(seen) >= _MAX_PAGES:
            raise OSError(f"its directories go in a circle, or are more than {_MAX_PAGES:,}")
        seen.add(at)
        handle.seek(at)
        count = int.from_bytes(handle.read(num_count), order)
        handle.seek(at + num_count + count * num_entry)
        at = int.from_bytes(handle.read(width), order)
    handle.seek(0)


def _is_aside(page: Any) -> bool:
    """Whether a page says of itself that it is a reduced copy or a mask, or stands below another one."""
    return bool(int(page.subfiletype) & (_REDUCED | _MASK)) or not isinstance(page.index, int)


def _segment_pixels(key: Any) -> int:
    """Pixels of one strip or tile."""
    if key.is_tiled:
        return int(key.tilewidth) * int(key.tilelength)
    return int(key.imagewidth) * min(int(key.rowsperstrip), int(key.imagelength))


def _frames(series: Any) -> list[tuple[str, int]]:
    """Axes of a series other than those of one picture, with their lengths."""
    own = "YXSC" if _has_channels(series) else "YXS"
    return [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if axis not in own]


def _count(series: Any) -> int:
    return prod(size for _, size in _frames(series))


def _has_channels(series: Any) -> bool:
    """Whether gray pages are declared as the three channels of a picture (ImageJ, OME, tifffile), and of no stains."""
    sizes = dict(zip(series.axes, series.shape, strict=True))
    is_gray = sizes.get("S", 1) == 1 and int(series.keyframe.photometric) == 1
    return sizes.get("C") == 3 and is_gray and not _names_stains(series)


def _has_unnamed_channels(key: Any) -> bool:
    """Whether pixels of a gray directory have further samples that are no transparency."""
    return int(key.photometric) in (0, 1) and any(int(extra) not in _ALPHA for extra in key.extrasamples)


def _names_stains(series: Any) -> bool:
    """Whether OME metadata name channels otherwise than red, green and blue: fluorescence, not colour."""
    import re

    description = getattr(series.keyframe, "description", "") or ""
    if "<OME" not in description:
        return False
    channels = re.findall(r"<Channel\b[^>]*?>", description)
    names = [match[1] for text in channels if (match := re.search(r"\bName=\"([^\"]*)\"", text))]
    plain = ("red", "green", "blue")
    is_plain = all(
        name.strip().lower() in (colour, colour[0], str(place), "") or name.lower().startswith("channel")
        for place, (name, colour) in enumerate(zip(names, plain, strict=False))
    )
    return not is_plain


def _check_kind(key: Any) -> None:
    kind = key.dtype.kind if key.dtype is not None else ""
    if kind in "fc" and kind:
        what = "floating-point" if kind == "f" else "complex floating-point"
        raise OSError(f"{key.bitspersample}-bit {what} pixels have no fixed range; save it with 8 bits per channel")
    if kind not in ("u", "i", "b"):
        raise OSError(f"{key.bitspersample}-bit samples of sample format {key.sampleformat} are not read")
