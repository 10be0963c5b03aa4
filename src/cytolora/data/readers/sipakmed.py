"""SIPaKMeD: 4,049 single cells cut out of 966 cluster images, as downloaded from Kaggle or the authors."""

import re
from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import plain, refusal, sub_folders
from cytolora.data.readers.layout import images_in, relative_path
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

_EXPECTED = "the five folders im_Dyskeratotic … im_Superficial-Intermediate, each with CROPPED/*.bmp inside"


def read_sipakmed(path: Path) -> Manifest:
    """Reads ``im_<Class>/CROPPED/*.bmp`` or ``im_<Class>/im_<Class>/CROPPED/*.bmp``; nothing outside CROPPED.

    Raises:
        DataError: If the five class folders are not all there, or hold cluster images and no cells.
    """
    classes = _class_folders(path)
    if len(classes) < len(_EXPECTED_COUNTS):
        raise _wrong_place(path, classes)
    samples: list[Sample] = []
    for label in _EXPECTED_COUNTS:
        folder = _cropped(classes[label])
        if folder is None:
            raise _cluster_images(classes[label])
        samples += [
            Sample(path=relative_path(image, path), label=label, group=_group(image.stem, label))
            for image in images_in(folder)
            if image.suffix.lower() == ".bmp"
        ]
    return Manifest(
        name=SIPAKMED.name, root=path, classes=SIPAKMED.classes, samples=tuple(samples), group_rule=SIPAKMED.group_rule
    )


def _class_folders(path: Path) -> dict[str, Path]:
    labels = {plain(_PREFIX + label): label for label in _EXPECTED_COUNTS}
    return {labels[plain(folder.name)]: folder for folder in sub_folders(path) if plain(folder.name) in labels}


def _cropped(folder: Path) -> Path | None:
    for parent in (folder, folder / folder.name):
        if (parent / _CROPPED).is_dir():
            return parent / _CROPPED
    return None


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
        f"Point at the folder that holds {_EXPECTED}; the cells themselves are in {_CROPPED}."
    )


SIPAKMED = DatasetSpec(
    name="sipakmed",
    title="SIPaKMeD",
    read=read_sipakmed,
    looks_like=lambda path: len(_class_folders(path)) > 1,
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
