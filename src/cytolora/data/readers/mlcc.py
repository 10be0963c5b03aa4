"""MLCC: 963 microscope fields of liquid-based cytology in four classes, as downloaded from Mendeley Data."""

import re
from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import find_class_folders, read_class_folders
from cytolora.data.readers.layout import images_in
from cytolora.data.readers.spec import DatasetSpec

_EXPECTED_COUNTS = {"HSIL": 163, "LSIL": 113, "NL": 613, "SCC": 74}
"""https://data.mendeley.com/datasets/zddtpgzv63/4; in the order of Dausort et al. 2025, reference datasets."""

_NAME = re.compile(r"(HSIL|LSIL|NL|SCC)_(\d+)_? ?\(\d+\)", re.IGNORECASE)
"""``NL_9_ (8)``, ``HSIL_1 (10)`` and, in lower case, ``scc_2 (15)``."""


def read_mlcc(path: Path) -> Manifest:
    """Reads the four class folders, under their full names or HSIL, LSIL, NL and SCC, at any depth.

    Raises:
        DataError: If there are none.
    """
    return read_class_folders(
        path,
        MLCC,
        expected="the four class folders, such as 'High squamous intra-epithelial lesion'",
    )


def _group(stem: str, label: str) -> str | None:
    match = _NAME.fullmatch(stem)
    return f"{label}_{match.group(2)}" if match else None


def _looks_like(path: Path) -> bool:
    folders = find_class_folders(path, MLCC, max_depth=3)
    if {folder.label for folder in folders} != set(_EXPECTED_COUNTS):
        return False
    return any(_NAME.fullmatch(image.stem) for folder in folders for image in images_in(folder.path))


MLCC = DatasetSpec(
    name="mlcc",
    title="MLCC (Mendeley liquid-based cytology)",
    read=read_mlcc,
    looks_like=_looks_like,
    description="963 whole microscope fields, cervix, liquid-based, Papanicolaou stain, JPEG, 40x, 460 patients.",
    classes=tuple(_EXPECTED_COUNTS),
    expected_counts=_EXPECTED_COUNTS,
    group_rule=(
        "class and the first number of the file name, taken to mean a batch or slide; this is an inference from the "
        "names, nobody documents it, and the 460 patients cannot be known"
    ),
    group_of=_group,
    order=("NL", "LSIL", "HSIL", "SCC"),
    order_source=(
        "grades of squamous lesions in Nayar & Wilbur: The Bethesda System for Reporting Cervical Cytology, 3rd ed., "
        "Springer 2015"
    ),
    licence="CC BY 4.0",
    citation=(
        "Hussain, Mahanta, Borah, Das: Liquid based-cytology Pap smear dataset for automated multi-class diagnosis of "
        "pre-cancerous and cervical cancer lesions. Data in Brief 30 (2020) 105589; doi:10.17632/zddtpgzv63.4."
    ),
    page="https://data.mendeley.com/datasets/zddtpgzv63/4",
    how_to_get="Click 'Download all', and point at the zip file, or unpack it and point at the folder.",
    spellings={
        "HSIL": ("High squamous intra-epithelial lesion",),
        "LSIL": ("Low squamous intra-epithelial lesion",),
        "NL": ("Negative for Intraepithelial malignancy", "NILM"),
        "SCC": ("Squamous cell carcinoma",),
    },
)
