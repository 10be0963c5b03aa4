"""Exports of annotation programs and dataset libraries that are known and not read: their files, and the way out."""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cytolora.core.delimited import read_columns
from cytolora.core.strict_json import read_json
from cytolora.data.formats import is_passed_over
from cytolora.data.readers.subset_folders import subset_named
from cytolora.data.readers.tables import has_columns

_WAY_OUT = (
    "Cut out the cells into class folders, or make a table manifest.csv with columns path,label and, if known, group"
)
_FOLDERS = re.compile(
    r"annotations?|anns?|labels?|images?|img|jpegimages|train\d*|val\d*|valid|validation|test\d*|data|ds\d*|obj_train_data"
    r"|obj_data|splits?",
    re.IGNORECASE,
)
"""Folders of exports that are looked into, two levels deep."""
_MAX_BYTES = 16 * 2**20
"""Of the beginning of a JSON or XML file, and again of its end."""
_NUM_LOOKED_AT = 20
"""Files of one kind that are opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A kind of export."""

    name: str
    find: Callable[[Sequence[Path]], Path | None]
    """Returns the file or folder that gives it away; takes the files at most two folders down."""
    way_out: str | Callable[[Path, Path], str] = _WAY_OUT
    """What to do; or a function of the folder and the evidence that says it."""


def why_refused(path: Path) -> str:
    """Says in one line which export a folder is and what to do; empty for everything else."""
    if not path.is_dir():
        return ""
    files = list(_files(path, depth=2))
    for export in _EXPORTS:
        evidence = export.find(files)
        if evidence is not None:
            found = evidence.relative_to(path).as_posix()
            way_out = export.way_out if isinstance(export.way_out, str) else export.way_out(path, evidence)
            return f"{path} holds {found}: {export.name}, which is not read. {way_out}."
    return ""


def _files(folder: Path, depth: int) -> Iterator[Path]:
    children = sorted(one for one in folder.iterdir() if not is_passed_over(one.name))
    yield from (one for one in children if one.is_file())
    for child in children:
        if depth and child.is_dir() and _FOLDERS.fullmatch(child.name):
            yield from _files(child, depth - 1)


def _named(*patterns: str) -> Callable[[Sequence[Path]], Path | None]:
    pattern = re.compile("|".join(patterns), re.IGNORECASE)
    return lambda files: next((one for one in files if pattern.fullmatch(one.name)), None)


def _holding(suffix: str, *keys: str, least: int | None = None) -> Callable[[Sequence[Path]], Path | None]:
    """Makes a search for a text file that holds all of these expressions, or at least so many."""
    needed = len(keys) if least is None else least

    def find(files: Sequence[Path]) -> Path | None:
        fitting = (one for one in files if one.suffix.lower() == suffix)
        return next((one for one in islice(fitting, _NUM_LOOKED_AT) if _num_in(one, keys) >= needed), None)

    return find


def _num_in(file: Path, keys: Sequence[str]) -> int:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_BYTES)
            opened.seek(max(opened.tell(), file.stat().st_size - _MAX_BYTES))
            text += opened.read(_MAX_BYTES)
    except OSError:
        return 0
    return sum(re.search(key.encode(), text) is not None for key in keys)


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


def _hugging_face_metadata(files: Sequence[Path]) -> Path | None:
    for one in files:
        if one.name.lower() == "metadata.csv" and has_columns(one, ("file_name",)):
            return one
        if one.name.lower() == "metadata.jsonl" and b'"file_name"' in _head(one):
            return one
    return None


def _as_manifest(path: Path, metadata: Path) -> str:
    """Gives the command that writes ``manifest.csv`` from all such files of a folder."""
    key = _key_of_label(metadata)
    file, name = "f.open(encoding='utf-8-sig')", metadata.name
    is_csv = metadata.suffix.lower() == ".csv"
    rows = f"csv.DictReader({file})" if is_csv else f"map(json.loads, filter(str.strip, {file}))"
    is_divided = metadata.parent != path and subset_named(metadata.parent.name) is not None
    columns, subset = ("'path', 'label', 'subset'", ", f.parent.name") if is_divided else ("'path', 'label'", "")
    code = (
        "import csv, json, pathlib; csv.writer(open('manifest.csv', 'w', newline='', encoding='utf-8')).writerows("
        f"[({columns}), *((f.parent / r['file_name'], r['{key}']{subset}) "
        f"for f in sorted(pathlib.Path().rglob('{name}')) for r in {rows})])"
    )
    return f'Write manifest.csv with columns path,label: `cd {shlex.quote(str(path))} && python -c "{code}"`'


def _key_of_label(metadata: Path) -> str:
    """Returns the key of the classes: label, or the first that may be one."""
    try:
        first = read_json(_head(metadata)) if metadata.suffix.lower() == ".jsonl" else read_columns(metadata)
    except ValueError:
        return "label"
    names = [name for name in first if re.fullmatch(r"[\w .\-]+", name) and not name.endswith("file_name")]
    return "label" if "label" in names or not names else names[0]


def _arrow(files: Sequence[Path]) -> Path | None:
    names = r"dataset_infos?\.json|dataset_dict\.json"
    return _named(names, r".*\.arrow")(files) or next((one for one in files if one.suffix.lower() == ".parquet"), None)


_EXPORTS = (
    Export(
        name="metadata of a HuggingFace image folder",
        find=_hugging_face_metadata,
        way_out=_as_manifest,
    ),
    Export(name="a detection export (YOLO: labels/ and data.yaml)", find=_yolo),
    Export(
        name="a detection export of Roboflow (tables of boxes or of several labels an image)",
        find=_named(r"_annotations\.csv", r"_classes\.csv", r"_annotations\.txt"),
    ),
    Export(
        name="a detection export (COCO)",
        find=_holding(".json", r'"images"\s*:\s*\[', r'"annotations"\s*:\s*\[', r'"categories"\s*:\s*\[', least=2),
    ),
    Export(name="an export of labelme", find=_holding(".json", r'"shapes"\s*:\s*\[', r'"imagePath"\s*:')),
    Export(
        name="an export of VGG Image Annotator", find=_holding(".json", r'"regions"\s*:', r'"shape_attributes"\s*:')
    ),
    Export(
        name="an export of Label Studio",
        find=_holding(".json", r'"(annotations|completions)"\s*:\s*\[', r'"result"\s*:\s*\[', r'"data"\s*:\s*\{'),
    ),
    Export(name="an export of Supervisely", find=_holding(".json", r'"objects"\s*:\s*\[', r'"classTitle"\s*:')),
    Export(name="an export of CVAT", find=_holding(".xml", r"<annotations>", r"<(image|track|meta)\b")),
    Export(name="a detection export (Pascal VOC)", find=_holding(".xml", r"<annotation\b", r"<(filename|object)>")),
    Export(
        name="a QuPath project",
        find=_named(r".*\.qpproj"),
        way_out="Export the cells from QuPath, as images in class folders; or predict a slide with `--cells FILE`",
    ),
    Export(
        name="a dataset saved by HuggingFace datasets",
        find=_arrow,
        way_out="Save its images as files in class folders, or with a table manifest.csv with columns path,label",
    ),
    Export(
        name="TFRecord files",
        find=_named(r".*\.tfrecords?(-\d+.*)?"),
        way_out="Save the images as files in class folders, or with a table manifest.csv with columns path,label",
    ),
    Export(
        name="DICOM",
        find=_named("DICOMDIR"),
        way_out="Save the images as PNG or TIFF in class folders",
    ),
)
"""Asked in this order; the first that finds something names the folder."""
