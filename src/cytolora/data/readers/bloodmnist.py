"""BloodMNIST: 17,092 blood cells of healthy donors in eight classes, as downloaded from Zenodo (``.npz``)."""

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from cytolora.config.run import SUBSETS
from cytolora.core.files import canonical_json, sha256_text
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal
from cytolora.data.readers.layout import images_in, relative_path
from cytolora.data.readers.spec import DatasetSpec, ZenodoRecord
from cytolora.data.readers.unpacked import unpack_once, write_png
from cytolora.data.walk import folders_in
from cytolora.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    try:
        with zipfile.ZipFile(source) as archive:
            table = sorted([member.filename, member.file_size, member.CRC] for member in archive.infolist())
            unpack_once(target, sha256_text(canonical_json(table)), lambda folder: _unpack(source, archive, folder))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{source} is damaged ({error}); download it again.") from error
    except OSError as error:
        raise DataError(f"Cannot read {source}: {error.strerror or error}.") from error
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


def _unpack(source: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    for subset in SUBSETS:
        (folder / subset).mkdir()
        labels = _labels(source, archive, subset)
        for number, (label, pixels) in enumerate(
            zip(labels, _images(source, archive, subset, len(labels)), strict=True)
        ):
            write_png(folder / subset / _CLASSES[label] / f"{number:05}.png", pixels)


def _labels(source: Path, archive: zipfile.ZipFile, subset: str) -> list[int]:
    import numpy as np  # not when the list of datasets is loaded

    with _open(source, archive, f"{subset}_labels") as stream:
        shape, dtype = _header(source, f"{subset}_labels", stream)
        if shape not in ((shape[0],), (shape[0], 1)) or dtype.kind not in "iu":
            raise _strange(source, f"{subset}_labels", f"{dtype} of shape {shape}", "one whole number for each image")
        labels = np.frombuffer(_read(source, stream, shape[0] * dtype.itemsize), dtype).astype(np.int64)
    if len(labels) and not 0 <= labels.min() <= labels.max() < len(_CLASSES):
        raise _strange(source, f"{subset}_labels", f"{labels.min()} to {labels.max()}", "labels from 0 to 7")
    return labels.tolist()


def _images(source: Path, archive: zipfile.ZipFile, subset: str, number: int) -> "Iterator[NDArray[np.uint8]]":
    """Yields the images one after the other; the largest file has 2.6 GB of them."""
    import numpy as np

    with _open(source, archive, f"{subset}_images") as stream:
        shape, dtype = _header(source, f"{subset}_images", stream)
        if dtype != np.uint8 or shape[0] != number or shape[1:] not in [(size, size, 3) for size in _FILES]:
            raise _strange(source, f"{subset}_images", f"{dtype} of shape {shape}", f"{number} RGB images, uint8")
        for _ in range(number):
            yield np.frombuffer(_read(source, stream, int(np.prod(shape[1:]))), np.uint8).reshape(shape[1:])


def _open(source: Path, archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    if f"{name}.npy" not in archive.namelist():
        raise DataError(f"{source} holds no array {name!r}; expected {', '.join(_FILES.values())} of MedMNIST.")
    return archive.open(f"{name}.npy")


def _header(source: Path, name: str, stream: IO[bytes]) -> "tuple[tuple[int, ...], np.dtype]":
    from numpy.lib import format as npy

    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, is_fortran, dtype = read(stream)
    except ValueError as error:
        raise DataError(f"{source} is damaged (array {name!r}: {error}); download it again.") from error
    if not shape or is_fortran or dtype.hasobject or not 0 <= shape[0] <= _MAX_IMAGES:
        raise _strange(source, name, f"{dtype} of shape {shape}", f"at most {_MAX_IMAGES:,} rows of plain numbers")
    return shape, dtype


def _read(source: Path, stream: IO[bytes], num_bytes: int) -> bytes:
    content = stream.read(num_bytes)
    if len(content) != num_bytes:
        raise DataError(f"{source} is damaged (an array is cut off); download it again.")
    return content


def _strange(source: Path, name: str, found: str, expected: str) -> DataError:
    return DataError(f"{source} is not {BLOODMNIST.title}: array {name!r} has {found}; expected {expected}.")


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
