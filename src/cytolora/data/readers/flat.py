"""The flattened layout of the paper's code: ``images/{train,val,test}/<class>_<number>.<ext>``."""

import re
from collections import Counter
from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.exports import why_refused
from cytolora.data.readers.folder import are_groups, are_numbered
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.subset_folders import subset_named
from cytolora.data.walk import folders_in
from cytolora.errors import DataError

_EXPECTED = "images/train, images/val and images/test with files named <class>_<number>"

_NUMBERED = re.compile(r"[^_]+_[\d_ ().\-]*\d[\d_ ().\-]*")
_MOSTLY = 0.8
"""Share of the files with such names, from which a folder is taken for this layout."""


def read_flat(path: Path) -> Manifest:
    """Reads the folder that holds ``images``, or ``images`` itself; the class stands before the first underscore.

    Raises:
        DataError: If a file has no underscore in its name, or what stands before it is a slide or patient.
    """
    root = _images(path)
    if root is None:
        raise refusal(path, FLAT.title, _EXPECTED)
    refused = why_refused(path) or why_refused(root.parent)
    if refused:
        raise DataError(refused)
    _refuse_groups(root)
    samples = [
        Sample(path=relative_path(image, root), label=_label(image), subset=subset)
        for folder in _subsets(root)
        if (subset := subset_named(folder.name))
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


def _refuse_groups(root: Path) -> None:
    """Refuses names of one word with different numbers, ``slide01``, ``slide02``: slides or patients, not classes."""
    prefixes = Counter(image.stem.partition("_")[0] for subset in _subsets(root) for image in images_in(subset))
    if are_groups(prefixes) or are_numbered(prefixes) or 2 * len(prefixes) > prefixes.total():
        names = ", ".join(sorted(prefixes)[:3])
        raise DataError(
            f"{root}: the files are named after {names}, …: slides or patients, it seems, not classes ({_EXPECTED}). "
            "Make a table manifest.csv with columns path,label,group."
        )


def _subsets(root: Path) -> list[Path]:
    return [folder for folder in folders_in(root) if subset_named(folder.name)] if root.is_dir() else []


def _images(path: Path) -> Path | None:
    """Finds the folder of two subsets or more, each of images alone, most of them called by class and number."""
    for root in (path / "images", path):
        subsets = _subsets(root)
        if len(subsets) > 1 and not any(map(folders_in, subsets)):
            stems = [[image.stem for image in images_in(folder)] for folder in subsets]
            numbered = sum(_NUMBERED.fullmatch(stem) is not None for some in stems for stem in some)
            if all(stems) and numbered >= _MOSTLY * sum(map(len, stems)):
                return root
    return None


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
