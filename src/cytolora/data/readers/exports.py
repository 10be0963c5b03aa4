"""Exports of annotation programs and dataset libraries that are known and not read: their files, and the way out."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cytolora.data.walk import entered_in, plain_files_in

WAY_OUT = (
    "Cut out the cells into class folders, or make a table manifest.csv with columns path,label and, if known, group"
)
"""For what does not label whole images."""
_FOLDERS = re.compile(
    r"annotations?|anns?|labels?|images?|img|jpegimages|train\d*|val\d*|valid|validation|test\d*|data|ds\d*|obj_train_data"
    r"|obj_data|splits?",
    re.IGNORECASE,
)
"""Folders of exports that are looked into, two levels deep."""
_MAX_BYTES = 16 * 2**20
"""Of the beginning of a JSON or XML file, and again of its end."""
_CROISSANT = re.compile(rb"mlcommons\.org/croissant/(\d+(?:\.\d+)*)")
"""What a Croissant file says that it conforms to (of RAI, a vocabulary, the version does not follow at once)."""
_NUM_LOOKED_AT = 20
"""Files of one kind that are opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A kind of export."""

    name: str
    find: Callable[[Sequence[Path]], Path | None]
    """Returns the file or folder that gives it away; takes the files at most two folders down."""
    way_out: str = WAY_OUT
    """What to do."""


def why_refused(path: Path) -> str:
    """Says in one line which export a folder is, or a file that describes a dataset, and what to do; else empty."""
    if not path.is_dir():
        return _why_described(path)
    files = files_of_export(path)
    for export in _EXPORTS:
        evidence = export.find(files)
        if evidence is not None:
            found = evidence.relative_to(path).as_posix()
            return f"{path} holds {found}: {export.name}, which is not read. {export.way_out}."
    return ""


def _why_described(file: Path) -> str:
    found = _CROISSANT.search(_ends(file)) if file.suffix.lower() in (".json", ".jsonld") else None
    if found is None:
        return ""
    return (
        f"{file} describes a dataset (Croissant {found[1].decode()}), and a description is not read as data: labels "
        "come from the folder or table of the images. Name that, such as the folder that it lies in, "
        f"{file.resolve().parent}."
    )


def files_of_export(path: Path) -> list[Path]:
    """Lists the files of a folder, and of folders in it that exports have, at most two further down; sorted in each."""
    return list(_files(path, depth=2))


def _files(folder: Path, depth: int) -> Iterator[Path]:
    yield from plain_files_in(folder)
    for child in entered_in(folder) if depth else ():
        if _FOLDERS.fullmatch(child.name):
            yield from _files(child, depth - 1)


def named(*patterns: str) -> Callable[[Sequence[Path]], Path | None]:
    """Makes a search for a file by its name, in any case."""
    pattern = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda files: next((one for one in files if pattern.fullmatch(one.name)), None)


def holding(suffix: str, *keys: str, least: int | None = None) -> Callable[[Sequence[Path]], Path | None]:
    """Makes a search for a text file that holds all of these expressions, or at least so many."""
    needed = len(keys) if least is None else least

    def find(files: Sequence[Path]) -> Path | None:
        fitting = (one for one in files if one.suffix.lower() == suffix)
        return next((one for one in islice(fitting, _NUM_LOOKED_AT) if _num_in(one, keys) >= needed), None)

    return find


def _num_in(file: Path, keys: Sequence[str]) -> int:
    text = _ends(file)
    return sum(re.search(key.encode(), text) is not None for key in keys)


def _ends(file: Path) -> bytes:
    """Reads the beginning of a file and its end; nothing of one that cannot be read."""
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES)
            opened.seek(max(opened.tell(), file.stat().st_size - _MAX_BYTES))
            return text + opened.read(_MAX_BYTES)
    except OSError:
        return b""


_YOLO_LINE = re.compile(rb"\s*\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*$", re.MULTILINE | re.IGNORECASE)


def _yolo(files: Sequence[Path]) -> Path | None:
    """Finds data.yaml with its classes beside labels or images, or a text file of boxes named after an image."""
    parents = {part.lower() for one in files for part in one.parts}
    yaml = next((one for one in files if one.suffix.lower() in (".yaml", ".yml") and _is_yolo_yaml(one)), None)
    if yaml is not None and not parents.isdisjoint(("labels", "images")):
        return yaml
    stems = {one.stem for one in files if one.suffix.lower() != ".txt"}
    texts = (one for one in files if one.suffix.lower() == ".txt" and (one.stem in stems or "labels" in one.parts))
    return next((one for one in islice(texts, _NUM_LOOKED_AT) if _YOLO_LINE.match(_head(one))), None)


def _is_yolo_yaml(file: Path) -> bool:
    return _num_in(file, (r"(?m)^\s*names\s*:", r"(?m)^\s*(train|val|path|nc)\s*:")) == 2


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.readline(4096)
    except OSError:
        return b""


_EXPORTS = (
    Export(name="a detection export (YOLO: labels/ and data.yaml)", find=_yolo),
    Export(
        name="a detection export of Roboflow (tables of boxes or of several labels an image)",
        find=named(r"_annotations\.csv", r"_classes\.csv", r"_annotations\.txt"),
    ),
    Export(name="an export of labelme", find=holding(".json", r'"shapes"\s*:\s*\[', r'"imagePath"\s*:')),
    Export(name="an export of VGG Image Annotator", find=holding(".json", r'"regions"\s*:', r'"shape_attributes"\s*:')),
    Export(name="an export of Supervisely", find=holding(".json", r'"objects"\s*:\s*\[', r'"classTitle"\s*:')),
    Export(name="a detection export (Pascal VOC)", find=holding(".xml", r"<annotation\b", r"<(filename|object)>")),
    Export(
        name="a QuPath project",
        find=named(r".*\.qpproj"),
        way_out="Export the cells from QuPath, as images in class folders; or predict a slide with `--cells FILE`",
    ),
    Export(
        name="a dataset saved by HuggingFace datasets",
        find=named(r"dataset_infos?\.json|dataset_dict\.json", r".*\.(arrow|parquet)"),
        way_out="Save its images as files in class folders, or with a table manifest.csv with columns path,label",
    ),
    Export(
        name="TFRecord files",
        find=named(r".*\.tfrecords?(-\d+.*)?"),
        way_out="Save the images as files in class folders, or with a table manifest.csv with columns path,label",
    ),
    Export(
        name="DICOM",
        find=named("DICOMDIR"),
        way_out="Save the images as PNG or TIFF in class folders",
    ),
)
"""Asked in this order; the first that finds something names the folder."""
