"""CSV reader: images with labels, and groups, subsets and metadata where they are known."""

import csv
from collections.abc import Mapping
from io import StringIO
from pathlib import Path, PurePosixPath

from cytolora.config.run import Subset
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.layout import SUBSET_NAMES
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.tables import meant_as, refuse_other_names
from cytolora.errors import DataError

TABLE = "manifest.csv"
"""The file that is looked for in a folder."""

METADATA = ("mpp", "preparation", "scanner", "site", "stain")
"""Columns that are kept with every sample; mpp is micrometres per pixel."""

_REQUIRED = ("path", "label")


def read_csv(path: Path) -> Manifest:
    """Reads columns path and label, and where they stand: subset, group, and those of ``METADATA``.

    Args:
        path: The file, or a folder that holds ``manifest.csv``. Image paths are relative to the file's folder.

    Raises:
        DataError: If a column, a cell or an image is missing, or group or subset has another name.
    """
    file = path / TABLE if path.is_dir() else path
    rows = read_rows(file, _REQUIRED)
    refuse_other_names(file, [row for _, row in rows])
    samples = tuple(_sample(file, line, row) for line, row in rows)
    missing = [sample.path for sample in samples if not (file.parent / sample.path).is_file()]
    if missing:
        raise DataError(f"{file} lists {len(missing)} images that are not there, the first is {missing[0]}.")
    has_groups = any(sample.group for sample in samples)
    return Manifest(
        name=file.resolve().parent.name if file.name == TABLE else file.stem,
        root=file.parent,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=samples,
        group_rule=f"column group of {file.name}" if has_groups else "",
        split_rule=f"column subset of {file.name}" if any(sample.subset for sample in samples) else "",
    )


def read_rows(file: Path, required: tuple[str, ...]) -> list[tuple[int, dict[str, str]]]:
    """Reads a CSV file with a header as (line number, cells by column); blanks around cells are dropped.

    Commas, semicolons and tabs separate; the header decides which.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"Cannot read {file} as a UTF-8 table: {error}.") from error
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=delimiter, restval="")
    columns = [(name or "").strip() for name in reader.fieldnames or []]
    absent = [name for name in required if name not in columns]
    if absent:
        other = next((f" Rename {name!r} to {absent[0]}." for name in columns if meant_as(name) == absent[0]), "")
        raise DataError(f"{file} has no column {absent[0]!r}; its header is: {', '.join(columns) or 'empty'}.{other}")
    reader.fieldnames = columns
    try:
        rows = [(reader.line_num, {name: (row[name] or "").strip() for name in columns}) for row in reader]
    except csv.Error as error:
        raise DataError(f"Cannot read {file} as a table, line {reader.line_num}: {error}.") from error
    if not rows:
        raise DataError(f"{file} has a header and no rows; list one image in each row.")
    return rows


def _sample(file: Path, line: int, row: Mapping[str, str]) -> Sample:
    for name in _REQUIRED:
        if not row[name]:
            raise DataError(f"{file}, line {line}: {name} is empty.")
    path = PurePosixPath(row["path"].replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"{file}, line {line}: {row['path']} leaves the folder of the table; use a path below it.")
    return Sample(
        path=path.as_posix(),
        label=row["label"],
        subset=_subset(file, line, row.get("subset", "")),
        group=row.get("group") or None,
        metadata=tuple((name, row[name]) for name in METADATA if row.get(name)),
    )


def _subset(file: Path, line: int, text: str) -> Subset | None:
    if not text:
        return None
    if text.lower() not in SUBSET_NAMES:
        raise DataError(f"{file}, line {line}: subset {text!r} is none of train, val and test.")
    return SUBSET_NAMES[text.lower()]


def _looks_like(path: Path) -> bool:
    return (path / TABLE).is_file() if path.is_dir() else path.suffix.lower() == ".csv"


CSV = DatasetSpec(
    name="csv",
    title="A table of one's own",
    read=read_csv,
    looks_like=_looks_like,
    description="A CSV file with columns path and label, and where known subset, group, stain, scanner, site, …",
    group_rule="the column group, where there is one",
    licence="your own",
    generic=True,
)
