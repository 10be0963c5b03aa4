"""MedMNIST 2-D: ``.npz`` files of train, val and test images with one label each, as downloaded.

Yang, Shi, Wei, et al.: MedMNIST v2. Scientific Data 10 (2023) 41. Facts: medmnist 3.0.2, medmnist/info.py.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cytolora.config.run import SUBSETS
from cytolora.data.exchange.containers import Container, Unpacked
from cytolora.data.readers.arrays import opened_npz
from cytolora.data.readers.bloodmnist import BLOODMNIST
from cytolora.data.readers.unpacked import png_bytes
from cytolora.errors import DataError

SIZES = (28, 64, 128, 224)
"""Edges of an image, pixels."""
_MAX_IMAGES = 200_000
"""Of one subset; TissueMNIST has 165,466."""
_MANY_LABELS = "chestmnist"
_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left"),
    *("lung-right", "pancreas", "spleen"),
)
CLASSES: Mapping[str, tuple[str, ...]] = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),
    "breastmnist": ("malignant", "normal, benign"),
    "bloodmnist": BLOODMNIST.classes,
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments"),
        "Thick Ascending Limb",
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
}
"""By the beginning of the file's name, in the order of the labels; of another file the numbers are the classes."""


def _is_medmnist(file: Path) -> bool:
    if file.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):  # damaged in the list of its members
        return False
    return {f"{subset}_{what}.npy" for subset in SUBSETS for what in ("images", "labels")} <= names


def _is_cut_off(file: Path) -> bool:
    """Whether a file that was named begins like one of NumPy's archives, and lacks the list of its members."""
    try:
        with file.open("rb") as opened:
            head = opened.read(4)
        return file.suffix.lower() == ".npz" and head == b"PK\x03\x04" and not zipfile.is_zipfile(file)
    except OSError:
        return False


def unpack_medmnist(file: Path) -> Iterator[Unpacked]:
    """Yields the images of a file with their official subsets, as PNG.

    Raises:
        DataError: If it has several labels an image, volumes, pickled objects, or is damaged.
    """
    flag = file.stem.lower().partition("_")[0]
    if flag == _MANY_LABELS:
        raise DataError(f"{file} has 14 labels an image, of which any may hold (ChestMNIST); expected one class each.")
    classes = CLASSES.get(flag)
    with opened_npz(file, "MedMNIST 2-D", _MAX_IMAGES) as arrays:
        for subset in SUBSETS:
            labels = arrays.labels(f"{subset}_labels", None if classes is None else len(classes))
            images = arrays.images(f"{subset}_images", len(labels), SIZES, (3, 1))
            for number, (label, pixels) in enumerate(zip(labels, images, strict=True)):
                name = str(label) if classes is None else classes[label]
                yield Unpacked(
                    path=f"{subset}/{name}/{number:06}.png",
                    content=png_bytes(pixels),
                    label=name,
                    fields={"subset": subset},
                )


MEDMNIST = Container(
    name="medmnist",
    title="MedMNIST",
    description="a 2-D file of MedMNIST (.npz) with one label an image; its train, val and test are kept.",
    is_one=lambda file: _is_medmnist(file) or _is_cut_off(file),
    in_folders=_is_medmnist,
    unpack=unpack_medmnist,
    companions=("*.npz",),
)
