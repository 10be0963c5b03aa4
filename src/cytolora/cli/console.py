"""Consoles and tables that print text as it is: what stands in [brackets] or between :colons: is data, never markup.

Names, paths, licences and messages of plug-ins come from others. No other module but those of progress imports rich.
"""

import io
import sys
from collections.abc import Mapping, Sequence
from textwrap import wrap

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text


def print_any_text() -> None:
    """Makes standard output and error replace what their encoding cannot write, where they would fail."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def make_console(*, stderr: bool = False, soft_wrap: bool = True) -> Console:
    """Makes a console of standard output or error.

    Args:
        soft_wrap: Leaves long lines to the terminal; otherwise they are broken, and columns of tables are.
    """
    return Console(stderr=stderr, soft_wrap=soft_wrap, markup=False, emoji=False, highlight=False)


def print_item(console: Console, mark: str, text: str, *, style: str) -> None:
    """Prints an item of a list behind its mark; on a terminal the mark is coloured and further lines are indented.

    Elsewhere it is one line, so that it can be searched for.
    """
    room = max(20, console.width - len(mark) - 1)
    rows = wrap(text, room, break_long_words=False, break_on_hyphens=False) if console.is_terminal else [text]
    lead = " " * (len(mark) + 1)
    for number, row in enumerate(rows or [""]):
        console.print(Text.assemble(*([(mark, style), " "] if number == 0 else [lead]), row))


_NARROW = 120
"""Columns of a terminal below which a table of many columns would be broken in every cell."""
_FEW = 3
_BROKEN = 16
"""Characters: the longest identifier of a licence that has one is CC-BY-NC-ND-4.0."""


def print_rows(
    rows: Sequence[Mapping[str, object]],
    title: str = "name",
    description: str = "description",
    narrow: Sequence[str] = (),
) -> bool:
    """Prints rows of equal keys as a table; where it is too narrow for one, fewer columns, or a paragraph each.

    Args:
        rows: At least one.
        title: Key of the name, which is never broken.
        description: Key of the text that stands beside the name in a paragraph.
        narrow: Keys of the columns where there is no room for all; empty: all of them, in paragraphs.

    Returns:
        Whether columns were left out.
    """
    console = make_console(soft_wrap=False)
    if console.width >= _NARROW or len(rows[0]) <= _FEW or narrow:
        is_whole = console.width >= _NARROW or len(rows[0]) <= _FEW
        keys = list(rows[0]) if is_whole else list(narrow)
        table = PlainTable(*keys, no_wrap=title, broken=() if is_whole else [key for key in keys if key != description])
        for row in rows:
            table.add_row(*(str(row[key]) for key in keys))
        console.print(table)
        return not is_whole
    for row in rows:
        others = [f"{key}: {value}" for key, value in row.items() if key not in (title, description) and value != ""]
        lead, facts = f"{row[title]}  {row[description]}".rstrip(), ", ".join(others)
        for line in [*_paragraph(lead, console.width, ""), *_paragraph(facts, console.width, _INDENT)]:
            console.print(Text(line), soft_wrap=True)
    return False


_INDENT = "    "


def _paragraph(text: str, width: int, start: str) -> list[str]:
    return wrap(
        text,
        width - 1,
        initial_indent=start,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )


class PlainTable:
    """A table without lines whose cells are printed as they are."""

    def __init__(
        self, *headers: str, no_wrap: str | None = None, pad_edge: bool = True, broken: Sequence[str] = ()
    ) -> None:
        """Makes an empty table.

        Args:
            no_wrap: A column that is never broken: it is there to be copied.
            broken: Columns whose long texts are broken to leave room for the others.
        """
        columns = (
            Column(
                Text(header),
                no_wrap=header == no_wrap,
                overflow="fold",
                max_width=_BROKEN if header in broken and header != no_wrap else None,
            )
            for header in headers
        )
        self._table = Table(*columns, box=None, header_style="bold", pad_edge=pad_edge)

    def add_row(self, *cells: str, style: str | None = None) -> None:
        """Adds a row."""
        self._table.add_row(*map(Text, cells), style=style)

    def __rich__(self) -> Table:
        return self._table
