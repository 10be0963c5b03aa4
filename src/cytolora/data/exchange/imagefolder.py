"""Image folders of Hugging Face datasets: ``metadata.csv`` or ``metadata.jsonl`` with a column ``file_name``.

Documentation: https://huggingface.co/docs/hub/datasets-image.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cytolora.core.delimited import csv_line, read_columns, read_table
from cytolora.core.files import write_text
from cytolora.core.strict_json import read_json
from cytolora.data.exchange.labels import MAX_BYTES, LabelFile, Labelled, NoLabelsError, scalars
from cytolora.data.exchange.written import fields_of, names_below, prefix
from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import METADATA
from cytolora.data.readers.exports import files_of_export
from cytolora.data.readers.subset_folders import subset_named
from cytolora.data.readers.tables import meant_as
from cytolora.errors import ConfigError

_NAMES = ("metadata.csv", "metadata.jsonl")
_FILE = "file_name"
_HEAD_BYTES = 65_536


def _is_metadata(file: Path) -> bool:
    columns: Iterable[str] = ()
    if file.name.lower() == "metadata.csv":
        columns = read_columns(file)
    elif file.name.lower() == "metadata.jsonl":
        with suppress(OSError, ValueError), file.open("rb") as opened:
            row = read_json(opened.readline(_HEAD_BYTES))
            columns = row if isinstance(row, dict) else ()
    return _FILE in columns and any(_may_be_label(name) for name in _others(columns))


def _others(columns: Iterable[str]) -> list[str]:
    return [name for name in columns if not name.endswith(_FILE)]


def _may_be_label(column: str) -> bool:
    """Whether a column may hold classes by its name: patients, subsets and stains are none."""
    return meant_as(column) is None and column not in METADATA


def _first(files: Sequence[Path]) -> Path | None:
    return next((file for file in files if _is_metadata(file)), None)


def read_imagefolder(place: Path) -> Iterator[Labelled]:
    """Yields the images that a folder's metadata list; in a folder train, validation or test they have that subset."""
    number = 0
    files = [file for file in files_of_export(place) if _is_metadata(file)] if place.is_dir() else [place]
    for file in files:
        root = place if place.is_dir() else file.parent
        above = file.parent.relative_to(root).as_posix()
        subset = subset_named(file.parent.name) if file.parent != root else None
        rows = list(_rows(file))
        column = _column_of_labels(file, rows)
        for row in rows:
            number += 1
            name, label = row.get(_FILE), row.get(column)
            if not isinstance(name, str) or not name:
                raise ValueError(f"row {number} has no {_FILE}")
            if label not in (None, ""):
                fields = {**({"subset": subset} if subset else {}), **scalars(row, (_FILE, column))}
                path = name if above == "." else f"{above}/{name}"
                if not isinstance(label, str | int | float):
                    raise NoLabelsError(f"image {name!r} has {label!r} in {column!r}, not one label")
                yield Labelled(number=number, path=path, label=str(label), fields=fields)


def _rows(file: Path) -> Iterable[Mapping[str, Any]]:
    if file.suffix.lower() == ".csv":
        return [row for _, row in read_table(file, (_FILE,)).rows]
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    rows = [read_json(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a line is no object")
    return rows


def _column_of_labels(file: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns ``label``, or the only column beside the file names.

    Raises:
        NoLabelsError: If it is none of several.
    """
    columns = read_columns(file) if file.suffix.lower() == ".csv" else tuple({name: 0 for row in rows for name in row})
    others = _others(columns)
    if "label" in others:
        return "label"
    if len(others) != 1 or not _may_be_label(others[0]):
        named = ", ".join(map(repr, others)) or "none"
        raise NoLabelsError(f"{file.name} has no column 'label' (others: {named}); rename the one that holds the class")
    return others[0]


def write_imagefolder(manifest: Manifest, out: Path) -> list[Path]:
    """Writes the metadata of a folder of images, which lies in that folder or above it.

    Raises:
        ConfigError: If the file has another name, or lies elsewhere.
    """
    if out.name not in _NAMES:
        raise ConfigError(f"{out} is called {out.name}; `datasets` reads {' and '.join(_NAMES)} alone.")
    if prefix(manifest.root, out) is None:
        raise ConfigError(
            f"{out} lies neither in the folder of the images nor above it, where `datasets` looks for it: write "
            f"{manifest.root / out.name}."
        )
    rows = [{_FILE: name, "label": one.label, **fields_of(one)} for name, one in names_below(manifest, out)]
    if out.suffix == ".csv":
        columns = list(dict.fromkeys([_FILE, "label", *sorted({name for row in rows for name in row})]))
        lines = [csv_line(columns), *(csv_line(row.get(name, "") for name in columns) for row in rows)]
    else:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    write_text(out, "".join(lines))
    return [out]


IMAGEFOLDER = LabelFile(
    name="imagefolder",
    title="metadata of a HuggingFace image folder",
    description="metadata.csv or metadata.jsonl with file_name and label, beside the images or above them.",
    find=_first,
    read=read_imagefolder,
    companions=tuple(f"*{name}" for name in _NAMES),
    is_spread=True,
)
