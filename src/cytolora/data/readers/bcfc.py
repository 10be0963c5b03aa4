"""BCFC: 693 fields of body cavity fluid, benign or malignant, as downloaded from Kaggle."""

from pathlib import Path

from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import has_published_images, read_class_folders
from cytolora.data.readers.spec import DatasetSpec

_NUM_IMAGES = 693
"""https://as-proceeding.com/index.php/icaens/article/view/1077; nobody says how many of each class."""


def read_bcfc(path: Path) -> Manifest:
    """Reads the folders ``benign`` and ``malignant``, at any depth.

    Raises:
        DataError: If there are none.
    """
    return read_class_folders(path, BCFC, expected="the folders benign and malignant")


BCFC = DatasetSpec(
    name="bcfc",
    title="BCFC (body cavity fluid cytology)",
    read=read_bcfc,
    looks_like=lambda path: has_published_images(path, BCFC, _NUM_IMAGES),
    description="693 fields with cell clusters, body cavity fluid, PNG of 256 x 192 px.",
    classes=("malignant", "benign"),  # the order of Dausort et al. 2025, reference datasets/dataset_kaggle.py
    expected_total=_NUM_IMAGES,
    group_rule="groups cannot be known; probably only 21 patients, so that a split by image is not honest",
    licence="not stated where we could see it",
    citation=(
        "cmacus: Body cavity fluid cytology images. Kaggle; probably the images of Sanyal, Paul, Rana, Kulhari: A "
        "machine learning model for screening of body fluid cytology smears."
    ),
    page="https://www.kaggle.com/datasets/cmacus/body-cavity-fluid-cytology-images",
    how_to_get="Sign in to Kaggle, click 'Download', and point at the zip file with --dataset bcfc.",
    verified=False,
)
