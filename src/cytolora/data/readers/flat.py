"""The flattened layout of the paper's code: ``images/{train,val,test}/<class>_<number>.<ext>``."""

from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.layout import SUBSET_NAMES, folders_in, images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

_EXPECTED = "images/train, images/val and images/test with files named <class>_<number>"


def read_flat(path: Path) -> Manifest:
    """Reads the folder that holds ``images``, or ``images`` itself; the class stands before the first underscore.

    Raises:
        DataError: If a file has no underscore in its name.
    """
    root = _images(path)
    if root is None:
        raise refusal(path, FLAT.title, _EXPECTED)
    samples = [
        Sample(path=relative_path(image, root), label=_label(image), subset=SUBSET_NAMES[folder.name.lower()])
        for folder in folders_in(root)
        if folder.name.lower() in SUBSET_NAMES
        for image in images_in(folder)
    ]
    return Manifest(
        name=root.resolve().parent.name,
        root=root,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=tuple(samples),
        split_rule="train, val and test as the folders say",
    )


def _label(image: Path) -> str:
    label, underscore, _ = image.stem.partition("_")
    if not (label and underscore):
        raise DataError(f"{image} has no class in its name; expected <class>_<number>{image.suffix}.")
    return label


def _images(path: Path) -> Path | None:
    for root in (path / "images", path):
        subsets = [folder for folder in (root / name for name in SUBSET_NAMES) if folder.is_dir()]
        if len(subsets) > 1 and all(map(_is_flat, subsets)):
            return root
    return None


def _is_flat(folder: Path) -> bool:
    images = images_in(folder)
    return bool(images) and "_" in images[0].stem and not folders_in(folder)


FLAT = DatasetSpec(
    name="flat",
    title="The flattened layout of Dausort et al. 2025",
    read=read_flat,
    looks_like=lambda path: path.is_dir() and _images(path) is not None,
    description=f"{_EXPECTED}, as github.com/mdausort/Cytology-fine-tuning asks for.",
    group_rule="groups cannot be known: the images were renamed",
    licence="that of the images",
    generic=True,
)
