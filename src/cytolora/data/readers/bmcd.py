"""BMCD: 171,374 single cells of bone marrow smears in 21 classes, as downloaded from TCIA or Kaggle."""

from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import find_class_folders, read_class_folders
from cytolora.data.readers.spec import DatasetSpec

_CLASSES = (
    *("ABE", "ART", "BAS", "BLA", "EBO", "EOS", "FGC", "HAC", "KSC", "LYI", "LYT"),
    *("MMZ", "MON", "MYB", "NGB", "NGS", "NIF", "OTH", "PEB", "PLM", "PMO"),
)
"""In the order of the collection's abbreviations.csv, which is the alphabet's."""

_ENOUGH = 15
"""Class folders by which the collection is known; rare classes are left out of some copies."""


def read_bmcd(path: Path) -> Manifest:
    """Reads ``<CLASS>/…/<CLASS>_00001.jpg``, with or without folders such as ``0001-1000`` in between.

    Raises:
        DataError: If there are no class folders.
    """
    return read_class_folders(path, BMCD, expected="bone_marrow_cell_dataset with its 21 class folders ABE … PMO")


def _looks_like(path: Path) -> bool:
    return len({folder.label for folder in find_class_folders(path, BMCD, max_depth=3)}) >= _ENOUGH


BMCD = DatasetSpec(
    name="bmcd",
    title="BMCD (bone marrow cytology)",
    read=read_bmcd,
    looks_like=_looks_like,
    description="171,374 single cells, bone marrow, May-Grünwald-Giemsa, JPEG, 945 patients.",
    classes=_CLASSES,
    expected_total=171_374,  # Matek et al. 2021; TCIA's page says 171,375
    group_rule="groups cannot be known: the 945 patients are not in the names",
    licence="CC BY 4.0",
    citation=(
        "Matek, Krappe, Münzenmayer, Haferlach, Marr: An expert-annotated dataset of bone marrow cytology in "
        "hematologic malignancies. The Cancer Imaging Archive (2021); doi:10.7937/TCIA.AXH3-T579."
    ),
    page="https://www.cancerimagingarchive.net/collection/bone-marrow-cytomorphology_mll_helmholtz_fraunhofer/",
    how_to_get=(
        "Install the IBM Aspera Connect plug-in, click 'Download', unpack, and point at bone_marrow_cell_dataset. "
        "The copy kaggle.com/datasets/andrewmvd/bone-marrow-cell-classification is read as well."
    ),
)
