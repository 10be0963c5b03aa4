"""Registry of exchange formats: what is read, what is written, what is lost, and by which reader that is checked."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cytolora.core.registry import Registry
from cytolora.data.exchange.coco import COCO, write_coco
from cytolora.data.exchange.containers import Container
from cytolora.data.exchange.cvat import CVAT, write_cvat
from cytolora.data.exchange.fiftyone import FIFTYONE, write_fiftyone
from cytolora.data.exchange.hdf5 import HDF5
from cytolora.data.exchange.imagefolder import IMAGEFOLDER, write_imagefolder
from cytolora.data.exchange.label_studio import LABEL_STUDIO, write_label_studio
from cytolora.data.exchange.medmnist import MEDMNIST
from cytolora.data.exchange.parquet import PARQUET
from cytolora.data.exchange.qupath import QUPATH, write_qupath
from cytolora.data.exchange.webdataset import WEBDATASET
from cytolora.data.manifest import Manifest
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.targets import check_target
from cytolora.errors import ConfigError

Write = Callable[[Manifest, Path], list[Path]]
"""Writes the labels of a manifest to a file or folder whole, and returns what was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeFormat:
    """A format of other programs, and what crosses over."""

    name: str
    holds: Literal["labels", "images", "embeddings"]
    """Labels of images in files of their own, images with labels inside, or features."""
    reads: str = ""
    """What is read, in words; empty where nothing is."""
    writes: str = ""
    """What is written, in words; empty where nothing is."""
    lost: str
    """What does not cross over, in words."""
    checked_with: str
    """The reader or writer of the other side in the tests, or why there is none."""
    write: Write | None = None
    """Of ``cytolora convert --to``."""
    suffixes: tuple[str, ...] = ()
    """Of the file that is written; empty for a folder."""


FORMATS: Registry[ExchangeFormat] = Registry("format")

_CONTAINERS: tuple[Container, ...] = (HDF5, MEDMNIST, PARQUET, WEBDATASET)
IMAGE_READERS = tuple(one.spec() for one in _CONTAINERS)
LABEL_READERS = tuple(one.spec() for one in (COCO, CVAT, FIFTYONE, IMAGEFOLDER, LABEL_STUDIO, QUPATH))
READERS: tuple[DatasetSpec, ...] = (*IMAGE_READERS, *LABEL_READERS)
"""Readers of data in these formats, in the order in which they are asked."""

for _entry in (
    ExchangeFormat(
        name="coco",
        holds="labels",
        reads="annotations without a box, or with one around the whole image",
        writes="a box around each image; subset, group and metadata as keys of the images",
        lost="boxes around cells, outlines and points (refused); a score",
        checked_with="pycocotools",
        write=write_coco,
        suffixes=(".json",),
    ),
    ExchangeFormat(
        name="cvat",
        holds="labels",
        reads="one tag an image, or a box around all of it (CVAT for images 1.1)",
        writes="one tag an image; group and metadata as its attributes, subset as that of the image",
        lost="other shapes (refused); tracks of videos",
        checked_with="the documented layout: CVAT's own reader is its server",
        write=write_cvat,
        suffixes=(".xml",),
    ),
    ExchangeFormat(
        name="fiftyone",
        holds="labels",
        reads="labels.json of FiftyOneImageClassificationDataset",
        writes="labels.json; the folder of the images is its data_path",
        lost="subset, group and metadata, for which the layout has no place; confidences",
        checked_with="the documented layout: FiftyOne needs a database server",
        write=write_fiftyone,
        suffixes=(".json",),
    ),
    ExchangeFormat(
        name="imagefolder",
        holds="labels",
        reads="metadata.csv or metadata.jsonl, also in train, validation and test",
        writes="metadata.csv or metadata.jsonl in the folder of the images",
        lost="subset stands in a column: `datasets` makes splits from folders alone",
        checked_with="datasets",
        write=write_imagefolder,
        suffixes=(".csv", ".jsonl"),
    ),
    ExchangeFormat(
        name="label-studio",
        holds="labels",
        reads="one choice an image, in the full JSON or JSON-MIN; annotators must agree, or one is ground truth",
        writes="tasks with one annotation, subset, group and metadata in their data; beside them the interface",
        lost="who annotated, when and for how long; cancelled annotations; predictions",
        checked_with="the documented layout: its SDK is heavy",
        write=write_label_studio,
        suffixes=(".json",),
    ),
    ExchangeFormat(
        name="qupath",
        holds="labels",
        reads="one classified object in IMAGE.geojson beside each image (class folders come first: `--dataset qupath`)",
        writes="a folder with one annotation an image; subset, group and metadata as its metadata",
        lost="measurements; files with several objects (refused: `predict --cells` reads those of a slide)",
        checked_with="the documented layout (QuPath 0.4 to 0.7 are Java)",
        write=write_qupath,
    ),
    ExchangeFormat(
        name="webdataset",
        holds="images",
        reads="tar shards with an image and json, cls or txt; json gives label, group and subset",
        lost="further files of a sample; links, devices and paths that leave the folder are refused",
        checked_with="webdataset",
    ),
    ExchangeFormat(
        name="parquet",
        holds="images",
        reads="a column of bytes, or of structs with bytes, as `datasets` writes it, with its names of classes",
        lost="columns that are neither text nor whole numbers",
        checked_with="datasets",
    ),
    ExchangeFormat(
        name="medmnist",
        holds="images",
        reads="the 2-D .npz files at 28 to 224 px with their train, val and test, but ChestMNIST",
        lost="ChestMNIST (14 labels an image), 3-D files and pickled objects are refused; the files hold no groups",
        checked_with="files of the layout of medmnist 3.0.2; the package needs scikit-image",
    ),
    ExchangeFormat(
        name="hdf5",
        holds="images",
        reads="arrays images, labels, group, subset, or those that FILE.h5.yaml names; extra `exchange`",
        lost="other arrays; links and arrays in other files are refused",
        checked_with="h5py",
    ),
    ExchangeFormat(
        name="features.parquet",
        holds="embeddings",
        reads="what `embed` wrote, from Python alone: `cytolora.training.embed.read_embedding`",
        writes="path, label, subset, group, sha256, metadata, features",
        lost="nothing",
        checked_with="pyarrow",
        suffixes=(".parquet",),
    ),
    ExchangeFormat(
        name="anndata",
        holds="embeddings",
        writes="features in X, the rest in obs (label with the order of classes), its making in uns; extra `exchange`",
        lost="nothing",
        checked_with="anndata",
        suffixes=(".h5ad",),
    ),
    ExchangeFormat(
        name="numpy",
        holds="embeddings",
        writes="arrays features, path, label, subset, group, sha256 and metadata; no pickle",
        lost="what is not known is an empty text",
        checked_with="numpy, allow_pickle=False",
        suffixes=(".npz",),
    ),
):
    FORMATS.add(_entry)


def container_of(path: Path) -> Container | None:
    """Returns the kind of a file that holds images; None for every other file, and for folders."""
    return next((one for one in _CONTAINERS if path.is_file() and one.is_one(path)), None)


def convert(manifest: Manifest, to: str, out: Path) -> tuple[ExchangeFormat, list[Path]]:
    """Writes the labels of a dataset in a format of another program.

    Returns:
        The format, and what was written.

    Raises:
        ConfigError: If the format is unknown or not written, or ``out`` has another suffix, exists, or cannot be
            written.
    """
    written = {entry.name: entry for entry in FORMATS if entry.write is not None}
    entry = FORMATS.get(to, offered=written)
    if entry.write is None:
        raise ConfigError(f"{to} is not written by `convert`; it writes {', '.join(written)}.")
    if out.suffix.lower() not in (entry.suffixes or ("",)):
        kinds = f"a file that ends in {' or '.join(entry.suffixes)}" if entry.suffixes else "a folder"
        raise ConfigError(f"{to} is {kinds}, got {out.name!r}.")
    check_target(out)
    if out.exists():
        raise ConfigError(f"{out} exists, and labels that somebody made are not replaced. Choose another --out.")
    try:
        return entry, entry.write(manifest, out)
    except OSError as error:
        raise ConfigError(f"Cannot write {out}: {error.strerror or error}.") from error
