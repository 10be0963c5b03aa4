"""Kinds of files that commands write, told by content: each command replaces files of its own kind, and no others."""

import mmap
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cytolora.core.strict_json import read_json
from cytolora.data.readers.tables import has_columns

_MAX_JSON = 2**26
"""Bytes of a JSON file that is looked into."""
_BEGIN, _END = 2**18, 2**12
"""Bytes of a page that are looked at: its styles and head, and its last lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileKind:
    """One kind of file."""

    name: str
    """In words, such as ``split file``."""
    is_own: Callable[[Path], bool]
    """Whether a file is of the kind, written by whichever version; may raise what reading another file raises."""
    suffixes: tuple[str, ...] = ()
    """That its name has to end in, in lower case; empty: any."""
    is_appended: bool = False
    """Whether lines are added to what is there, which then may be a pipe or device, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesTogether:
    """Files that a command writes together into a folder that may hold others."""

    description: str
    """Name of the JSON file among them, by which they are known."""
    kind: FileKind
    """Of the description."""
    others: tuple[str, ...]
    """Names of the others."""


def json_has_keys(file: Path, keys: Iterable[str]) -> bool:
    """Whether a file holds one JSON object with these keys, among others."""
    try:
        held = read_json(file.read_bytes()) if file.stat().st_size <= _MAX_JSON else None
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and held.keys() >= set(keys)


def _page(name: str, *marks: bytes) -> FileKind:
    """Returns a kind of HTML page that is told by texts that its template has had in all versions."""

    def is_own(path: Path) -> bool:
        with path.open("rb") as file:
            begin = file.read(_BEGIN)
            file.seek(max(file.tell(), path.stat().st_size - _END))
            text = begin + file.read(_END)
        return text.lstrip().lower().startswith(b"<!doctype html>") and all(mark in text for mark in marks)

    return FileKind(name=name, is_own=is_own, suffixes=(".html", ".htm"))


def _is_table_of_predictions(path: Path) -> bool:
    columns = {"predicted", "referred", "unfamiliar"}
    if path.suffix.lower() == ".csv":
        return has_columns(path, columns)
    import pyarrow.parquet as pq  # slow to import, and of Parquet alone

    return columns <= set(pq.read_schema(path).names)


GEOJSON_SUFFIXES = (".geojson", ".json")
"""In lower case; of cells and of predictions."""
_COLLECTION = b'{"type": "FeatureCollection", "features": [\n'
_PROBABILITY = re.compile(rb'"(?:cytolora )*p [^"\n]*"(?:, "value")?: [0-9]')
"""A class's probability among the measurements of a cell, in either form that QuPath has."""


def _is_geojson_of_predictions(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(len(_COLLECTION)) != _COLLECTION:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _PROBABILITY.search(content) is not None


def _is_request_log(path: Path) -> bool:
    """Looks at two lines: the first may have been cut where an older part of the log was taken away."""
    with path.open("rb") as file:
        lines = [file.readline(_BEGIN) for _ in range(2)]
    return any(map(_is_request, lines))


def _is_request(line: bytes) -> bool:
    try:
        row = read_json(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.keys() >= {"time", "id", "path", "status", "seconds"}


PREDICTIONS = FileKind(name="table of predictions", is_own=_is_table_of_predictions)
GEOJSON = FileKind(name="GeoJSON file of predictions", is_own=_is_geojson_of_predictions)
REVIEW_PAGE = _page("review page", b'<body data-page="', b'id="num-set"')
AUDIT_PAGE = _page("page of `cytolora check`", b"<code>cytolora check --page</code>")
LEAKAGE_PAGE = _page("page of `cytolora leakage`", b"Written by <code>cytolora leakage</code>")
TRIAL = FileKind(
    name="result of `cytolora weights try`", is_own=lambda path: json_has_keys(path, ("format", "model", "parts"))
)
COMPARISON = FilesTogether(
    description="compare.json",
    kind=FileKind(name="result of `cytolora compare`", is_own=lambda path: json_has_keys(path, ("metric", "pairs"))),
    others=("compare.csv", "compare.md"),
)
ENSEMBLES = FilesTogether(
    description="ensemble.json",
    kind=FileKind(
        name="result of `cytolora ensemble`", is_own=lambda path: json_has_keys(path, ("ensembles", "weights"))
    ),
    others=("ensemble.csv", "ensemble.html", "predictions.csv"),
)
LEARNING_CURVE = FilesTogether(
    description="labels.json",
    kind=FileKind(
        name="result of `cytolora learning-curve`", is_own=lambda path: json_has_keys(path, ("target", "points"))
    ),
    others=("labels.csv", "labels.png", "labels.svg", "labels.tex"),
)
REQUEST_LOG = FileKind(name="log of requests", is_own=_is_request_log, is_appended=True)
