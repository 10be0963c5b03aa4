"""Rows of benchmarks: one value a round for each figure; printed in one way, and written as lines of JSON.

Every benchmark of speed makes rows and hands them to ``show``; benchmarks/all.py reads what ``--rows FILE`` wrote.
"""

import argparse
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

Figures = Mapping[str, Sequence[float]]
"""Values, one a round, by what they are: ``images per CPU s``, ``ratio``, ``MiB``."""

PEAK_SHARE = "% of peak"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a table: what was measured, under which conditions."""

    part: str
    name: str
    figures: Figures = field(default_factory=dict)
    conditions: str = ""
    """The work that was done (``batch 32``); rows of other conditions are not compared."""
    is_scaled: bool = False
    """Whether less was done than by default, and figures of the whole are computed from it."""
    problem: str = ""
    """``not installed: X``, ``not measured: why``, ``failed: last line``; empty where there are figures."""

    def __str__(self) -> str:
        shown = ", ".join(f"{shown_values(values)} {title}" for title, values in self.figures.items())
        where = ", ".join(filter(None, (self.conditions, "scaled" if self.is_scaled else "")))
        return f"{self.name}: {self.problem or shown}" + (f" ({where})" if where else "")


def shown_values(values: Sequence[float]) -> str:
    """Writes the median, and in brackets the smallest and the largest of several."""
    middle = shown_number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{shown_number(min(values))}, {shown_number(max(values))}]"


def shown_number(value: float) -> str:
    """Writes about three digits."""
    size = abs(value)
    if 0 < size < 0.01:
        return f"{value:.1e}"
    return f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2}f}"


def table(rows: Sequence[Row], remarks: Mapping[str, str] | None = None) -> str:
    """Writes rows of one part as a table in Markdown.

    Args:
        remarks: What the last column says, by name of the row.
    """
    titles = list(dict.fromkeys(title for row in rows for title in row.figures))
    lines = [["", *titles, ""], ["---", *["---:"] * len(titles), "---"]]
    for row in rows:
        figures = [shown_values(row.figures[title]) if title in row.figures else "" for title in titles]
        said = (row.problem, row.conditions, "scaled" if row.is_scaled else "", (remarks or {}).get(row.name, ""))
        lines.append([row.name, *figures, "; ".join(filter(None, said))])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def ratios(values: Sequence[float], to: Sequence[float]) -> tuple[float, ...]:
    """Divides round by round."""
    return tuple(value / base for value, base in zip(values, to, strict=True))


def last_line(text: str) -> str:
    """Returns the last line that is not empty, at most 200 characters."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no output")[:200]


def add_rows_option(parser: argparse.ArgumentParser) -> None:
    """Adds what ``show`` reads."""
    parser.add_argument("--rows", type=Path, help="also write every row to this file, as a line of JSON")


def show(rows: Iterable[Row], options: argparse.Namespace) -> int:
    """Prints rows as they come; returns the exit code, 1 where one failed."""
    failed = False
    for row in rows:
        failed |= row.problem.startswith("failed")
        print(row, flush=True)
        if options.rows:
            with options.rows.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
    return int(failed)


def read_rows(path: Path) -> Iterator[Row]:
    """Reads what ``show`` wrote; nothing where no row came."""
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield row_of(json.loads(line))


def row_of(plain: Mapping[str, object]) -> Row:
    """Makes a row of its JSON."""
    return Row(**plain)  # pyright: ignore[reportArgumentType]
