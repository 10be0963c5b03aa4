"""Class folder reader: images in one folder per class, with or without train, val and test above them."""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.data.formats import TABLE_SUFFIXES, suffix_of
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.subset_folders import subset_named, subsets_of
from cytolora.data.readers.tables import how_to_name
from cytolora.data.walk import files_in, folders_in, has_images, has_images_in
from cytolora.errors import DataError

NO_CLASSES = frozenset(
    (
        *(
            "images",
            "image",
            "imgs",
            "img",
            "pictures",
            "pics",
            "photos",
            "photographs",
            "jpegimages",
            "data",
            "dataset",
        ),
        *("thumbnails", "thumbs", "raw", "unlabelled", "unlabeled"),
    )
)
"""Folders that are named after what they hold, in lower case: no class is called so."""

_LEFTOVER = re.compile(
    r"(?:new folder|untitled folder|neuer ordner|nouveau dossier|nueva carpeta)(?: \(?\d+\)?)?|backups?"
    r"|.+ - (?:copy|kopie|copie|copia)(?: \(\d+\))?|.+ copy(?: \d+)?|(?:copy|kopie|copie|copia) (?:of|von|de|di) .+",
    re.IGNORECASE,
)
"""Folders that file managers make: copies of others, and new ones that nobody named."""

_GROUP_NAME = re.compile(
    r"(?:pat|patient|subject|donor|slide|wsi|case|smear|specimen|field|fov|pid|person|participant|individual)s?"
    r"(?:[ _\-]?(?:id|no|nr))?[ _\-]?[a-z]{0,2}\d+[a-z]?",
    re.IGNORECASE,
)
"""``slide01``, ``patient_3``, ``Case 12a``: patients, slides or fields."""
_NUMBERED_CLASS = re.compile(r"(cin|grade|class|stage|type|pap|level|cluster|g|c|t|l|m)[ _\-]?\d{1,2}", re.IGNORECASE)
"""Classes that end in a number; L1 to L3 and M0 to M7 are leukaemias (FAB)."""


def read_folder(path: Path) -> Manifest:
    """Reads ``class/image`` or ``subset/class/image``; classes are the folder names, sorted.

    Raises:
        DataError: If a class folder is empty or named after no class, or sub-folders are subsets in part only.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one with a sub-folder of images for each class.")
    folders = folders_in(path)
    if not folders:
        raise DataError(f"{path} has no sub-folders; expected one for each class, or train, val and test above these.")
    subsets = subsets_of(path, folders)
    if not any(subsets.values()):
        samples, split_rule = _read_classes(path, None, path), ""
    else:
        _check_all_are_subsets(path, subsets)
        samples = [sample for folder, subset in subsets.items() for sample in _read_classes(folder, subset, path)]
        split_rule = "train, val and test as the folders say"
    return Manifest(
        name=path.resolve().name,
        root=path,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=tuple(samples),
        split_rule=split_rule,
    )


def are_groups(names: Iterable[str]) -> bool:
    """Whether all names are those of patients, slides or fields, by a word and a number."""
    listed = list(names)
    return bool(listed) and all(_GROUP_NAME.fullmatch(name) for name in listed)


def are_numbered(names: Iterable[str]) -> bool:
    """Whether all names are one word with different numbers, or numbers of three digits, which no classes are."""
    listed = list(names)
    if len(listed) < 2 or all(map(_NUMBERED_CLASS.fullmatch, listed)):
        return False
    stems = {name.rstrip("0123456789") for name in listed}
    is_one_word = len(stems) == 1 and all(name[-1:].isdigit() for name in listed)
    return is_one_word and (stems != {""} or all(len(name) > 2 for name in listed))


def holds_classes(path: Path) -> bool:
    """Whether images stand in its sub-folders, or one level deeper below train, val or test."""
    folders = folders_in(path)
    inner = [one for folder in folders if subset_named(folder.name) for one in folders_in(folder)]
    return any(has_images_in(folder) for folder in (*folders, *inner))


def _check_all_are_subsets(path: Path, subsets: dict[Path, Subset | None]) -> None:
    other = next((folder.name for folder, subset in subsets.items() if subset is None), None)
    if other is not None:
        raise DataError(f"{path} mixes subsets (train, val, test) with another folder, {other!r}; move it away.")
    for (first, one), (second, two) in pairwise(sorted(subsets.items(), key=lambda item: str(item[1]))):
        if one == two:
            raise DataError(f"{path} has {first.name!r} and {second.name!r}, two folders for {one}; keep one of them.")


def _read_classes(parent: Path, subset: Subset | None, root: Path) -> list[Sample]:
    classes = folders_in(parent)
    if not classes:
        raise DataError(f"{parent} has no class folders; expected one sub-folder of images for each class.")
    samples = []
    for folder in classes:
        images = images_in(folder)
        if folder.name.lower() in NO_CLASSES or _LEFTOVER.fullmatch(folder.name):
            raise _no_class(folder, root)
        if not images:
            deeper = " Images deeper down are not read; list them in a CSV file." if has_images(folder) else ""
            raise DataError(f"{folder} is a class without images; fill it or remove it.{deeper}")
        samples += [Sample(path=relative_path(image, root), label=folder.name, subset=subset) for image in images]
    return samples


def _no_class(folder: Path, root: Path) -> DataError:
    expected = f"{folder} is no class by its name; expected one sub-folder of images for each class, named after it"
    tables = [file for file in files_in(root) if suffix_of(file.name) in TABLE_SUFFIXES]
    if tables:
        return DataError(f"{expected}. {tables[0].name} is not read. {how_to_name(tables[0])}.")
    return DataError(
        f"{expected}, or a table manifest.csv with columns path,label. Rename the folder, or move it away."
    )


def _looks_like(path: Path) -> bool:
    return path.is_dir() and bool(folders_in(path))


FOLDER = DatasetSpec(
    name="folder",
    title="Class folders of one's own",
    read=read_folder,
    looks_like=_looks_like,
    description="A folder with one sub-folder of images for each class, or train, val and test above these.",
    licence="your own",
    generic=True,
)
