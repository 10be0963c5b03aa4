"""Models trained on all images, side by side: mean, interval and published value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from cytolora.display.column import canvas, legend
from cytolora.display.figure import FAINT, INK, MARKERS, PALETTE, stamp
from cytolora.display.lines import percent_ticks
from cytolora.reporting.results.flags import caution, in_caption, in_file
from cytolora.reporting.results.settings import Setting


@dataclass(frozen=True, kw_only=True)
class Levels:
    """One dataset's accuracy on test of every model and method that was trained on all images."""

    dataset: str
    settings: Sequence[Setting]
    slug: str
    """Names the dataset in file names."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.slug}_all_images"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        text = f"{self.dataset}: accuracy on the test set after training on all images. Points: mean over seeds; "
        text += "lines: 95 % interval over the test images or groups."
        if any(setting.published for setting in self._shown):
            text += " Diamonds: published values, measured on other splits."
        return text + in_caption(self._shown)

    @property
    def drawable(self) -> bool:
        """Whether any setting was trained on all images and tested."""
        return bool(self._shown)

    @property
    def _shown(self) -> list[Setting]:
        found = [
            setting
            for setting in self.settings
            if setting.shots is None and setting.fraction is None and setting.tested
        ]
        return sorted(found, key=lambda setting: setting.test("accuracy").mean)  # pyright: ignore[reportOptionalMemberAccess]

    def frame(self) -> pa.Table:
        """Returns a row per point."""
        shown = self._shown
        spreads = [setting.test("accuracy") for setting in shown]
        intervals = [setting.intervals["accuracy"] for setting in shown]
        published = [setting.published for setting in shown]
        return pa.table(
            {
                "dataset": [setting.dataset for setting in shown],
                "model": [setting.model for setting in shown],
                "method": [setting.method for setting in shown],
                "mean": [spread and spread.mean for spread in spreads],
                "std": [spread and spread.std for spread in spreads],
                "low": [interval.low for interval in intervals],
                "high": [interval.high for interval in intervals],
                "published": pa.array([entry and entry.accuracy for entry in published], pa.float64()),
                "source": pa.array([entry and entry.source for entry in published], pa.string()),
                "flags": [in_file(setting) for setting in shown],
            }
        )

    def plot(self) -> Drawing:
        """Draws the best on top."""
        rows = self.frame().to_pylist()
        methods = sorted({row["method"] for row in rows})
        drawing = canvas(6.6, 0.32 * len(rows) + 1.0)
        axes = drawing.subplots()
        for place, row in enumerate(rows):
            style = methods.index(row["method"])
            colour = _colour(methods, row["method"])
            axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=1.4, alpha=0.7)
            axes.plot(row["mean"], place, MARKERS[style % len(MARKERS)], color=colour, markersize=6)
            if row["published"] is not None:
                axes.plot(row["published"], place, "D", markerfacecolor="none", markeredgecolor=INK, markersize=7)
        names = [row["model"] if len(methods) == 1 else f"{row['model']}, {row['method']}" for row in rows]
        axes.set_yticks(np.arange(len(rows)), names)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        percent_ticks(axes.xaxis, at_most=8)
        axes.set_xlabel("Accuracy on test")
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_color(FAINT)
        legend(drawing, self._legend(methods, rows), loc="outside right center")
        stamp(drawing, caution(self._shown))
        return drawing

    @staticmethod
    def _legend(methods: list[str], rows: list[dict[str, Any]]) -> list[Line2D]:
        handles = []
        for style, method in enumerate(methods):
            colour = _colour(methods, method)
            handles.append(Line2D([], [], color=colour, marker=MARKERS[style % len(MARKERS)], label=method))
        if any(row["published"] is not None for row in rows):
            diamond: dict[str, Any] = {
                "marker": "D",
                "markerfacecolor": "none",
                "markeredgecolor": INK,
                "linestyle": "none",
            }
            handles.append(Line2D([], [], label="published", **diamond))
        return handles


def _colour(methods: list[str], method: str) -> str:
    return INK if len(methods) == 1 else PALETTE[methods.index(method) % len(PALETTE)]
