"""SIPaKMeD: 4,049 single cells cut out of 966 cluster images, as downloaded from Kaggle or the authors."""

import re
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import plain, refusal, sub_folders, subset_folders
from cytolora.data.readers.layout import child_named, images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import DataError

_PREFIX = "im_"
_CROPPED = "CROPPED"

_EXPECTED_COUNTS = {
    "Dyskeratotic": 813,
    "Koilocytotic": 825,
    "Metaplastic": 793,
    "Parabasal": 787,
    "Superficial-Intermediate": 831,
}
"""https://www.cs.uoi.gr/~marina/sipakmed.html; in the order of Dausort et al. 2025, reference datasets/sipakmed.py."""

_CELL = re.compile(r"(\d+)_\d+")

_EXPECTED = "the five folders im_Dyskeratotic … im_Superficial-Intermediate, each with the cells in CROPPED"


def read_sipakmed(path: Path) -> Manifest:
    """Reads the images in ``im_<Class>/CROPPED`` or ``im_<Class>/im_<Class>/CROPPED``; nothing outside CROPPED.

    Where there is no CROPPED, the cells are those named like one, ``001_01``; ``001`` is a cluster image. Train, val
    and test may stand above the five folders.

    Raises:
        DataError: If the five class folders are not all there, or hold cluster images and no cells.
    """
    samples: list[Sample] = []
    for root, subset in _roots(path):
        classes = _class_folders(root)
        if len(classes) < len(_EXPECTED_COUNTS):
            raise _wrong_place(root, classes)
        samples += [
            Sample(path=relative_path(image, path), label=label, subset=subset, group=_group(image.stem, label))
            for label in _EXPECTED_COUNTS
            for image in _cells(classes[label])
        ]
    return Manifest(
        name=SIPAKMED.name,
        root=path,
        classes=SIPAKMED.classes,
        samples=tuple(samples),
        group_rule=SIPAKMED.group_rule,
        split_rule="train, val and test as the folders say" if any(sample.subset for sample in samples) else "",
    )


def _roots(path: Path) -> list[tuple[Path, Subset | None]]:
    """Lists the folders that hold the five: this one, or train, val and test in it."""
    return [one for one in subset_folders(path) if _class_folders(one[0])] or [(path, None)]


def _class_folders(path: Path) -> dict[str, Path]:
    labels = {plain(_PREFIX + label): label for label in _EXPECTED_COUNTS}
    return {labels[plain(folder.name)]: folder for folder in sub_folders(path) if plain(folder.name) in labels}


def _cells(folder: Path) -> list[Path]:
    """Lists the cells of a class.

    Raises:
        DataError: If there are cluster images only.
    """
    parents = (folder, *(child for child in sub_folders(folder) if plain(child.name) == plain(folder.name)))
    for parent in parents:
        cropped = child_named(parent, _CROPPED)
        if cropped is not None:
            return images_in(cropped)
    cells = [image for parent in parents for image in images_in(parent) if _CELL.fullmatch(image.stem)]
    if not cells:
        raise _cluster_images(folder)
    return cells


def _group(stem: str, label: str) -> str | None:
    match = _CELL.fullmatch(stem)
    return f"{label}_{match.group(1)}" if match else None


def _wrong_place(path: Path, classes: dict[str, Path]) -> DataError:
    names = {plain(_PREFIX + label) for label in _EXPECTED_COUNTS}
    here = path.resolve()
    one_class = next((folder for folder in (*reversed(here.parents), here) if plain(folder.name) in names), None)
    if one_class is not None:
        return DataError(
            f"{path} is one class of SIPaKMeD; point at {one_class.parent}, the folder that holds all five."
        )
    if classes:
        absent = next(label for label in _EXPECTED_COUNTS if label not in classes)
        return DataError(f"{path} has no folder {_PREFIX}{absent}; unpack all five downloads of SIPaKMeD into it.")
    return refusal(path, SIPAKMED.title, _EXPECTED)


def _cluster_images(folder: Path) -> DataError:
    return DataError(
        f"{folder} has no folder {_CROPPED}: these look like SIPaKMeD's cluster images. "
        f"Point at the folder that holds {_EXPECTED}; the cells themselves are in {_CROPPED}, or are named 001_01."
    )


SIPAKMED = DatasetSpec(
    name="sipakmed",
    title="SIPaKMeD",
    read=read_sipakmed,
    looks_like=lambda path: any(len(_class_folders(root)) > 1 for root, _ in _roots(path)),
    description="4,049 single cells, cervix, Papanicolaou stain, BMP, cut out of 966 cluster images.",
    classes=tuple(_EXPECTED_COUNTS),
    expected_counts=_EXPECTED_COUNTS,
    group_rule=(
        "the cluster image that a cell was cut from: its class and the number before the underscore; "
        "patients cannot be known"
    ),
    group_of=_group,
    licence="no licence text; free for experiments with the request to cite",
    citation=(
        "Plissiti, Dimitrakopoulos, Sfikas, Nikou, Krikoni, Charchanti: SIPAKMED: a new dataset for feature and image "
        "based classification of normal and pathological cervical cells in Pap smear images. ICIP 2018."
    ),
    page="https://www.cs.uoi.gr/~marina/sipakmed.html",
    how_to_get=(
        "Download the five archives, one for each class, unpack them into one folder and point at it. "
        "The copy kaggle.com/datasets/prahladmehandiratta/cervical-cancer-largest-dataset-sipakmed is read as well."
    ),
    spellings={label: (_PREFIX + label,) for label in _EXPECTED_COUNTS},
)
