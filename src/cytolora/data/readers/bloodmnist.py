"""BloodMNIST: 17,092 blood cells of healthy donors in eight classes, as downloaded from Zenodo (``.npz``)."""

from pathlib import Path

from cytolora.config.run import SUBSETS
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.arrays import NpzFile, opened_npz
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec, ZenodoRecord
from cytolora.data.readers.unpacked import unpack_once, write_png
from cytolora.data.walk import folders_in
from cytolora.errors import DataError

_FILES = {28: "bloodmnist.npz", 64: "bloodmnist_64.npz", 128: "bloodmnist_128.npz", 224: "bloodmnist_224.npz"}
"""By the edge of an image, pixels."""

_CLASSES = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocyte",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)
"""In the order of the labels 0 to 7 (MedMNIST, medmnist/info.py)."""

_MAX_IMAGES = 20_000
"""Of one subset; a file that says more of itself is not this one."""


def read_bloodmnist(path: Path) -> Manifest:
    """Reads one of the four files; its images are unpacked once, as PNG, into a folder of its name beside it.

    Nothing of the file is unpickled: the arrays' headers are read, then their bytes.

    Raises:
        DataError: If there is no such file, or several, or it is damaged.
    """
    source = _source(path)
    target = source.with_suffix("")
    with opened_npz(source, BLOODMNIST.title, _MAX_IMAGES) as arrays:
        unpack_once(target, arrays.key(), lambda folder: _unpack(arrays, folder))
    samples = [
        Sample(path=relative_path(image, target), label=folder.name, subset=subset)
        for subset in SUBSETS
        for folder in folders_in(target / subset)
        for image in images_in(folder)
    ]
    return Manifest(
        name=BLOODMNIST.name,
        root=target,
        classes=BLOODMNIST.classes,
        samples=tuple(samples),
        split_rule="official: train, val and test of the file",
    )


def _source(path: Path) -> Path:
    files = [path] if path.is_file() else [path / name for name in _FILES.values() if (path / name).is_file()]
    if not files or files[0].suffix != ".npz":
        raise refusal(path, BLOODMNIST.title, f"one of the files {', '.join(_FILES.values())}")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{path} holds several sizes of BloodMNIST ({names}); point at one of these files.")
    return files[0]


def _unpack(arrays: NpzFile, folder: Path) -> None:
    for subset in SUBSETS:
        (folder / subset).mkdir()
        labels = arrays.labels(f"{subset}_labels", len(_CLASSES))
        images = arrays.images(f"{subset}_images", len(labels), _FILES, (3,))
        for number, (label, pixels) in enumerate(zip(labels, images, strict=True)):
            write_png(folder / subset / _CLASSES[label] / f"{number:05}.png", pixels)


def _looks_like(path: Path) -> bool:
    if path.is_file():
        return path.name in _FILES.values()
    return any((path / name).is_file() for name in _FILES.values())


BLOODMNIST = DatasetSpec(
    name="bloodmnist",
    title="BloodMNIST",
    read=read_bloodmnist,
    looks_like=_looks_like,
    description="17,092 single cells, peripheral blood of healthy donors, May-Grünwald-Giemsa, 28 to 224 px.",
    classes=_CLASSES,
    expected_subsets={"train": 11_959, "val": 1_712, "test": 3_421},  # MedMNIST, medmnist/info.py
    expected_total=17_092,
    companions=("*.npz",),
    group_rule="groups cannot be known: no donor is named",
    licence="CC BY 4.0",
    citation=(
        "Yang, Shi, Wei, et al.: MedMNIST v2. Scientific Data 10 (2023) 41; images of Acevedo, Merino, Alférez, "
        "et al.: A dataset of microscopic peripheral blood cell images. Data in Brief 30 (2020) 105474."
    ),
    page="https://zenodo.org/records/10519652",
    how_to_get="Run `cytolora data download bloodmnist --to DIR`, and point at the file.",
    zenodo=ZenodoRecord(
        record="10519652",
        md5={  # MedMNIST, medmnist/info.py
            "bloodmnist.npz": "7053d0359d879ad8a5505303e11de1dc",
            "bloodmnist_64.npz": "2b94928a2ae4916078ca51e05b6b800b",
            "bloodmnist_128.npz": "adace1e0ed228fccda1f39692059dd4c",
            "bloodmnist_224.npz": "b718ff6835fcbdb22ba9eacccd7b2601",
        },
        preferred=("bloodmnist_224.npz",),
    ),
    spellings={
        "immature granulocyte": (
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "immature granulocytes",
            "ig",
        )
    },
)
