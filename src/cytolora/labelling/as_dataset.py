"""Labelling projects where a dataset is expected: the agreed labels, and what cannot be asked for there."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.arguments import AnyPath
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError
from cytolora.labelling.project import LABELS, is_project


def read_dataset_or_project(
    path: Path,
    dataset: str | None = None,
    *,
    split: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
    strict: bool = False,
) -> Manifest:
    """Reads a dataset as ``load_manifest``, and a project as its agreed labels with subsets and groups.

    Args:
        split: File that says which image is for what: refused for a project; the caller applies it, after a label map.

    Raises:
        ConfigError: If something is asked for that a project has settled.
        DataError: As of ``load_manifest``; or nothing in the project is labelled.
    """
    folder = project_at(path)
    if folder is None:
        return load_manifest(path, dataset, reading=reading, strict=strict)
    from cytolora.labelling.export import read_agreed

    check_nothing_asked(folder, reading, dataset=dataset, split=split)
    return read_agreed(folder)


def project_at(path: Path) -> Path | None:
    """Returns the folder of the project that is meant, by itself or by its ``labels.csv``; None: there is none."""
    if is_project(path):
        return path
    return path.parent if path.name == LABELS and is_project(path.parent) else None


def check_nothing_asked(folder: Path, reading: ReadOptions, **asked: Any) -> None:
    """Refuses what a project has settled, instead of ignoring it.

    Args:
        asked: Values by option; None is one that was not given.

    Raises:
        ConfigError: If one is given.
    """
    of_reading: Mapping[str, Any] = {
        "groups_from": reading.groups_from,
        "group_column": reading.group_column,
        "subset_column": reading.subset_column,
        "decoding of images": None if reading.decoding == AS_IT_STANDS.decoding else reading.decoding,
    }
    twice = next((name for name, value in {**asked, **of_reading}.items() if value is not None), None)
    if twice is not None:
        option = twice if " " in twice else f"--{twice.replace('_', '-')}"
        raise ConfigError(
            f"{folder} is a labelling project: its cells, groups and test cells are settled, and {option} asks for "
            "others. Leave it out."
        )
