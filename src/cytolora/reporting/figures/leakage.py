"""Leakage beside the numbers: inflation by an image split, and sources read from frozen and adapted features."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cytolora.display import format as words
from cytolora.display.column import canvas, is_narrow, legend
from cytolora.display.figure import FAINT, INK, PALETTE
from cytolora.display.lines import percent_ticks
from cytolora.reporting.leakage.section import COLUMNS, LeakageSection, to_rows

_GROUP = "group"


@dataclass(frozen=True, kw_only=True)
class LeakageFigure:
    """One dataset: a line for each model and kind of features."""

    section: LeakageSection
    slug: str
    """Names the dataset in file names."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.slug}_leakage"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        return (
            f"{self.section.dataset}: leakage and shortcuts. Inflation: balanced accuracy of one head divided by image "
            "less divided by group, with its 95 % interval for other groups. Source read: balanced accuracy of a "
            "classifier of the group (patient, slide or field), beside chance, the same with permuted groups."
        )

    @property
    def drawable(self) -> bool:
        """Whether anything was measured."""
        return bool(self._rows)

    def frame(self) -> pa.Table:
        """Returns the rows of leakage.csv that are drawn."""
        return pa.table({name: [row[name] for row in self._rows] for name in COLUMNS})

    def plot(self) -> Drawing:
        """Draws both panels, the first model on top."""
        rows = self._rows[::-1]
        height = 0.3 * len(rows) + 1.1
        drawing = canvas(6.6, 2 * height if is_narrow() else height)
        left, right = drawing.subplots(*((2, 1) if is_narrow() else (1, 2)), sharey=not is_narrow())
        self._inflation(left, rows)
        self._sources(right, rows)
        names = [_name(row) for row in rows]
        for axes in (left, right) if is_narrow() else (left,):
            axes.set_yticks(np.arange(len(rows)), names)
        for axes in (left, right):
            axes.set_ylim(-0.6, len(rows) - 0.4)
            axes.grid(axis="x")
            axes.set_axisbelow(True)
            axes.spines["left"].set_color(FAINT)
        handles = [Line2D([], [], color=_ink(kind), marker="o", linestyle="none", label=kind) for kind in self._kinds]
        handles.append(Line2D([], [], color=INK, marker="|", markersize=9, linestyle="none", label="chance"))
        legend(drawing, handles, loc="outside upper left", ncols=3)
        return drawing

    @staticmethod
    def _inflation(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
        axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
        for place, row in enumerate(rows):
            if row["inflation"] is not None:
                ends = [row["inflation_low"], row["inflation_high"]]
                axes.plot(ends, [place, place], color=_ink(row["features"]), linewidth=1.4, alpha=0.7)
                axes.plot(row["inflation"], place, "o", color=_ink(row["features"]), markersize=5)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: words.difference(share, 0)))
        axes.set_xlabel("Inflation by an image split, points")

    @staticmethod
    def _sources(axes: Axes, rows: Sequence[dict[str, Any]]) -> None:
        for place, row in enumerate(rows):
            if row["source_read"] is not None:
                axes.plot(row["source_chance"], place, "|", color=INK, markersize=9)
                axes.plot(row["source_read"], place, "o", color=_ink(row["features"]), markersize=5)
        axes.set_xlim(0, 1.02)
        percent_ticks(axes.xaxis, at_most=5)
        axes.set_xlabel("Source read from the features")

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return [row for row in to_rows([self.section]) if row["source"] in (_GROUP, None)]

    @property
    def _kinds(self) -> list[str]:
        return list(dict.fromkeys(row["features"] for row in self._rows))


def _name(row: dict[str, Any]) -> str:
    return f"{row['model']}, {row['features']}, {row['cells']} cells"


def _ink(features: str) -> str:
    return PALETTE[0] if features == "frozen" else PALETTE[1]
