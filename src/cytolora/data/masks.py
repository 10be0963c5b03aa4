"""Masks, and pictures of slides: known by the name of an image beside them and, masks, by their few colours."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, BinaryIO

from cytolora.data.formats import SLIDE_SUFFIXES, is_image_name, suffix_of
from cytolora.errors import DataError

if TYPE_CHECKING:
    from cytolora.data.imaging.decode import Pixels

Open = Callable[[str], BinaryIO]
"""Opens a file of a folder, or of a zip file, by its name."""

_WORD = (
    r"(?:(?:bin|binary|cell|inst|nuc)?masks?|segs?|segm|segmentations?|segmented|labels?|labell?ed|annotations?|annot?s?|"
    r"gt|ground[ _-]?truths?|instances?|semantic|trimap|matte|bw|d|nuc|nuclei|nucleus|cyt|cyto|cytoplasm)"
)
_AFTER = re.compile(rf"(?:[ _.\-]+(?:[a-z0-9]+[ _.\-]+)*|(?=mask)){_WORD}(?:[ _.\-]?\d+)?", re.IGNORECASE)
_BEFORE = re.compile(rf"(?:{_WORD}[ _.\-]+|mask)(?:[a-z]+[ _.\-]+)?", re.IGNORECASE)
_DRAWN = (
    r"(?:overlays?|grad[ _\-]?cam(?:\+\+|pp)?|heat[ _\-]?maps?|saliency|attention(?:[ _\-]?maps?)?|contours?|outlines?|"
    r"annotated|visuali[sz]ations?|vis|viz|bbox(?:es)?|pred(?:iction)?s?)"
)
_DRAWING = re.compile(rf"[ _.\-]+(?:[a-z0-9]+[ _.\-]+)*{_DRAWN}(?:[ _.\-]?\d+)?", re.IGNORECASE)
"""What follows the name of an image in that of a drawing over it, which has its size and as many colours."""
_SURE = re.compile(r"mask|segment|ground.?truth|trimap", re.IGNORECASE)
"""Words that no cell is called by: gray beside a coloured image is then enough."""
_HINT = re.compile(f"{_WORD}|{_DRAWN}", re.IGNORECASE)
_FOLDER = re.compile(
    rf"(?:[a-z0-9]+[ _\-])*(?:{_WORD}(?:class|object)?|png[ _\-]?masks?)(?:[ _\-](?:png|images?|train|test|val))?",
    re.IGNORECASE,
)

_SLIDE_WORDS = r"thumbs?|thumbnails?|macro|label|overview|preview"
_SLIDE_NAME = re.compile(rf"(?:(?P<of>.+?)[ _.\-]+)?(?P<word>{_SLIDE_WORDS})(?:[ _.\-]?image)?", re.IGNORECASE)
_SLIDE_HINT = re.compile(r"thumb|macro|label|overview|preview")

_MAX_COLOURS = 32
_MOSTLY = 0.98
"""Share of the pixels that these colours make up."""
_NEAR_EXTREME = 16
_NUM_TRIED = 12
"""Masks of one folder that are opened; if all of these are masks, the others are."""


def masks_among(names: Iterable[str], open_: Open) -> set[str]:
    """Finds masks of images among the names of one folder, and drawings over them.

    A mask is ``NAME_mask`` beside ``NAME``, of its size and with few colours; a drawing ``NAME_overlay``, of its size.
    """
    images = sorted(name for name in names if is_image_name(name))
    by_stem: dict[str, list[str]] = {}
    for name in images:
        by_stem.setdefault(_stem(name), []).append(name)
    lengths = sorted({len(stem) for stem in by_stem}, reverse=True)
    pairs = {name: partner for name in images if (partner := _partner(name, by_stem, lengths))}
    tried = dict(list(pairs.items())[:: max(1, len(pairs) // _NUM_TRIED)])
    found = {name for name, partner in tried.items() if _is_mask_of(name, partner, open_)}
    if len(found) == len(tried):
        return set(pairs)
    return {name for name, partner in pairs.items() if name in found or _is_mask_of(name, partner, open_)}


def may_hold_masks(folder: str) -> bool:
    """Whether a folder is called like one of masks."""
    return _FOLDER.fullmatch(folder) is not None


def is_mask_folder(samples: Sequence[str], open_: Open) -> bool:
    """Whether the images of a folder that is called like one of masks have few colours, one of them at least two."""
    counts = [_colours(pixels) if (pixels := decoded(one, open_)) is not None else 0 for one in samples]
    return bool(counts) and all(counts) and max(counts) > 1


def slide_pictures_among(names: Iterable[str], size_of: Callable[[str], tuple[int, int] | None]) -> set[str]:
    """Finds thumbnails, macro and label pictures of slides among the names of one folder.

    Evidence is a whole slide of that name, a larger image of that name (of thumbnails), or two such pictures of one.
    """
    listed = list(names)
    named = {name: match for name in listed if is_image_name(name) if (match := _slide_name(name))}
    if not named:
        return set()
    slides = {_stem(name) for name in listed if suffix_of(name) in SLIDE_SUFFIXES}
    images = {_stem(name): name for name in listed if is_image_name(name)}
    words: dict[str, set[str]] = {}
    for of, word in named.values():
        words.setdefault(of, set()).add(word[:5])
    return {
        name
        for name, (of, word) in named.items()
        if of in slides
        or len(words[of]) > 1
        or (word.startswith(("thumb", "preview")) and of in images and _is_larger(size_of(images[of]), size_of(name)))
    }


def _slide_name(name: str) -> tuple[str, str] | None:
    stem = _stem(name)
    match = _SLIDE_NAME.fullmatch(stem) if _SLIDE_HINT.search(stem) else None
    return (match["of"] or "", match["word"]) if match else None


def _stem(name: str) -> str:
    return os.path.splitext(name)[0].casefold()  # noqa: PTH122  (asked of every file)


def _is_larger(image: tuple[int, int] | None, thumbnail: tuple[int, int] | None) -> bool:
    if not image or not thumbnail:
        return False
    scales = image[0] / thumbnail[0], image[1] / thumbnail[1]
    return min(scales) > 1.5 and max(scales) < 1.1 * min(scales)


def _partner(name: str, by_stem: Mapping[str, Sequence[str]], lengths: Sequence[int]) -> str | None:
    """Finds the image that a file may be the mask of: by its name, or of the same name with another suffix.

    Args:
        lengths: Of the stems, the longest first: names of hexadecimal digits hold ``d`` and are all of one length.
    """
    stem = _stem(name)
    twins = [other for other in by_stem[stem] if other != name]
    if twins and suffix_of(name) in (".png", ".bmp", ".tif", ".tiff"):
        return twins[0]
    if not _HINT.search(stem):
        return None
    for at in lengths:
        if not 0 < at < len(stem):
            continue
        for of, rest, patterns in ((stem[:at], stem[at:], (_AFTER, _DRAWING)), (stem[-at:], stem[:-at], (_BEFORE,))):
            if of in by_stem and any(pattern.fullmatch(rest) for pattern in patterns):
                return by_stem[of][0]
    return None


def _is_mask_of(name: str, partner: str, open_: Open) -> bool:
    mask, image = decoded(name, open_), decoded(partner, open_)
    if mask is None or image is None or mask.shape != image.shape:
        return False
    if _DRAWING.fullmatch(_stem(name).removeprefix(_stem(partner))):
        return True
    is_sure = bool(_SURE.search(PurePath(name).stem)) and not _SURE.search(PurePath(partner).stem)
    if _has_few_colours(mask):
        return is_sure or not _has_few_colours(image)
    return is_sure and _is_gray(mask) and not _is_gray(image)


def decoded(name: str, open_: Open) -> "Pixels | None":
    """Reads an image; None where that is not possible."""
    from cytolora.data.imaging.decode import decode  # not when the list of datasets is loaded

    try:
        with open_(name) as file:
            return decode(file, name)
    except (DataError, OSError):
        return None


def _has_few_colours(pixels: "Pixels") -> bool:
    return _colours(pixels) > 0


def _colours(pixels: "Pixels") -> int:
    """Returns how many colours make up nearly all of an image; 0 where these are more than a mask has.

    Of gray images that JPEG has blurred, all that is nearly black counts as one colour, and so does nearly white.
    """
    import numpy as np

    if _is_gray(pixels):
        extreme = (pixels[..., 0] < _NEAR_EXTREME) | (pixels[..., 0] > 255 - _NEAR_EXTREME)
        if extreme.mean() >= 0.95:
            return 1 + int(pixels[extreme].min() < 128 < pixels[extreme].max())
    codes = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    counts = np.sort(np.unique(codes, return_counts=True)[1])[::-1]
    few = counts[:_MAX_COLOURS].sum() >= _MOSTLY * codes.size
    return int(min(len(counts), _MAX_COLOURS)) if few else 0


def _is_gray(pixels: "Pixels") -> bool:
    import numpy as np

    spread = pixels.max(axis=2).astype(np.int16) - pixels.min(axis=2)
    return bool((spread <= 8).mean() >= _MOSTLY)
