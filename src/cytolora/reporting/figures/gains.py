"""Gain of adapters over the linear head at equal amounts of training images, with paired intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cytolora.display import format as words
from cytolora.display.column import legend
from cytolora.display.figure import FAINT, INK, stamp
from cytolora.display.lines import colours, interval_bars, markers, panels, seeds
from cytolora.reporting.comparison.gains import COLUMNS, Gain, to_rows
from cytolora.reporting.figures.few_shot import in_print_order
from cytolora.reporting.results.flags import caution, in_caption
from cytolora.reporting.results.settings import Setting

_WIDTH = 0.62
"""Of the room for the points of one amount, in steps between amounts."""


_LEGEND_LINE = 0.15
"""Inches that each name of the legend adds to the panels."""


@dataclass(frozen=True, kw_only=True)
class Gains:
    """A panel per dataset; a point per amount, model and method."""

    gains: Sequence[Gain]

    @property
    def name(self) -> str:
        """The stem of its files."""
        return "gains"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        text = (
            "Accuracy on the test set, adapter minus linear head, at equal training images on the same test images, in "
            "points. Large: difference of the means over seeds; small dots: single seeds; bars: 95 % interval of the "
            "paired difference for other test groups or images, not for other seeds. Above the line the adapter is "
            "better. A method on several divisions has a large point for each, one below the other."
        )
        return text + in_caption(self._drawn)

    @property
    def drawable(self) -> bool:
        """Whether any adapter has a linear head beside it."""
        return bool(self.gains)

    def frame(self) -> pa.Table:
        """Returns a row per pair, shares in [0, 1]."""
        return pa.table({name: [row[name] for row in self._rows] for name in COLUMNS})

    def plot(self) -> Drawing:
        """Draws a panel per dataset, two beside each other, amounts from left to right."""
        datasets = in_print_order({row["dataset"] for row in self._rows}, 0)
        names = list(dict.fromkeys(row["name"] for row in self._rows))
        room = _LEGEND_LINE * len(names) / len(datasets)
        drawing, axes = panels(len(datasets), 2, share_y=False, size=(3.5, 2.5 + room))
        inks, marks = colours(names), markers(names)
        for panel, dataset in zip(axes, datasets, strict=True):
            self._panel(panel, [row for row in self._rows if row["dataset"] == dataset], names)
            panel.set_title(dataset)
        handles = [Line2D([], [], color=inks[n], marker=marks[n], linestyle="none", label=n) for n in names]
        legend(drawing, handles, loc="outside upper left", ncols=2 if len(datasets) > 1 else 1)
        drawing.supxlabel(
            "Training images per class (shots)" if self._in_shots_alone else "Training images", fontsize=9
        )
        drawing.supylabel("Adapter minus linear, points", fontsize=9)
        stamp(drawing, caution(self._drawn))
        return drawing

    def _panel(self, axes: Axes, rows: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
        inks, marks = colours(names), markers(names)
        amounts = list(dict.fromkeys(row["amount"] for row in sorted(rows, key=lambda row: row["order"])))
        axes.axhline(0, color=INK, linewidth=0.9, zorder=1)
        for row in rows:
            name = row["name"]
            place = amounts.index(row["amount"]) + _WIDTH * ((names.index(name) + 0.5) / len(names) - 0.5)
            point = {**row, "x": place, "mean": row["difference"]}
            interval_bars(axes, [point], "x", colour=inks[name])
            seeds(axes, [point], "x", colour=inks[name])
            axes.plot(place, row["difference"], marks[name], color=inks[name], markersize=5, zorder=3)
        shots_alone = self._in_shots_alone
        labels = [amount.split()[0] if shots_alone else _of_what(amount) for amount in amounts]
        axes.set_xticks(range(len(amounts)), labels, fontsize=7 if not shots_alone and len(amounts) > 4 else None)
        axes.set_xlim(-0.6, len(amounts) - 0.4)
        for edge in range(1, len(amounts)):
            axes.axvline(edge - 0.5, color=FAINT, linewidth=0.4, alpha=0.5)
        axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: words.difference(share, 0)))
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    @cached_property
    def _in_shots_alone(self) -> bool:
        return all(row["amount"].endswith(("shot", "shots")) for row in self._rows)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        more = [
            {"order": one.adapted.amount_key, "name": f"{one.adapted.model}, {one.adapted.label}"} for one in self.gains
        ]
        return [row | beside for row, beside in zip(to_rows(self.gains), more, strict=True)]

    @cached_property
    def _drawn(self) -> list[Setting]:
        found = {setting.setting_id: setting for one in self.gains for setting in (one.adapted, one.linear)}
        return list(found.values())


def _of_what(amount: str) -> str:
    """Says of a share what it is of: a label that ends in % would be read as a place on an axis of percent."""
    return f"{amount}\nof train" if amount.endswith("%") else amount.replace(" ", "\n")
