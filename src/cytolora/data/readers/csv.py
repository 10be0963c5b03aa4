"""CSV reader: images with labels, and groups, subsets and metadata where they are known."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.delimited import Row
from cytolora.core.findings import Finding, finding, first
from cytolora.core.named_files import is_file
from cytolora.core.text import counted, matching, normal, shown
from cytolora.data.formats import TABLE_SUFFIXES, is_image_name, suffix_of
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.paths import NamesOnDisk, leaves_folder
from cytolora.data.readers.selection import SELECTION, chosen_cells
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.tables import coarser, not_used, read_rows, refuse_other_names, subset_of
from cytolora.data.similar_names import join_groups, join_metadata
from cytolora.data.walk import folders_in
from cytolora.errors import DataError, unknown_name

TABLE = "manifest.csv"
"""The file that is looked for in a folder."""

METADATA = ("mpp", "preparation", "scanner", "site", "stain")
"""Columns that are kept with every sample; mpp is micrometres per pixel."""

_REQUIRED = ("path", "label")
_NAMED = TABLE_SUFFIXES | {".txt"}
"""Files that are read as tables where they are named; what a workbook is told is how to save it."""


def read_csv(path: Path, reading: ReadOptions = AS_IT_STANDS) -> Manifest:
    """Reads columns path and label, and where they stand: subset, group, and those of ``METADATA``.

    Args:
        path: The file, or a folder that holds ``manifest.csv``. Image paths are relative to the file's folder.

    Raises:
        DataError: If a column, a cell or an image is missing, or group or subset has another name.
    """
    file = path / TABLE if path.is_dir() else path
    name = file.resolve().parent.name if file.name == TABLE else file.stem
    return manifest_of_rows(file, read_rows(file, _REQUIRED), reading, root=file.parent, name=name)


def manifest_of_rows(
    file: Path, rows: list[Row], reading: ReadOptions, *, root: Path, name: str, unit: str = "line"
) -> Manifest:
    """Makes a manifest of the rows of a table, or of another file that lists images with labels.

    Args:
        rows: At least one, each with the same columns: those that ``read_csv`` knows, and others, which are named.
        root: Folder that the paths are relative to.
        unit: What the number of a row counts, for errors.

    Raises:
        DataError: As ``read_csv``.
    """
    columns = _columns(file, rows, reading)
    cells = [row for _, row in rows]
    refuse_other_names(file, cells, [name for name, column in columns.items() if name != column])
    names = NamesOnDisk(root)
    samples = [_sample(f"{file}, {unit} {number}", row, columns, names) for number, row in rows]
    missing = [sample.path for sample in samples if not is_file(root / sample.path)]
    if missing:
        listing = "table" if unit == "line" else "file"
        where = f"the folder of the {listing}" if root == file.parent else str(root)
        raise DataError(
            f"{file} lists {counted(len(missing), 'image that is', 'images that are')} not there, the first is "
            f"{missing[0]}. "
            f"Write paths as seen from {where}, with their suffix, such as {_any_image(root)}."
        )
    samples, of_groups = join_groups(file.name, samples)
    samples, of_metadata = join_metadata(file.name, samples)
    has_groups = any(sample.group for sample in samples)
    selected = chosen_cells(file.name, cells, [sample.subset for sample in samples])
    used = {*columns.values(), *_REQUIRED, *METADATA, *([SELECTION] if selected else [])}
    findings = (
        *selected,
        *not_used(file.name, cells, used, has_groups=has_groups),
        *_joined(file.name, cells, ("label", columns["group"])),
        *names.findings(file.name),
        *of_groups,
        *of_metadata,
        *coarser(file.name, cells, columns["group"], [sample.group for sample in samples]),
    )
    return Manifest(
        name=name,
        root=root,
        classes=tuple(sorted({sample.label for sample in samples})),
        samples=tuple(samples),
        group_rule=f"column {columns['group']} of {file.name}" if has_groups else "",
        split_rule=f"column {columns['subset']} of {file.name}" if any(sample.subset for sample in samples) else "",
        findings=findings,
    )


def _columns(file: Path, rows: list[Row], reading: ReadOptions) -> dict[str, str]:
    """Returns the columns of group and subset; one that was chosen must be there and hold something."""
    present = rows[0][1]
    columns = {"group": "group", "subset": "subset"}
    for meaning, given in (("group", reading.group_column), ("subset", reading.subset_column)):
        if given is None:
            continue
        column = matching(given, present)
        if column is None:
            raise unknown_name(f"column of {file} in --{meaning}-column", given, present)
        if not any(row[column] for _, row in rows):
            raise DataError(f"{file}: column {column!r} is empty, expected the {meaning} of every image.")
        columns[meaning] = column
    twice = next((name for name in (*_REQUIRED, columns["subset"]) if name == columns["group"]), None)
    if twice is not None or columns["subset"] in _REQUIRED:
        raise DataError(
            f"{file}: column {twice or columns['subset']!r} is taken for two things; name a column of the groups in "
            "--group-column, and one of train, val and test in --subset-column."
        )
    return columns


def _sample(where: str, row: Mapping[str, str], columns: Mapping[str, str], names: NamesOnDisk) -> Sample:
    texts = {name: row.get(column, "") for name, column in {"path": "path", "label": "label", **columns}.items()}
    for name, text in texts.items():
        if name in _REQUIRED and not normal(text):
            raise DataError(f"{where}: {name} is empty.")
        if "\n" in text or "\r" in text:
            raise DataError(f"{where}: {name} goes on in the next line; is there a quote that is not closed?")
    if "://" in texts["path"]:
        raise DataError(f"{where}: {texts['path']} is an address, expected a file. Download the images first.")
    if leaves_folder(texts["path"]):
        raise DataError(f"{where}: {texts['path']} leaves the folder of the table; use a path below it.")
    return Sample(
        path=names.find(where, texts["path"]),
        label=normal(texts["label"]),
        subset=subset_of(where, texts["subset"]) if normal(texts["subset"]) else None,
        group=normal(texts["group"]) or None,
        metadata=tuple((name, row[name]) for name in METADATA if normal(row.get(name, ""))),
    )


def _any_image(folder: Path) -> str:
    """Returns the path of some image in a folder or its sub-folders, as a table would write it."""
    below = (one for part in (folder, *folders_in(folder)) for one in sorted(part.iterdir()) if is_image_name(one.name))
    image = next(below, None)
    return "hsil/cell_1.png" if image is None else image.relative_to(folder).as_posix()


def _joined(name: str, rows: list[dict[str, str]], columns: Iterable[str]) -> list[Finding]:
    """Says where several texts of a column have one normal form; blanks around cells never count."""
    findings = []
    for column in dict.fromkeys(columns):
        forms: dict[str, set[str]] = {}
        for row in rows:
            forms.setdefault(normal(row.get(column, "")), set()).add(row.get(column, ""))
        several = [" = ".join(sorted(map(shown, texts))) for texts in forms.values() if len(texts) > 1]
        if several:
            text = f"{name}: texts of column {column!r} that count as one: {len(several)}, {first(several)}."
            findings.append(finding("T302", text, count=len(several), examples=several))
    return findings


def _looks_like(path: Path) -> bool:
    return (path / TABLE).is_file() if path.is_dir() else suffix_of(path.name) in _NAMED


CSV = DatasetSpec(
    name="csv",
    title="A table of one's own",
    read=read_csv,
    read_with=read_csv,
    looks_like=_looks_like,
    description="A CSV file with columns path and label, and where known subset, group, stain, scanner, site, …",
    group_rule="the column group, where there is one",
    licence="your own",
    generic=True,
)
