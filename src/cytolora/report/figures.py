"""What every figure shares: data first, one look, the same bytes from the same numbers."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import matplotlib as mpl
import pyarrow as pa
import pyarrow.csv as pa_csv
from matplotlib.figure import Figure as Drawing

from cytolora.files import write_bytes, write_text

INK = "#1f2430"
"""Text and axes; becomes the page's own text colour where a figure stands in the page."""
FAINT = "#8a919e"
GRID = "#e3e6eb"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe & Ito's colours, told apart by the colour-blind (https://jfly.uni-koeln.de/color/); no yellow, no black."""
MARKERS = ("o", "s", "^", "D", "v", "P")

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


def save(figure: Figure, folder: Path) -> str:
    """Writes ``<name>.svg``, ``.png`` and ``.csv``, and returns the SVG for the page.

    The SVG in the file stands on white; the one returned takes the page's colours.
    """
    with look():
        drawing = figure.plot()
        write_bytes(folder / f"{figure.name}.png", _render(drawing, "png", dpi=200, facecolor="white"))
        svg = _render(drawing, "svg", facecolor="none").decode()
    body = svg.index(">", svg.index("<svg")) + 1
    write_text(folder / f"{figure.name}.svg", svg[:body] + _WHITE + svg[body:])
    sink = pa.BufferOutputStream()
    pa_csv.write_csv(figure.frame(), sink)
    write_bytes(folder / f"{figure.name}.csv", sink.getvalue().to_pybytes())
    return _themed(svg, figure)


def _render(drawing: Drawing, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    drawing.savefig(sink, format=kind, bbox_inches="tight", pad_inches=0.04, metadata=metadata, **options)
    return sink.getvalue()


def _themed(svg: str, figure: Figure) -> str:
    """Cuts the XML header off, lets the page colour the ink, and keeps ids apart from those of other figures."""
    svg = svg[svg.index("<svg") :]
    svg = svg.replace(f"fill: {INK}", "fill: currentColor").replace(f"stroke: {INK}", "stroke: currentColor")
    svg = svg.replace(GRID, "var(--grid)").replace(FAINT, "var(--faint)")
    for opening in ('id="', 'href="#', "url(#"):
        svg = svg.replace(opening, f"{opening}{figure.name}-")
    return svg
