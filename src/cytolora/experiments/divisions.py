"""Divisions of the datasets of a store: the split file of every division, kept once beside the runs that used it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cytolora.config.run import SUBSETS
from cytolora.core.files import sha256_file, sha256_text, write_text
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.data.splitting.split_files import split_text
from cytolora.errors import StoreError
from cytolora.experiments.store import unwritable
from cytolora.metrics.units import unit_names

FOLDER = ".splits"
"""Within a store; a file is named by its SHA-256."""


def keep_division(runs_dir: Path, manifest: Manifest) -> str:
    """Writes the split file of a divided dataset where the store lacks it; returns its SHA-256."""
    text = split_text(manifest)
    sha256 = sha256_text(text)
    if kept_division(runs_dir, sha256) is None:
        path = runs_dir / FOLDER / f"{sha256}.csv"
        try:
            write_text(path, text)
        except OSError as error:
            raise unwritable(runs_dir, error) from error
    return sha256


def kept_division(runs_dir: Path, sha256: str) -> Path | None:
    """Returns the split file of a division; None where it is missing or not as it was written.

    Raises:
        StoreError: If it cannot be read.
    """
    path = runs_dir / FOLDER / f"{sha256}.csv"
    try:
        return path if path.is_file() and sha256_file(path) == sha256 else None
    except OSError as error:
        raise _unreadable(path, error) from error


def kept_divisions(runs_dir: Path) -> dict[str, bytes]:
    """Reads the split files of a store by their names; what is not as it was written is left out.

    Raises:
        StoreError: If one cannot be read.
    """
    found = {}
    for path in sorted((runs_dir / FOLDER).glob("*.csv")):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error) from error
        if hashlib.sha256(content).hexdigest() == path.stem:
            found[path.name] = content
    return found


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(f"Cannot read {path}: {error.strerror or error}. Make it readable.")


def counts_of_subsets(manifest: Manifest) -> dict[str, dict[str, int]]:
    """Counts the images of each subset, and the sampling units (groups, or images of unknown group) they come from."""
    return {
        subset: {
            "images": len(samples),
            "units": len(set(unit_names([one.group for one in samples], [one.path for one in samples]))),
        }
        for subset in SUBSETS
        if (samples := manifest.subset(subset))
    }


def counts(split: Split) -> dict[str, dict[str, dict[str, int]]]:
    """Counts the distinct images and known groups of each class in train, val and test."""
    parts = {"train": split.train, "val": split.val, "test": split.test}
    return {subset: _by_class(samples) for subset, samples in parts.items()}


def _by_class(samples: Iterable[Sample]) -> dict[str, Any]:
    images, groups = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for sample in samples:
        images[sample.label].add(sample.path)
        groups[sample.label].update({sample.group} if sample.group is not None else ())
    return {label: {"images": len(images[label]), "groups": len(groups[label])} for label in sorted(images)}
