"""APACC: 103,675 single cells out of 107 conventional Pap smears, as downloaded from OSF."""

from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import find_class_folders, read_class_folders
from cytolora.data.readers.spec import DatasetSpec

_NUM_IMAGES = 103_675
"""Kupas et al. 2024, abstract."""


def read_apacc(path: Path) -> Manifest:
    """Reads the four class folders at any depth, and train and test where they stand above these.

    The training images of the PS3C challenge, which are a part of APACC, are read as well.

    Raises:
        DataError: If there are none.
    """
    return read_class_folders(
        path, APACC, expected="the folders healthy, unhealthy, rubbish and bothcells, below train and test or alone"
    )


def _looks_like(path: Path) -> bool:
    return {folder.label for folder in find_class_folders(path, APACC, max_depth=3)} == set(APACC.classes)


APACC = DatasetSpec(
    name="apacc",
    title="APACC (annotated Pap cells)",
    read=read_apacc,
    looks_like=_looks_like,
    description="103,675 single cells, cervix, conventional Papanicolaou smears, out of 107 smears.",
    classes=("healthy", "unhealthy", "rubbish", "bothcells"),
    expected_total=_NUM_IMAGES,
    group_rule="groups cannot be known from the names",
    licence="CC BY 4.0, as others quote it",
    citation=(
        "Kupas, Hajdu, Kovacs, Hargitai, Szombathy, Harangi: Annotated Pap cell images and smear slices for cell "
        "classification. Scientific Data 11 (2024); doi:10.1038/s41597-024-03596-3."
    ),
    page="https://osf.io/fp2xe/",
    how_to_get="Open 'Files', download the cell images, unpack them, and point at the folder of train and test.",
    spellings={"bothcells": ("both cells",)},
    verified=False,
)
