"""Output targets: files and folders that are written to, checked before anything of somebody else's is lost or mixed.

Two kinds of targets: a file or folder that is replaced whole (``check_target``; who replaces it knows its own), and a
folder that something is put into, beside what is there (``check_shared``).
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from cytolora.core.arguments import AnyPath
from cytolora.core.files import refuse_special
from cytolora.core.folders import current_folder, finish_together, nearest_existing
from cytolora.core.litter import is_litter
from cytolora.core.named_files import is_file
from cytolora.data.formats import is_image_name
from cytolora.data.own_files import FileKind, FilesTogether, json_has_keys
from cytolora.data.readers.folder import NO_CLASSES
from cytolora.data.readers.subset_folders import subset_named
from cytolora.errors import ConfigError

STORE, IMAGES, CHECKPOINTS = "a folder of stored runs", "a folder of images by class", "a folder of `weights fetch`"
_MODEL = "a model"
_MARKS = {
    ("bundle.json",): _MODEL,
    ("export.json",): _MODEL,
    ("project.json", "cells.csv"): "a labelling project",
    ("_manifest.json",): "a folder of shards",
    ("weights.json",): CHECKPOINTS,
    ("index.html", "tables.csv", "methods.md"): "a report",
}
"""Files that tell what a folder is; ``tests/data/test_targets.py`` compares them with the names that are written."""
_KEYS = {
    "bundle.json": {"format", "classes", "files"},
    "export.json": {"format", "classes", "files"},
    "weights.json": {"checkpoints"},
    "_manifest.json": {"shard_size"},
}
"""Of files whose names others use too: what the JSON in ours holds, in all versions."""
_RUN = ("spec.json", "metrics.json")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|(hf|hub|huggingface|https?|s3|gs|gcs|az|abfs|file|ftp|ssh):", re.I)
"""``Path`` makes one slash of two. A single letter before the colon is a disk of Windows."""
_PICTURES = NO_CLASSES | {"figures", "figs", "plots", "charts", "graphs", "diagrams"}
"""Folders of pictures, in lower case, that are no classes: those of results hold some as well."""
_LOOKED_AT = 1000
"""Entries of a folder in which images are looked for."""


def looks_like_address(path: AnyPath) -> bool:
    """Whether this begins like an address of a network or hub, not like a path of this machine."""
    return _ADDRESS.match(str(path)) is not None


def check_target(path: AnyPath, *, option: str = "--out", is_appended: bool = False) -> None:
    """Raises a ConfigError if a file or folder is no place to write to: an address, a device, or inside of a model.

    A model with another file in it would never open again; a device would be replaced by a file.

    Args:
        option: Of the command line, for the error.
        is_appended: Whether lines are added to what is there, which may be a device or pipe.
    """
    if looks_like_address(path):
        raise ConfigError(
            f"{option} {path} is an address, expected a file or folder of this machine: nothing is written elsewhere. "
            "Name one, and copy what was written."
        )
    try:
        if not is_appended:
            refuse_special(Path(path))
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror or error}. Choose another {option}.") from error
    for folder in Path(path).resolve().parents:
        if (found := _mark(folder)) and found[0] == _MODEL:
            raise _taken(folder, *found, option)


def check_shared(folder: AnyPath, *kinds: str, option: str = "--out") -> None:
    """Raises a ConfigError if a folder, which something is put into, is no place for it, or somebody else's.

    Args:
        kinds: What the folder may be already: ``STORE``, ``IMAGES`` or ``CHECKPOINTS``.
        option: Of the command line, for the error.
    """
    check_target(folder, option=option)
    if not nearest_existing(Path(folder)).is_dir():
        raise ConfigError(f"Cannot write to {folder}: a file is in the way. Choose another {option}.")
    found = kind_of(Path(folder)) or _class_of(Path(folder))
    if found and found[0] not in kinds:
        raise _taken(folder, *found, option)


def check_replaceable_file(path: Path, kind: FileKind, *, option: str = "--out") -> None:
    """Raises a ConfigError if a file is there that is not of the kind that replaces it: it would be lost.

    Args:
        option: Of the command line, for the error.
    """
    check_target(path, option=option, is_appended=kind.is_appended)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, expected the name of a file. Choose another {option}.")
    if kind.suffixes and path.suffix.lower() not in kind.suffixes:
        raise ConfigError(f"{option} {path} is a {kind.name}; give it a name that ends in {kind.suffixes[0]}.")
    if not path.exists() or not path.stat().st_size:
        return
    try:
        if kind.is_own(path):
            return
    except Exception:
        pass
    loss = "nothing is written behind its end" if kind.is_appended else "it would be lost"
    raise ConfigError(f"{path} is there and is no {kind.name}; {loss}. Choose another {option}.")


def check_together(folder: Path, files: FilesTogether, *, option: str = "--out") -> None:
    """Raises a ConfigError if files of others are in a folder by the names of those that are written together there.

    Args:
        option: Of the command line, for the error.
    """
    with suppress(OSError):  # what cannot be written says so later
        finish_together(folder)
    description = folder / files.description
    check_replaceable_file(description, files.kind, option=option)
    theirs = next((folder / name for name in files.others if os.path.lexists(folder / name)), None)
    if theirs is not None and not (is_file(description) and description.stat().st_size):
        raise ConfigError(
            f"{theirs} is there and of no {files.kind.name}, for there is no {files.description} beside it; it would "
            f"be lost. Choose another {option}."
        )


def kind_of(folder: Path) -> tuple[str, str] | None:
    """Returns what a folder is, in words, and what in it says so; None where it is nothing that is known here."""
    folder = current_folder(folder)
    if not folder.is_dir():
        return None
    if found := _mark(folder):
        return found
    run = next((path for path in _folders(folder) if all(is_file(path / name) for name in _RUN)), None)
    if run is not None:
        return STORE, run.name
    classes = {one: _classes(one) for one in islice(_folders(folder), _LOOKED_AT)}
    if all(classes.values()) and len(set().union(*classes.values()) - _PICTURES) > 1:
        return IMAGES, next(iter(classes)).name
    return None


def _class_of(folder: Path) -> tuple[str, str] | None:
    """Returns the same of a folder of images that is a class, by what stands beside it."""
    above = kind_of(folder.resolve().parent) if _has_image(folder) else None
    return (f"a class of {IMAGES}", "images") if above and above[0] == IMAGES else None


def _mark(folder: Path) -> tuple[str, str] | None:
    marks = ((kind, names) for names, kind in _MARKS.items() if all(_is_mark(folder / name) for name in names))
    return next(((kind, names[0]) for kind, names in marks), None)


def _is_mark(file: Path) -> bool:
    keys = _KEYS.get(file.name)
    return is_file(file) and (keys is None or json_has_keys(file, keys))


def _folders(folder: Path) -> Iterator[Path]:
    """Yields the sub-folders that are not hidden, and no litter."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
    except OSError:  # of others, and not to be read
        return
    yield from (folder / name for name in found if not is_litter(name))


def _classes(folder: Path) -> set[str]:
    """Returns the folders of images that this one is, or holds if it is named like a subset; names in lower case."""
    if _has_image(folder):
        return {folder.name.lower()}
    inside = islice(_folders(folder), _LOOKED_AT) if subset_named(folder.name) else ()
    return {one.name.lower() for one in inside if _has_image(one)}


def _has_image(folder: Path) -> bool:
    names: Iterable[os.DirEntry[str]]
    try:
        with os.scandir(folder) as names:
            return any(is_image_name(one.name) for one in islice(names, _LOOKED_AT))
    except OSError:
        return False


def _taken(folder: AnyPath, kind: str, mark: str, option: str) -> ConfigError:
    return ConfigError(f"{folder} is {kind} (it holds {mark}) and takes no other files. Choose another {option}.")
