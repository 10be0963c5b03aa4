"""Path rules that readers share: image files, subset folders, relative paths."""

from collections.abc import Mapping
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.errors import DataError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""In lower case; files of any other kind are passed over."""

SUBSET_NAMES: Mapping[str, Subset] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Spellings of a subset in folder names and tables, in lower case."""

_NOT_DATA = frozenset({"__macosx"})


def is_image(path: Path) -> bool:
    """Says by name alone whether a file is an image that is meant to be read."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """Lists the images of one folder, sorted by name, sub-folders left out."""
    return sorted(path for path in folder.iterdir() if is_image(path) and path.is_file())


def folders_in(folder: Path) -> list[Path]:
    """Lists the visible sub-folders, sorted by name."""
    return sorted(path for path in folder.iterdir() if _is_visible(path) and path.is_dir())


def relative_path(path: Path, root: Path) -> str:
    """Writes a path as manifests hold it: relative to ``root``, with forward slashes, valid UTF-8."""
    text = path.relative_to(root).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"The file name {text!r} is not valid UTF-8; rename this file.") from error
    return text


def _is_visible(path: Path) -> bool:
    return not path.name.startswith(".") and path.name.lower() not in _NOT_DATA
