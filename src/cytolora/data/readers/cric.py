"""CRIC Cervix: 11,534 labelled nuclei on 400 fields, as downloaded from figshare; cells are cut out of the fields."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cytolora.config.reading import STANDARD, Decoding
from cytolora.core.files import canonical_json, sha256_file, sha256_text
from cytolora.core.text import counted
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.class_folders import refusal, sub_folders
from cytolora.data.readers.layout import images_in
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.tables import has_columns, read_rows
from cytolora.data.readers.unpacked import unpack_once, write_png
from cytolora.errors import DataError

if TYPE_CHECKING:
    from cytolora.data.imaging.decode import Pixels

_TABLE = "classifications.csv"
_COLUMNS = ("image_id", "image_filename", "cell_id", "bethesda_system", "nucleus_x", "nucleus_y")
_CELLS = "cells_100px"
_SIZE_PX = 100
"""Edge of a cut cell; the authors' own crops are of 100 x 100 or 90 x 90 px."""

_CLASSES = {"Negative for intraepithelial lesion": "NILM"} | {
    name: name for name in ("ASC-US", "ASC-H", "LSIL", "HSIL", "SCC")
}
"""By the table's names, in the order of the README of the download."""

_MAX_DEPTH = 4


class _Nucleus(NamedTuple):
    image: str
    file: str
    cell: str
    label: str
    x: int
    y: int

    @property
    def path(self) -> str:
        return f"{self.label}/{self.image}_{self.cell}.png"


def read_cric(path: Path, decoding: Decoding = STANDARD) -> Manifest:
    """Reads ``classifications.csv`` and the fields below its folder; cells are cut out once, into ``cells_100px``.

    A nucleus stands in the middle of its cell, but near the edge of a field, where the cell is moved inwards.

    Args:
        decoding: How the fields become pixels; the cells are 8-bit RGB. With other rules they are cut anew.

    Raises:
        DataError: If the table or a field is absent, or a nucleus lies outside its field.
    """
    table = next((table for table in _tables(path) if table.is_file()), None)
    if table is None:
        raise refusal(path, CRIC.title, f"{_TABLE} beside or above the 400 fields cric_image_*.png")
    nuclei = [_nucleus(table, line, row) for line, row in read_rows(table, _COLUMNS)]
    fields = _fields(path)
    missing = sorted({nucleus.file for nucleus in nuclei} - set(fields))
    if missing:
        number = counted(len(missing), "field that is", "fields that are")
        raise DataError(f"{table} names {number} not below {path}, the first is {missing[0]}.")
    target = path / _CELLS
    from cytolora.data.imaging.marks import used_range  # not when the list of datasets is loaded

    decoding = used_range(fields.values(), decoding)
    unpack_once(target, _key(table, fields, decoding), lambda folder: _cut(nuclei, fields, folder, decoding))
    samples = tuple(Sample(path=nucleus.path, label=nucleus.label, group=nucleus.image) for nucleus in nuclei)
    return Manifest(name=CRIC.name, root=target, classes=CRIC.classes, samples=samples, group_rule=CRIC.group_rule)


def _key(table: Path, fields: dict[str, Path], decoding: Decoding) -> str:
    sizes = sorted([name, file.stat().st_size] for name, file in fields.items())
    chosen = [] if decoding == STANDARD else [asdict(decoding)]  # cells that were cut before keep their key
    return sha256_text(canonical_json([sha256_file(table), _SIZE_PX, sizes, *chosen]))


def _tables(path: Path) -> Iterable[Path]:
    return (path / _TABLE, path / "classification" / _TABLE)


def _nucleus(table: Path, line: int, row: dict[str, str]) -> _Nucleus:
    if row["bethesda_system"] not in _CLASSES:
        raise DataError(f"{table}, line {line}: {row['bethesda_system']!r} is none of {', '.join(_CLASSES)}.")
    numbers = [row[name] for name in ("image_id", "cell_id", "nucleus_x", "nucleus_y")]
    if not all(number.isascii() and number.isdecimal() for number in numbers):
        raise DataError(f"{table}, line {line}: image, cell, x and y are whole numbers, got {', '.join(numbers)}.")
    image, cell, x, y = numbers
    label = _CLASSES[row["bethesda_system"]]
    return _Nucleus(image=image, file=row["image_filename"], cell=cell, label=label, x=int(x), y=int(y))


def _fields(folder: Path, depth: int = _MAX_DEPTH) -> dict[str, Path]:
    """Finds images at any depth by name; what we cut ourselves is not looked at."""
    images = {image.name: image for image in images_in(folder)}
    for child in sub_folders(folder) if depth else ():
        if child.name != _CELLS:
            images |= _fields(child, depth - 1)
    return images


def _cut(nuclei: Iterable[_Nucleus], fields: dict[str, Path], folder: Path, decoding: Decoding) -> None:
    from cytolora.data.imaging.decode import decode  # not when the list of datasets is loaded

    by_field: defaultdict[str, list[_Nucleus]] = defaultdict(list)
    for nucleus in nuclei:
        by_field[nucleus.file].append(nucleus)
    for file, inside in by_field.items():
        pixels = decode(fields[file], decoding=decoding)
        for nucleus in inside:
            write_png(folder / nucleus.path, _cell(pixels, nucleus))


def _cell(pixels: "Pixels", nucleus: _Nucleus) -> "Pixels":
    height, width, _ = pixels.shape
    if min(height, width) < _SIZE_PX or not (1 <= nucleus.x <= width and 1 <= nucleus.y <= height):
        raise DataError(
            f"cric: cell {nucleus.cell} at ({nucleus.x}, {nucleus.y}) lies outside {nucleus.file} of "
            f"{width} x {height} px; table and image do not belong together."
        )
    left, top = (
        min(max(centre - 1 - _SIZE_PX // 2, 0), length - _SIZE_PX)
        for centre, length in ((nucleus.x, width), (nucleus.y, height))
    )
    return pixels[top : top + _SIZE_PX, left : left + _SIZE_PX]


CRIC = DatasetSpec(
    name="cric",
    title="CRIC Cervix",
    read=read_cric,
    read_decoded=read_cric,
    looks_like=lambda path: any(has_columns(table, _COLUMNS) for table in _tables(path)),
    description="11,534 nuclei on 400 fields of 1,376 x 1,020 px, cervix, conventional Papanicolaou smears.",
    classes=tuple(_CLASSES.values()),
    expected_total=11_534,
    group_rule="the field that a cell was cut from (image_id); patients cannot be known",
    licence="CC BY 4.0, as others quote it",
    citation=(
        "Rezende, Silva, Bernardo, et al.: CRIC searchable image database as a public platform for conventional Pap "
        "smear cytology data. Scientific Data 8 (2021) 151; doi:10.1038/s41597-021-00933-8."
    ),
    page="https://doi.org/10.6084/m9.figshare.c.4960286.v2",
    how_to_get=("Download classifications.csv and the 400 images of the collection into one folder, and point at it."),
    spellings={"NILM": ("Negative for intraepithelial lesion",)},
    verified=False,
)
