"""Path rules that readers share: image files, subset folders, relative paths."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.data.walk import files_in
from cytolora.errors import DataError

SUBSET_NAMES: Mapping[str, Subset] = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
"""Spellings of a subset in folder names and tables, in lower case."""


def images_in(folder: Path) -> list[Path]:
    """Lists the images of one folder, sorted by name, sub-folders and masks left out."""
    return [path for path, kind in files_in(folder).items() if kind == "image" and os.path.isfile(path)]  # noqa: PTH113  (asked of every file)


def child_named(folder: Path, name: str) -> Path | None:
    """Finds what a folder holds by its name, in any case; the exact name comes first."""
    if (folder / name).exists():
        return folder / name
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return next((folder / other for other in names if other.casefold() == name.casefold()), None)


def relative_path(path: Path, root: Path) -> str:
    """Writes a path as manifests hold it: relative to ``root``, with forward slashes, valid UTF-8."""
    text = path.relative_to(root).as_posix()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(_why_no_text(text)) from error
    return text


def _why_no_text(name: str) -> str:
    """Says why a file name is no text: of its own, or because Python was told to read names in another encoding."""
    try:
        meant = os.fsencode(name).decode("utf-8")
    except UnicodeError:
        return f"The file name {name!r} is not valid UTF-8; rename this file."
    return (
        f"The file name {meant!r} is UTF-8, and this Python reads names as {sys.getfilesystemencoding()}. Set "
        "PYTHONUTF8=1, or a UTF-8 locale, and run the same command again."
    )
