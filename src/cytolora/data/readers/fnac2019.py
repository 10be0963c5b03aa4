"""FNAC2019: 212 fields of breast fine-needle aspirates, benign or malignant, as downloaded from the authors."""

from dataclasses import replace
from pathlib import Path

from cytolora.core.findings import finding
from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import has_published_images, read_class_folders
from cytolora.data.readers.spec import DatasetSpec

_EXPECTED_COUNTS = {"benign": 99, "malignant": 113}
"""Saikia et al. 2019; their augmentation made 2,120 of these."""

_NUM_AUGMENTED = 2_120


def read_fnac2019(path: Path) -> Manifest:
    """Reads the folders ``B`` and ``M``, at any depth.

    Raises:
        DataError: If there are none.
    """
    manifest = read_class_folders(path, FNAC2019, expected="the folders B (benign) and M (malignant)")
    if len(manifest.samples) < _NUM_AUGMENTED:
        return manifest
    augmented = finding(
        "F207",
        f"{FNAC2019.name}: {len(manifest.samples)} images; the authors augmented 212 to {_NUM_AUGMENTED:,}, and copies "
        "of one field on two sides of a split make results worthless.",
        count=len(manifest.samples),
    )
    return replace(manifest, findings=(*manifest.findings, augmented))


FNAC2019 = DatasetSpec(
    name="fnac2019",
    title="FNAC 2019 (breast fine-needle aspiration)",
    read=read_fnac2019,
    looks_like=lambda path: has_published_images(path, FNAC2019, sum(_EXPECTED_COUNTS.values())),
    description="212 fields, breast, fine-needle aspiration.",
    classes=tuple(_EXPECTED_COUNTS),
    expected_counts=_EXPECTED_COUNTS,
    licence="not stated where we could see it",
    citation=(
        "Saikia, Bora, Mahanta, Das: Comparative assessment of CNN architectures for classification of breast FNAC "
        "images. Tissue and Cell 57 (2019) 8-14."
    ),
    page="https://1drv.ms/u/s!Al-T6d-_ENf6axsEbvhbEc2gUFs",
    how_to_get="Click 'Download' in OneDrive, and point at the zip file with --dataset fnac2019.",
    spellings={"benign": ("B",), "malignant": ("M",)},
)
