"""Class folder reader: images in one folder per class, with or without train, val and test above them."""

from itertools import pairwise
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.core.findings import finding
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import SUBSET_NAMES, folders_in, images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError


def read_folder(path: Path) -> Manifest:
    """Reads ``class/image`` or ``subset/class/image``; classes are the folder names, sorted.

    Raises:
        DataError: If a class folder is empty, or sub-folders are subsets in part only.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected one with a sub-folder of images for each class.")
    folders = folders_in(path)
    if not folders:
        raise DataError(f"{path} has no sub-folders; expected one for each class, or train, val and test above these.")
    subsets: dict[Path, Subset | None] = {folder: SUBSET_NAMES.get(folder.name.lower()) for folder in folders}
    if not any(subsets.values()):
        samples, split_rule = _read_classes(path, None, path), ""
    else:
        _check_all_are_subsets(path, subsets)
        samples = [sample for folder, subset in subsets.items() for sample in _read_classes(folder, subset, path)]
        split_rule = "train, val and test as the folders say"
    loose = images_in(path)
    left_out = [
        finding(
            "F204",
            f"{path}: {len(loose)} images outside the class folders are left out.",
            count=len(loose),
            examples=[relative_path(image, path) for image in loose],
        )
    ]
    return Manifest(
        name=path.resolve().name,
        root=path,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=tuple(samples),
        split_rule=split_rule,
        findings=tuple(left_out) if loose else (),
    )


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
        if not images:
            deeper = " Images deeper down are not read; list them in a CSV file." if folders_in(folder) else ""
            raise DataError(f"{folder} is a class without images; fill it or remove it.{deeper}")
        samples += [Sample(path=relative_path(image, root), label=folder.name, subset=subset) for image in images]
    return samples


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
