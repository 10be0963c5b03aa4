"""Class folder search, for downloads whose tree differs from copy to copy above and below the class folders."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.core.findings import Finding, finding
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.subset_folders import subset_named
from cytolora.data.walk import folders_in
from cytolora.errors import DataError

_MAX_DEPTH = 6
_SHOWN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolder:
    """A folder that is named after a class."""

    path: Path
    label: str
    subset: Subset | None
    """From the nearest folder above that is called train, val or test."""


def find_class_folders(path: Path, spec: DatasetSpec, *, max_depth: int = _MAX_DEPTH) -> list[ClassFolder]:
    """Finds the folders below ``path`` that are called like a class, sorted; looks into none of them."""
    return list(_search(path, class_names(spec), None, max_depth))


def read_class_folders(path: Path, spec: DatasetSpec, *, expected: str) -> Manifest:
    """Reads the images under class folders, however deep these stand and whatever stands below them.

    Paths are relative to the deepest folder that holds all class folders, wherever one points, so that equal images
    give equal draws.

    Args:
        expected: The layout, in words for the error.

    Raises:
        DataError: If there is no class folder, or one class stands inside another.
    """
    folders = find_class_folders(path, spec)
    if not folders:
        raise refusal(path, spec.title, expected)
    folders, findings = _one_of_each(path, spec.name, folders)
    root = Path(os.path.commonpath([folder.path.parent for folder in folders]))
    labels = class_names(spec)
    samples = [
        Sample(
            path=relative_path(image, root),
            label=folder.label,
            subset=folder.subset,
            group=spec.group_of(image.stem, folder.label) if spec.group_of else None,
        )
        for folder in folders
        for image in _images_below(folder, labels)
    ]
    return Manifest(
        name=spec.name,
        root=root,
        classes=spec.classes,
        samples=tuple(samples),
        group_rule=spec.group_rule if spec.group_of else "",
        split_rule="as the folders of the download say" if any(folder.subset for folder in folders) else "",
        findings=findings,
    )


def has_published_images(path: Path, spec: DatasetSpec, num_images: int, *, max_depth: int = 3) -> bool:
    """Says whether all class folders are there with so many images in all: for names that anyone may use."""
    folders = find_class_folders(path, spec, max_depth=max_depth)
    if {folder.label for folder in folders} != set(spec.classes):
        return False
    labels = class_names(spec)
    images = (image for folder in folders for image in _images_below(folder, labels))
    return sum(1 for _ in islice(images, num_images + 1)) == num_images


def plain(name: str) -> str:
    """Writes a name so that case, blanks, underscores and hyphens do not count."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def refusal(path: Path, title: str, expected: str) -> DataError:
    """Builds the error for a folder that is something else, with the first names found in it."""
    if not path.is_dir():
        return DataError(f"{path} is not {title}: it is no folder; expected {expected}.")
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    more = ", …" if len(names) > _SHOWN else ""
    return DataError(
        f"{path} is not {title}: it holds {', '.join(names[:_SHOWN]) or 'nothing'}{more}; expected {expected}."
    )


def class_names(spec: DatasetSpec) -> dict[str, str]:
    """Returns the classes by every name that they have, as ``plain`` writes it."""
    return {plain(name): label for label in spec.classes for name in (label, *spec.spellings.get(label, ()))}


def _search(folder: Path, labels: dict[str, str], subset: Subset | None, depth: int) -> Iterator[ClassFolder]:
    for child in sub_folders(folder):
        label = labels.get(plain(child.name))
        if label:
            yield ClassFolder(path=child, label=label, subset=subset)
        elif depth:
            yield from _search(child, labels, subset_named(child.name) or subset, depth - 1)


def sub_folders(folder: Path) -> list[Path]:
    """Lists the sub-folders that may hold data, sorted; empty for what cannot be read."""
    try:
        return folders_in(folder) if folder.is_dir() else []
    except DataError:
        return []


def subset_folders(folder: Path) -> list[tuple[Path, Subset | None]]:
    """Lists the sub-folders that are called train, val or test, each with its subset."""
    return [(one, subset) for one in sub_folders(folder) if (subset := subset_named(one.name))]


def _images_below(folder: ClassFolder, labels: dict[str, str]) -> Iterator[Path]:
    yield from images_in(folder.path)
    for child in sub_folders(folder.path):
        if labels.get(plain(child.name), folder.label) != folder.label:
            raise DataError(f"{child} is a class folder inside the folder of another class; move it out.")
        yield from _images_below(ClassFolder(path=child, label=folder.label, subset=folder.subset), labels)


def _one_of_each(path: Path, name: str, folders: list[ClassFolder]) -> tuple[list[ClassFolder], tuple[Finding, ...]]:
    """Leaves out what stands beside train, val and test, and says where a class is read from several folders."""
    inside = [folder for folder in folders if folder.subset]
    if inside:
        outside = [relative_path(folder.path, path) for folder in folders if not folder.subset]
        number = counted(len(outside), "class folder")
        text = f"{name}: {number} outside train, val and test {'is' if len(outside) == 1 else 'are'} left out."
        return inside, (finding("F204", text, count=len(outside), examples=outside),) * bool(outside)
    by_label: defaultdict[str, list[str]] = defaultdict(list)
    for folder in folders:
        by_label[folder.label].append(relative_path(folder.path, path))
    return folders, tuple(
        finding(
            "F208",
            f"{name}: class {label!r} is read from {len(paths)} folders, which may hold copies: {', '.join(paths)}.",
            count=len(paths),
            examples=paths,
        )
        for label, paths in by_label.items()
        if len(paths) > 1
    )
