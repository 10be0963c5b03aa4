"""Output targets: files and folders that are written to, checked before anything of somebody else's is lost or mixed.

Two kinds of targets: a file or folder that is replaced whole (``check_target``; who replaces it knows its own), and a
folder that something is put into, beside what is there (``check_shared``).
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from cytolora.core.arguments import AnyPath
from cytolora.core.folders import current_folder
from cytolora.core.litter import is_litter
from cytolora.core.strict_json import read_json
from cytolora.data.formats import is_image_name
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
_KEYS = {"export.json": {"files", "classes"}, "weights.json": {"checkpoints"}, "_manifest.json": {"shard_size"}}
"""Of files whose names others use too: what the JSON in ours holds."""
_MAX_BYTES = 2**26
"""Of such a file."""
_RUN = ("spec.json", "metrics.json")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|(hf|hub|huggingface|https?|s3|gs|gcs|az|abfs|file|ftp|ssh):", re.I)
"""``Path`` makes one slash of two. A single letter before the colon is a disk of Windows."""
_LOOKED_AT = 1000
"""Entries of a folder in which images are looked for."""


def looks_like_address(path: AnyPath) -> bool:
    """Whether this begins like an address of a network or hub, not like a path of this machine."""
    return _ADDRESS.match(str(path)) is not None


def check_target(path: AnyPath, *, option: str = "--out") -> None:
    """Raises a ConfigError if a file or folder is no place to write to: an address, or inside of a model.

    A model with another file in it would never open again.

    Args:
        option: Of the command line, for the error.
    """
    if looks_like_address(path):
        raise ConfigError(
            f"{option} {path} is an address, expected a file or folder of this machine: nothing is written elsewhere. "
            "Name one, and copy what was written."
        )
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
    found = kind_of(Path(folder))
    if found and found[0] not in kinds:
        raise _taken(folder, *found, option)


def check_replaceable_file(path: Path, what: str, is_own: Callable[[Path], bool], *, option: str = "--out") -> None:
    """Raises a ConfigError if a file is there that is not of the kind that replaces it: it would be lost.

    Args:
        what: The kind in words, such as ``zip file of stored runs``.
        is_own: Whether a file is of the kind; may raise what reading another one raises.
        option: Of the command line, for the error.
    """
    check_target(path, option=option)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder, expected the name of a file. Choose another {option}.")
    if not path.exists() or not path.stat().st_size:
        return
    try:
        if is_own(path):
            return
    except Exception:
        pass
    raise ConfigError(f"{path} is there and is no {what}; it would be lost. Choose another {option}.")


def kind_of(folder: Path) -> tuple[str, str] | None:
    """Returns what a folder is, in words, and what in it says so; None where it is nothing that is known here."""
    folder = current_folder(folder)
    if not folder.is_dir():
        return None
    if found := _mark(folder):
        return found
    run = next((path for path in _folders(folder) if all((path / name).is_file() for name in _RUN)), None)
    if run is not None:
        return STORE, run.name
    classes = list(islice(_folders(folder), _LOOKED_AT))
    if classes and all(map(_holds_images, classes)):
        return IMAGES, classes[0].name
    return None


def _mark(folder: Path) -> tuple[str, str] | None:
    marks = ((kind, names) for names, kind in _MARKS.items() if all(_is_mark(folder / name) for name in names))
    return next(((kind, names[0]) for kind, names in marks), None)


def _is_mark(file: Path) -> bool:
    if not file.is_file():
        return False
    if (keys := _KEYS.get(file.name)) is None:
        return True
    try:
        held = read_json(file.read_bytes()) if file.stat().st_size <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(held, dict) and keys <= held.keys()


def _folders(folder: Path) -> Iterator[Path]:
    """Yields the sub-folders that are not hidden, and no litter."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(one.name for one in entries if one.is_dir() and not one.name.startswith("."))
    except OSError:  # of others, and not to be read
        return
    yield from (folder / name for name in found if not is_litter(name))


def _holds_images(folder: Path) -> bool:
    """Whether a folder holds images, or is named like a subset and its sub-folders do (``train/hsil``)."""
    inside = islice(_folders(folder), _LOOKED_AT) if subset_named(folder.name) else ()
    return _has_image(folder) or any(map(_has_image, inside))


def _has_image(folder: Path) -> bool:
    names: Iterable[os.DirEntry[str]]
    try:
        with os.scandir(folder) as names:
            return any(is_image_name(one.name) for one in islice(names, _LOOKED_AT))
    except OSError:
        return False


def _taken(folder: AnyPath, kind: str, mark: str, option: str) -> ConfigError:
    return ConfigError(f"{folder} is {kind} (it holds {mark}) and takes no other files. Choose another {option}.")
