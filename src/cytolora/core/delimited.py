"""Delimited tables: encoding, delimiter, quoting, header and rows of every CSV or tab-separated file that is read."""

import codecs
import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cytolora.core.text import folded, normal
from cytolora.errors import DataError

DELIMITERS = (",", ";", "\t")
"""The first wins where nothing tells."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAVE = "Save it as CSV UTF-8."
_OTHER_FILES = {
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", _SAVE),
    b"\x1f\x8b": ("a gzip file", "Unpack it, and name the file that comes out."),
    b"%PDF": ("a PDF", _SAVE),
    b"PAR1": ("a Parquet file", _SAVE),
    b"SQLite format 3": ("an SQLite database", _SAVE),
}
"""By how they begin: what they are, and what to do."""
_ZIP = b"PK\x03\x04"
_WORKBOOKS = {b"[Content_Types].xml": "an Excel workbook", b"opendocument.spreadsheet": "an OpenDocument workbook"}
"""By what is written into such a zip file."""
_LINE_END = re.compile(r"\r\n|\r|\n")
_SEP_LINE = re.compile(r"[\ufeff\s]*\"?sep=(\\t|[^\w\"\r\n])\"?[,;\t ]*(?:\r\n|\r|\n|$)", re.IGNORECASE)
"""The first line of tables for Excel: ``sep=;``."""
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a text begins that a spreadsheet would run, and one that is told from it by apostrophes."""
_MARKED = re.compile(r"'+[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-](\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|-(inf|nan)")
_NUM_LINES = 50
"""Rows that show which delimiter is meant."""
_HEADER_BYTES = 65_536
_MAX_BYTES = 2**30
"""Of a table or list: ten million rows of a hundred characters."""

Row = tuple[int, dict[str, str]]
"""Number of the line where it begins, and cells by column."""
Alias = Callable[[str], str | None]
"""Tells which column one of another name is meant as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a header: every row has a cell for every column, and no two columns have one name."""

    name: str
    """For errors: its path."""
    columns: tuple[str, ...]
    """In normal form (core/text.py); a first column without a name is ``column 1``."""
    rows: list[Row]
    delimiter: str
    """A semicolon may go with decimal commas."""


def read_table(
    path: Path, required: Sequence[str] = (), *, keep_blanks: bool = False, alias: Alias = lambda column: None
) -> Table:
    """Reads a file of UTF-8, or of UTF-16 or UTF-32 with a byte order mark, with any line ends.

    Args:
        required: Columns that it must have.
        keep_blanks: Keeps blanks around cells, which do not count otherwise.
        alias: For the error where a required column is absent: which one to rename.

    Raises:
        DataError: If it cannot be read as a table, with the line; or a required column is absent.
    """
    return parse_table(read_text(path), str(path), required, keep_blanks=keep_blanks, alias=alias)


def parse_table(
    text: str,
    name: str,
    required: Sequence[str] = (),
    *,
    keep_blanks: bool = False,
    alias: Alias = lambda column: None,
) -> Table:
    """Reads a table from its text; see ``read_table``.

    Args:
        name: Of the table, for errors.
    """
    dialect = _dialect(text, required)
    records = _records(text, name, dialect)
    _, header = next(records, (1, []))
    columns = _columns(name, header)
    named = tuple(column for column in columns if column)
    _check_required(name, named, required, alias)
    rows = [(line, _row(name, line, cells, columns, keep_blanks=keep_blanks)) for line, cells in records]
    return Table(name=name, columns=named, rows=rows, delimiter=dialect.delimiter)


def read_columns(path: Path) -> tuple[str, ...]:
    """Returns the columns of a table and reads no more than its beginning; nothing for what is no table."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_BYTES)
        encoding = next((encoding for mark, encoding in _MARKS if start.startswith(mark)), "utf-8-sig")
        text = start.decode(encoding, errors="replace")
        _, header = next(_records(text, str(path), _dialect(text, ())), (1, []))
        return tuple(column for column in _columns(str(path), header) if column)
    except (OSError, DataError):
        return ()


def read_text(path: Path) -> str:
    """Reads a text file of UTF-8, or of UTF-16 or UTF-32 with a byte order mark.

    Raises:
        DataError: If it is another kind of file or of another encoding, with the line.
    """
    cannot = f"Cannot read {path} as UTF-8 text"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{cannot}: {error.strerror or error}.") from error
    if len(content) > _MAX_BYTES:
        raise DataError(f"{cannot}: it has more than {_MAX_BYTES:,} bytes. Divide it into several tables.")
    other = _other_file(content)
    if other:
        raise DataError(f"{cannot}: it is {other[0]}, whatever its name says. {other[1]}")
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line_of(content[: error.start].decode(encoding, errors="replace"))
        name = encoding.removesuffix("-sig").upper()
        found = f"the byte 0x{content[error.start]:02x}" if encoding == "utf-8-sig" else "half a character"
        raise DataError(f"{cannot}: line {line} has {found}, which is no {name}. {_SAVE}") from error
    if "\0" in text:
        line = _line_of(text[: text.index("\0")])
        raise DataError(f"{cannot}: line {line} has a NUL byte, as UTF-16 without a byte order mark has. {_SAVE}")
    return text


def _other_file(content: bytes) -> tuple[str, str] | None:
    """Tells what a file is that is no text, and what to do with it."""
    if content.startswith(_ZIP):
        workbook = next((what for mark, what in _WORKBOOKS.items() if mark in content), None)
        return (workbook, _SAVE) if workbook else ("a zip file", "Unpack it, and name the file in it.")
    return next((what for mark, what in _OTHER_FILES.items() if content.startswith(mark)), None)


def csv_line(cells: Iterable[object], *, marks_formulas: bool = True) -> str:
    """Writes one row as CSV, with its line end; the one writer of tables, which ``read_table`` reads back.

    Args:
        cells: Texts and numbers; None is an empty cell.
        marks_formulas: See ``no_formula``; False for tables that other programs join with what is not marked.
    """
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # a carriage return is quoted for this line end only
    writer.writerow(no_formula(cell) if marks_formulas and isinstance(cell, str) else cell for cell in cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def no_formula(text: str) -> str:
    """Puts an apostrophe before a text that a spreadsheet would run as a formula; numbers stay as they are.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def _as_meant(cell: str) -> str:
    """Takes the apostrophe of ``no_formula`` away."""
    return cell[1:] if _MARKED.match(cell) else cell


def lines_of(text: str) -> list[str]:
    """Divides a text at its line ends, and nowhere else: ``str.splitlines`` knows more of them."""
    return _LINE_END.split(text)


def _line_of(before: str) -> int:
    return len(lines_of(before))


class _Dialect(NamedTuple):
    delimiter: str
    start: int
    """Characters of the line that names the delimiter, which is no row."""


def _dialect(text: str, required: Sequence[str]) -> _Dialect:
    given = _SEP_LINE.match(text)
    if given:
        return _Dialect(given[1].replace("\\t", "\t"), given.end())
    return _Dialect(_delimiter(text, required), 0)


def _records(text: str, name: str, dialect: _Dialect) -> Iterator[tuple[int, list[str]]]:
    """Yields header and rows as written, each with its line; blank lines and rows of empty cells are passed over."""
    reader = _reader(text[dialect.start :], dialect.delimiter)
    num_before = _line_of(text[: dialect.start]) - 1
    may_be_marked = "'" in text  # few tables have one, and to look at each cell takes long
    while True:
        line = num_before + reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"Cannot read {name} as a table, line {line}: {error}. Close every quote, and write a quote inside "
                'quotes twice: "5"" slide".'
            ) from error
        if cells is None:
            return
        if may_be_marked:
            cells = [_as_meant(cell) for cell in cells]
        if any(map(str.strip, cells)):
            yield line, cells


def _reader(text: str, delimiter: str) -> Any:
    spaced = f'{delimiter} "' in text  # "a.png", "low, grade"
    return csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=spaced)


def _delimiter(text: str, required: Sequence[str]) -> str:
    """Chooses the delimiter that gives the required columns, else several columns with rows of the same number."""
    return max(DELIMITERS, key=lambda delimiter: _evidence(text, delimiter, required))


def _evidence(text: str, delimiter: str, required: Sequence[str]) -> tuple[bool, bool, float, int]:
    lines: list[list[str]] = []
    with suppress(csv.Error):  # what was read until there counts; it is raised when the table is read
        lines += (cells for cells in islice(_reader(text, delimiter), _NUM_LINES) if any(map(normal, cells)))
    if not lines:
        return False, False, 0.0, 0
    header, rows = _trimmed(lines[0]), lines[1:]
    fitting = sum(len(_trimmed(row)) <= len(header) <= len(row) for row in rows)
    has_required = bool(required) and set(required) <= set(map(normal, header))
    return has_required, len(header) > 1, fitting / len(rows) if rows else 1.0, len(header)


def _trimmed(cells: list[str]) -> list[str]:
    """Leaves out empty cells at the end, which spreadsheets write."""
    end = len(cells)
    while end and not normal(cells[end - 1]):
        end -= 1
    return cells[:end]


def _columns(name: str, header: list[str]) -> list[str]:
    """Returns the names of all columns; a name is empty where none is written."""
    columns = [normal(column) for column in _trimmed(header)]
    if columns and not columns[0]:
        columns[0] = "column 1"  # the index of a data frame
    twice = next((column for column, times in Counter(columns).items() if column and times > 1), None)
    if twice is not None:
        numbers = [str(number) for number, column in enumerate(columns, start=1) if column == twice]
        raise DataError(
            f"{name}: {twice!r} is the name of the columns {' and '.join(numbers)}, expected one column of each name. "
            "Remove one of them, or give it another name."
        )
    return columns


def _check_required(name: str, columns: tuple[str, ...], required: Sequence[str], alias: Alias) -> None:
    for needed in required:
        alike = [column for column in columns if folded(column) == folded(needed) or alias(column) == needed]
        if needed not in columns:
            advice = f" Rename {alike[0]!r} to {needed}." if alike else ""
            raise DataError(f"{name} has no column {needed!r}; its header is: {', '.join(columns) or 'empty'}.{advice}")
        twin = next((column for column in alike if column != needed and folded(column) == folded(needed)), None)
        if twin:
            raise DataError(
                f"{name} has the columns {needed!r} and {twin!r}, expected one of them. Remove one, or rename it."
            )


def _row(name: str, line: int, cells: list[str], columns: list[str], *, keep_blanks: bool) -> dict[str, str]:
    if len(cells) != len(columns):
        _check_length(name, line, cells, columns)
    row = dict(zip(columns, cells if keep_blanks else map(str.strip, cells), strict=False))
    if "" in row:
        nameless = next((n for n, column in enumerate(columns) if not column and normal(cells[n])), None)
        if nameless is not None:
            raise DataError(
                f"{name}, line {line}: found {cells[nameless]!r} in column {nameless + 1}, which has no name. Name it."
            )
        del row[""]
    return row


def _check_length(name: str, line: int, cells: list[str], columns: list[str]) -> None:
    """Raises a DataError where a row is shorter than the header, or longer by more than empty cells."""
    used = len(_trimmed(cells))
    if len(columns) < used or len(cells) < len(columns):
        number = max(used, min(len(cells), len(columns)))
        cure = "Put quotes around a cell that holds a delimiter" if used > len(columns) else "Write empty cells, too"
        raise DataError(
            f"{name}, line {line}: found {number} cell{'s' * (number != 1)}, the header has {len(columns)}. {cure}."
        )
