"""Line figures: a line with its band, axes in percent, a grid of panels."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, floor
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from cytolora.display import format as words
from cytolora.display.column import canvas, is_narrow
from cytolora.display.figure import MARKERS, PALETTE


def line(axes: Axes, rows: Sequence[dict[str, Any]], x: str, *, colour: str, band: bool = True, **style: Any) -> None:
    """Draws ``mean`` against a column of rows, with a band of ``std``, the seeds as dots and the interval as a bar."""
    points = sorted((row for row in rows if row[x] is not None), key=lambda row: row[x])
    x_values, mean = (np.array([row[key] for row in points], dtype=float) for key in (x, "mean"))
    if band:
        spread(axes, points, x, colour=colour)
        seeds(axes, points, x, colour=colour)
        interval_bars(axes, points, x, colour=colour)
    options: dict[str, Any] = {"color": colour, "zorder": 3, "linewidth": 1.6, "markersize": 4.5} | style
    axes.plot(x_values, mean, **options)


def spread(axes: Axes, points: Sequence[dict[str, Any]], x: str, *, colour: str) -> None:
    """Draws ``std`` around ``mean`` as a band, or as a bar where a single point has no width to fill."""
    x_values, mean, std = (
        np.array([row[key] for row in points], dtype=float) for key in (x, "mean", "std")
    )  # None: nan
    if len(points) == 1:
        axes.errorbar(x_values, mean, std, color=colour, alpha=0.45, capsize=3, linewidth=1.2, zorder=1)
    else:
        axes.fill_between(x_values, mean - std, mean + std, color=colour, alpha=0.16, linewidth=0, zorder=1)


def seeds(axes: Axes, points: Sequence[Mapping[str, Any]], x: str, *, colour: str) -> None:
    """Draws each seed as a small dot, where there are several; ``by_seed`` holds them as text."""
    pairs = [(row[x], value) for row in points for value in seed_values(row) if len(seed_values(row)) > 1]
    if pairs:
        axes.scatter(*zip(*pairs, strict=True), s=5, color=colour, alpha=0.6, linewidths=0, zorder=2.5)


def interval_bars(axes: Axes, points: Sequence[Mapping[str, Any]], x: str, *, colour: str) -> None:
    """Draws the sampling interval, ``low`` to ``high``, as a thin bar with caps: not what the band over seeds says."""
    known = [row for row in points if row.get("low") is not None and row.get("high") is not None]
    if known:
        middle = [row["mean"] for row in known]
        ends = [[max(0.0, m - row["low"]), max(0.0, row["high"] - m)] for m, row in zip(middle, known, strict=True)]
        style: dict[str, Any] = {"fmt": "none", "ecolor": colour, "elinewidth": 0.7, "capsize": 2, "capthick": 0.7}
        axes.errorbar([row[x] for row in known], middle, np.transpose(ends), alpha=0.75, zorder=2, **style)


def in_text(values: Iterable[float]) -> str:
    """Writes the values of the seeds into one field: ``0.712; 0.734``."""
    return "; ".join(f"{value:.6g}" for value in values)


def seed_values(row: Mapping[str, Any]) -> list[float]:
    """Reads them back; none where a row has no such field."""
    return [float(value) for value in (row.get("by_seed") or "").split("; ") if value]


def extent(rows: Iterable[Mapping[str, Any]]) -> list[float]:
    """Returns all levels that ``line`` draws of rows: means, bands, seeds and interval ends; for the axis."""
    levels = []
    for row in rows:
        if row.get("mean") is not None:
            ends = [row.get(end) for end in ("low", "high")]
            std = row.get("std") or 0
            levels += [row["mean"] - std, row["mean"] + std, *seed_values(row), *(v for v in ends if v is not None)]
    return levels


def what_is_drawn(rows: Iterable[Mapping[str, Any]]) -> str:
    """Says what ``line`` draws of rows: the spread over seeds (training) and the sampling interval are two things."""
    text = "Points: mean over seeds"
    if any(row["std"] is not None for row in rows):
        text += "; small dots: single seeds; bands, or wide bars: ±\u00a01 standard deviation over seeds (training)"
    return f"{text}; thin bars with caps: 95 % sampling interval over test groups or images."


def colours(names: Sequence[str]) -> dict[str, str]:
    """Gives each name a colour; more names than colours share them, and differ by ``markers``."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(names)}


def markers(names: Sequence[str]) -> dict[str, str]:
    """Gives each name a marker, such that no two share both colour and marker."""
    return {name: MARKERS[(index + index // len(PALETTE)) % len(MARKERS)] for index, name in enumerate(names)}


def linear_last(methods: Iterable[str]) -> list[str]:
    """Sorts methods, the linear ones last: they are what the others are compared with."""
    return sorted(methods, key=lambda name: (words.kind_of(name) == "linear", name))


def panels(count: int, columns: int, *, share_y: bool, size: tuple[float, float]) -> tuple[Drawing, list[Axes]]:
    """Makes a drawing of ``count`` panels, each of ``size`` inches, and returns these."""
    columns = 1 if is_narrow() else min(columns, count)
    rows = ceil(count / columns)
    drawing = canvas(size[0] * columns, size[1] * rows + 0.6)
    grid = np.atleast_1d(drawing.subplots(rows, columns, sharey=share_y)).ravel()
    for spare in grid[count:]:
        spare.set_visible(False)
    return drawing, list(grid[:count])


def percent_axis(axes: Axes, levels: Sequence[float]) -> None:
    """Scales y to round percentages around all ``levels``."""
    low, high = floor(20 * min(levels) - 0.4) / 20, ceil(20 * max(levels) + 0.4) / 20
    axes.set_ylim(max(0.0, low), min(1.01, high))
    percent_ticks(axes.yaxis)
    axes.grid(axis="y")
    axes.set_axisbelow(True)


def percent_ticks(axis: Axis, at_most: int | Literal["auto"] = "auto") -> None:
    """Puts ticks of shares at round percentages, and labels each with its whole value: ``2.5 %``, never ``2 %``.

    Args:
        at_most: Steps between ticks; as many as there is room for if ``auto``.
    """
    axis.set_major_locator(MaxNLocator(at_most, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda share, _: words.whole_percent(share)))


def plain_ticks(axes: Axes, ticks: Sequence[float], *, log: bool, share: bool = False) -> None:
    """Puts ticks at the values that occur, written out."""
    if log:
        axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
    axes.xaxis.set_minor_locator(NullLocator())
    labels = [words.whole_percent(tick) if share else f"{tick:,g}" for tick in ticks]
    axes.set_xticks(ticks, labels, fontsize=7 if len(ticks) > 6 or share else None)
