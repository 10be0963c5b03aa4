"""BMT: 600 ThinPrep fields of 180 patients in three grades, as downloaded from Synapse."""

import re
from pathlib import Path

from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import find_class_folders, has_published_images, read_class_folders, refusal
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec

_EXPECTED_COUNTS = {"NILM": 200, "LSIL": 200, "HSIL": 200}
"""Welch et al. 2024."""

_IMAGES = "Brown Multicellular ThinPrep Database - images"
"""The folder of the download, as public code calls it."""

_PREFIXES = {"nilm": "NILM", "nil": "NILM", "lsil": "LSIL", "hsil": "HSIL"}
_NAME = re.compile(r"(nilm|nil|lsil|hsil)(?![a-z])", re.IGNORECASE)

_EXPECTED = f"the folders NILM (or NIL), LSIL and HSIL, or {_IMAGES!r} with files named after these"


def read_bmt(path: Path) -> Manifest:
    """Reads class folders at any depth, else files whose names begin with the class.

    Raises:
        DataError: If there are neither.
    """
    if find_class_folders(path, BMT):
        return read_class_folders(path, BMT, expected=_EXPECTED)
    root = path / _IMAGES if (path / _IMAGES).is_dir() else path
    samples = [
        Sample(path=relative_path(image, root), label=_PREFIXES[match.group(1).lower()])
        for image in (images_in(root) if root.is_dir() else ())
        if (match := _NAME.match(image.name))
    ]
    if not samples:
        raise refusal(path, BMT.title, _EXPECTED)
    return Manifest(name=BMT.name, root=root, classes=BMT.classes, samples=tuple(samples))


def _looks_like(path: Path) -> bool:
    return (path / _IMAGES).is_dir() or has_published_images(path, BMT, sum(_EXPECTED_COUNTS.values()))


BMT = DatasetSpec(
    name="bmt",
    title="BMT (Brown multicellular ThinPrep)",
    read=read_bmt,
    looks_like=_looks_like,
    description="600 fields of many cells, cervix, ThinPrep, 1920 x 1080 px, 180 patients.",
    classes=tuple(_EXPECTED_COUNTS),
    expected_counts=_EXPECTED_COUNTS,
    group_rule="groups cannot be known; 600 fields of 180 patients, so that a split by image is not honest",
    order=("NILM", "LSIL", "HSIL"),
    order_source=(
        "grades of squamous lesions in Nayar & Wilbur: The Bethesda System for Reporting Cervical Cytology, 3rd ed., "
        "Springer 2015"
    ),
    licence="not stated where we could see it",
    citation=(
        "Welch, Lu, Sung, Zhang, Tripathi, Ou: BMT: A cross-validated ThinPrep Pap cervical cytology dataset for "
        "machine learning model training and validation. Scientific Data 11 (2024); doi:10.1038/s41597-024-04328-3."
    ),
    page="https://www.synapse.org/Synapse:syn55259257",
    how_to_get="Sign in to Synapse, download the folder of images (syn55262661), and point at it with --dataset bmt.",
    spellings={"NILM": ("NIL",)},
    verified=False,
)
