"""Figures: one style, saved as SVG, PNG, CSV and LaTeX; equal numbers give equal bytes."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from functools import cache as cache_once
from pathlib import Path
from textwrap import fill
from typing import Any, Protocol

import matplotlib as mpl
import pyarrow as pa
import pyarrow.csv as pa_csv
from matplotlib.figure import Figure as Drawing
from matplotlib.transforms import Bbox

from cytolora.core.cache_folder import CachedFiles
from cytolora.core.delimited import no_formula
from cytolora.core.files import sha256_file, write_bytes
from cytolora.display.column import DPI, Columns, for_columns, lay_out, render, to_pdf
from cytolora.display.format import escape_latex

INK = "#1f2430"
"""Text and axes; becomes the page's own text colour where a figure stands in the page."""
FAINT = "#8a919e"
GRID = "#e3e6eb"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe & Ito's colours, told apart by the colour-blind (https://jfly.uni-koeln.de/color/); no yellow, no black."""
MARKERS = ("o", "s", "^", "D", "v", "P")

_CAUTION = "#7a3500"
"""Becomes the page's own warning colour where a figure stands in the page."""
_LETTERS_AN_INCH = 17
"""Of a caution below a drawing."""
_MIN_LETTERS = 50

_COLUMNS: tuple[Columns, ...] = (1, 2)
"""Widths of a PDF."""

_PAD = 0.04
"""Inches around a drawing as PNG and SVG."""

_WHITE = '<rect width="100%" height="100%" fill="#ffffff"/>'

_LOOK: Mapping[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $5
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text stays text: searchable, and editable for a paper
    "svg.hashsalt": "cytolora",
    "pdf.fonttype": 42,  # letters as TrueType, which journals ask for
}


class Figure(Protocol):
    """A figure is data first: what is printed is what is drawn."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        ...

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        ...

    def frame(self) -> pa.Table:
        """Returns the numbers that are drawn."""
        ...

    def plot(self) -> Drawing:
        """Draws them."""
        ...


@contextmanager
def look() -> Iterator[None]:
    """Gives everything drawn within the report's look, whatever the user's matplotlib settings are."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_LOOK)
        yield


def stamp(drawing: Drawing, text: str, *, above: bool = False) -> None:
    """Writes a caution below a drawing, or above it, so that it goes wherever the picture goes."""
    if text:
        width = max(_MIN_LETTERS, int(_LETTERS_AN_INCH * drawing.get_figwidth()))
        lines = fill(f"Caution: {text}.", width)  # one long line would widen a small picture
        place: dict[str, Any] = {"y": 1.02, "va": "bottom"} if above else {"y": -0.01, "va": "top"}
        drawing.text(0.5, s=lines, ha="center", fontsize=7.5, color=_CAUTION, **place)


def save(figure: Figure, folder: Path, cache: Path | None = None, *, as_pdf: bool = False) -> str:
    """Writes ``<name>.svg``, ``.png``, ``.csv`` and ``.tex``, and returns the SVG for the page.

    The SVG in the file stands on white; the one returned takes the page's colours.

    Args:
        cache: Where drawings are kept under the hash of their numbers and of the code that draws; None keeps none.
        as_pdf: Writes ``<name>_1col.pdf`` and ``<name>_2col.pdf`` too, at the column widths of a paper.
    """
    table = to_csv_bytes(figure.frame())
    files = drawn(figure, table, cache, as_pdf=as_pdf) if cache else _draw(figure, as_pdf=as_pdf)
    svg, png = files["svg"].decode(), files["png"]
    for columns in _COLUMNS if as_pdf else ():
        write_bytes(folder / f"{figure.name}_{columns}col.pdf", files[f"{columns}col.pdf"], durable=False)
    write_bytes(folder / f"{figure.name}.png", png, durable=False)
    body = svg.index(">", svg.index("<svg")) + 1
    write_bytes(folder / f"{figure.name}.svg", (svg[:body] + _WHITE + svg[body:]).encode(), durable=False)
    write_bytes(folder / f"{figure.name}.csv", table, durable=False)
    write_bytes(folder / f"{figure.name}.tex", to_tabular(figure).encode(), durable=False)
    return _themed(svg, figure)


def in_page(figure: Figure) -> str:
    """Returns the SVG for a page, in the page's colours, and writes nothing."""
    with look():
        drawing = figure.plot()
        return _themed(_svg(drawing, lay_out(drawing)).decode(), figure)


def _draw(figure: Figure, *, as_pdf: bool) -> dict[str, bytes]:
    with look():
        drawing = figure.plot()
        box = lay_out(drawing)
        png = _render(drawing, "png", box.padded(_PAD), dpi=DPI, facecolor="white")
        files = {"png": png, "svg": _svg(drawing, box)}
        if as_pdf:
            files["2col.pdf"] = to_pdf(drawing, 2, box)  # last: a drawing that is too wide is scaled
            with for_columns(1):
                files["1col.pdf"] = to_pdf(figure.plot(), 1)
    return files


def drawn(figure: Figure, table: bytes, cache: Path, *, as_pdf: bool = False) -> dict[str, bytes]:
    """Returns a kept drawing by file suffix, or draws and keeps it; a damaged one counts as absent."""
    kept, key = CachedFiles(cache), _key(figure, table)
    names = {name: f"{key}/drawing.{name}" for name in ("svg", "png", *(f"{n}col.pdf" for n in _COLUMNS if as_pdf))}
    found = {name: kept.read(file, bytes) for name, file in names.items()}
    if (whole := {name: content for name, content in found.items() if content is not None}).keys() == names.keys():
        return whole
    made = _draw(figure, as_pdf=as_pdf)
    with suppress(OSError):  # a store on a read-only disk: drawn again next time
        for name, content in made.items():
            kept.keep(names[name], content)
    return made


def _key(figure: Figure, table: bytes) -> str:
    """Names a drawing by everything that it is made from: settings, caption, numbers, this package's code."""
    options = [
        f"{entry.name}={getattr(figure, entry.name)!r}"
        for entry in fields(figure)  # pyright: ignore[reportArgumentType]
        if entry.name not in ("setting", "settings")  # their numbers stand in the table
    ]
    parts = [type(figure).__name__, figure.name, figure.caption, *options, _code(), mpl.__version__]
    return hashlib.sha256(b"\0".join([*(part.encode() for part in parts), table])).hexdigest()


@cache_once
def _code() -> str:
    rooms = (Path(__file__).parent, Path(__file__).parents[1] / "reporting")
    return "".join(sha256_file(path) for room in rooms for path in sorted(room.rglob("*.py")))


def to_csv_bytes(table: pa.Table) -> bytes:
    """Writes a table as CSV; see ``no_formula`` for its texts."""
    for index, name in enumerate(table.column_names):
        if pa.types.is_string(table.schema.field(index).type):
            texts = [text and no_formula(text) for text in table.column(index).to_pylist()]
            table = table.set_column(index, name, pa.array(texts, pa.string()))
    table = table.rename_columns([no_formula(name) for name in table.column_names])
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def to_tabular(figure: Figure) -> str:
    """Prints the numbers of a figure for LaTeX; needs the package booktabs."""
    table = figure.frame()
    rows = [[_tex(value) for value in row.values()] for row in table.to_pylist()]
    lines = [
        f"% {figure.caption}".replace("\u00a0", " "),
        f"\\begin{{tabular}}{{{'l' * table.num_columns}}}",
        "\\toprule",
        " & ".join(map(escape_latex, table.column_names)) + " \\\\",
        "\\midrule",
        *(" & ".join(row) + " \\\\" for row in rows),
        "\\bottomrule",
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _tex(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else escape_latex(str(value))


def _svg(drawing: Drawing, box: Bbox) -> bytes:
    return _render(drawing, "svg", box.padded(_PAD), facecolor="none")


def _render(drawing: Drawing, kind: str, box: Bbox, **options: Any) -> bytes:
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    return render(drawing, kind, box, metadata=metadata, **options)


def _themed(svg: str, figure: Figure) -> str:
    """Cuts the XML header off, lets the page colour the ink, and keeps ids apart from those of other figures."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(f"fill: {INK}", "fill: currentColor").replace(f"stroke: {INK}", "stroke: currentColor")
    svg = svg.replace(GRID, "var(--grid)").replace(FAINT, "var(--faint)").replace(_CAUTION, "var(--warn-ink)")
    for opening in ('id="', 'href="#', "url(#"):
        svg = svg.replace(opening, f"{opening}{figure.name}-")
    return svg
