"""Comparison of image names: of a column of a table of cells with the file name of a slide."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from cytolora.data.formats import IMAGE_SUFFIXES, SLIDE_SUFFIXES

_COLUMNS = (
    *("image", "imagename", "imagefilename", "imagefile", "slide", "slidename", "slidefile", "wsi", "wsiname"),
    *("wsifile", "slidepath", "wsipath", "imagepath", "filename", "filepath", "file", "slideid", "wsiid", "imageid"),
)
"""Names of a column or property that names the image of a row, without blanks and signs; the first counts."""
_SUFFIX = "|".join(
    sorted(
        (suffix[1:] for suffix in {*SLIDE_SUFFIXES, ".ome", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".zarr"}
         | {".png", ".jpg", ".jpeg", ".bmp", ".jp2", ".lif", ".nd2", ".vsi", ".dcm", ".mrxs"}),
        key=len,
        reverse=True,
    )
)  # fmt: skip
_WITH_SUFFIX = re.compile(rf"^(?P<stem>.+?)(?:\.(?:{_SUFFIX}))+(?P<series>$|[\s#(\[].*$)")
_SERIES = re.compile(r"^(?P<stem>.+?)(?P<series>\s*[-#(\[]+\s*(?:series|image|scene)[\s_#]*\d+\s*[\])]?)$")


def image_column(names: Iterable[str]) -> str | None:
    """Returns which of some columns names the image of a row; None if there is none."""
    by_plain = {re.sub(r"[^a-z]", "", name.casefold()): name for name in reversed(list(names))}
    return next((by_plain[plain] for plain in _COLUMNS if plain in by_plain), None)


def image_of(values: Mapping[str, Any]) -> str:
    """Returns the name of the image that a row or the properties of a feature name; empty where they name none."""
    column = image_column(values)
    name = values[column] if column is not None else None
    return name.strip() if isinstance(name, str) else ""


def names_of_slides(names: Sequence[str], file_name: str) -> bool:
    """Says whether the names of some rows can be those of slides: else they are crops, or numbers of a database.

    Args:
        names: Of every row that names an image.
        file_name: Of the slide.
    """
    if any(is_same_image(name, file_name) or _is_slide(name) for name in names):
        return True
    are_crops = len(names) > 1 and len(set(names)) == len(names) and all(map(_is_picture, names))
    return not are_crops and not all(name.isdecimal() for name in names)


def _is_slide(name: str) -> bool:
    return PurePosixPath(name.strip()).suffix.casefold() in SLIDE_SUFFIXES


def _is_picture(name: str) -> bool:
    return PurePosixPath(name.strip()).suffix.casefold() in IMAGE_SUFFIXES


def image_parts(name: str) -> tuple[str, str]:
    """Splits a name into what is compared and the series, as QuPath writes it: slide.svs - Series 0.

    Folder, suffixes of images and case are left out of what is compared.
    """
    text = unquote(name) if name.startswith("file:") else name
    text = unicodedata.normalize("NFC", re.split(r"[/\\]", text.strip())[-1]).casefold()
    match = _WITH_SUFFIX.match(text) or _SERIES.match(text)
    if match is None:
        return text, ""
    return match["stem"].strip(), match["series"].strip(" -")


def is_same_image(name: str, file_name: str) -> bool:
    """Says whether a name is that of a file, with or without folder, suffix and series."""
    return image_parts(name)[0] == image_parts(file_name)[0]
