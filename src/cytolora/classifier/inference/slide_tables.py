"""Slides of images by a column of the tables that lie in their folders, for transductive prediction."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cytolora.classifier.inference.image_sources import as_text
from cytolora.core.text import counted, matching, normal
from cytolora.data.readers.csv import TABLE
from cytolora.data.readers.paths import NamesOnDisk
from cytolora.data.readers.tables import read_rows
from cytolora.errors import DataError, unknown_name


def by_column(paths: Sequence[str], column: str, images: Iterable[str]) -> Callable[[str], str]:
    """Returns what names the slide of an image by the image's name.

    Two tables with one name for a slide mean two slides.

    Args:
        paths: As they were named; the folders among them hold a ``manifest.csv`` with columns path and ``column``.
        images: Names of all images at these paths.

    Raises:
        DataError: If there is no such table or column, an image has no slide, or two.
    """
    files = tables_at(paths)
    if not files:
        raise DataError(
            f"--slide {column} reads {TABLE} in the folders that are named, and there is none in {', '.join(paths)}. "
            f"Name a folder with a {TABLE} (columns path and {column}), or use --slide-by folder."
        )
    slides: dict[str, str] = {}
    for file in files:
        of_table = f"{file.parent}: " if len(files) > 1 else ""
        for name, slide in _read(file, column).items():
            slides[name] = of_table + slide
    lacking = [name for name in images if name not in slides]
    if lacking:
        raise DataError(
            f"{counted(len(lacking), 'image has', 'images have')} no {column} in {TABLE}, the first is {lacking[0]}. "
            "Every image of --slide is a row of the table in its folder: add them, or name fewer images."
        )
    return slides.__getitem__


def tables_at(paths: Sequence[str]) -> list[Path]:
    """Lists the tables of the folders among some paths."""
    return [file for path in dict.fromkeys(map(Path, paths)) if (file := path / TABLE).is_file()]


def _read(file: Path, column: str) -> dict[str, str]:
    """Reads the slide of every image of a table, by the image's name; rows without one are left out."""
    rows = read_rows(file, ("path",))
    found = matching(column, rows[0][1])
    if found is None:
        raise unknown_name(f"column of {file} in --slide", column, rows[0][1])
    names, slides = NamesOnDisk(file.parent), dict[str, str]()
    for line, row in rows:
        slide = normal(row[found])
        if not slide:
            continue
        where = f"{file}, line {line}"
        name = as_text(file.parent / names.find(where, row["path"]))
        if slides.setdefault(name, slide) != slide:
            raise DataError(f"{where}: {row['path']} is of {found} {slide!r}, and of {slides[name]!r} above; keep one.")
    return slides
