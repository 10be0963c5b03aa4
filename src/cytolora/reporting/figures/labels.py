"""Learning curves of all datasets in one figure: accuracy against the number of labelled images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from cytolora.display import format as words
from cytolora.display.column import legend
from cytolora.display.figure import INK, stamp
from cytolora.display.lines import (
    colours,
    extent,
    line,
    linear_last,
    markers,
    panels,
    percent_axis,
    what_is_drawn,
)
from cytolora.reporting.figures.few_shot import in_print_order
from cytolora.reporting.figures.over_divisions import MEASURED, measured, one_row_each, what_divisions
from cytolora.reporting.results.flags import caution, in_caption
from cytolora.reporting.results.settings import Setting

_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6, 1.2, 1.6)), (0, (3, 1.2)), (0, (7, 1.5)))
_LINEAR_DASH = (0, (1.2, 1.6))
_MAX_BANDS = 4
"""Lines of a panel up to which each has its band, seeds and interval; of more they would hide each other."""
_SHORT = 16
"""Letters of names of which four stand in one row of the legend."""
_COLUMNS = (
    "dataset",
    "model",
    "method",
    "amount",
    "num_labels",
    *MEASURED,
)


@dataclass(frozen=True, kw_only=True)
class Labels:
    """A panel per model, a line per dataset and method."""

    settings: Sequence[Setting]
    """Of the whole report."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return "labels"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        text = "Accuracy on the test set against the number of labelled training images, by model and dataset. "
        text += "An image drawn twice counts once; validation images, which choose the learning rate, come on top."
        means = "Points: mean over seeds; spread and intervals stand in the table."
        text += f" {what_is_drawn(self._rows) if self._has_bands else means}"
        text += what_divisions(self._rows, bands=self._has_bands)
        return text + in_caption([setting for setting in self.settings if setting.tested])

    @property
    def drawable(self) -> bool:
        """Whether any line has two points."""
        return len({row["num_labels"] for row in self._rows}) > 1

    def frame(self) -> pa.Table:
        """Returns a row per point."""
        return pa.table({name: [row[name] for row in self._rows] for name in _COLUMNS})

    def plot(self) -> Drawing:
        """Draws the panels, three beside each other, on one scale."""
        datasets = in_print_order({row["dataset"] for row in self._rows}, 0)
        models = in_print_order({row["model"] for row in self._rows}, 1)
        methods = linear_last({row["method"] for row in self._rows})
        drawing, axes = panels(len(models), 3, share_y=True, size=(2.7 if len(models) > 1 else 6.0, 2.6))
        several = len(datasets) > 1
        by = datasets if several else methods
        inks, marks = colours(by), markers(by)
        seen = [row["num_labels"] for row in self._rows]
        for panel, model in zip(axes, models, strict=True):
            for dataset in datasets:
                for index, method in enumerate(methods):
                    chosen = (dataset, model, method)
                    rows = [row for row in self._rows if (row["dataset"], row["model"], row["method"]) == chosen]
                    name = dataset if several else method
                    style = _style(index, method, marks[name])
                    line(panel, rows, "num_labels", colour=inks[name], band=self._has_bands, **style)
            panel.set_xscale("log")
            panel.set_xlim(0.7 * min(seen), 1.5 * max(seen))
            panel.xaxis.set_major_locator(LogLocator(base=10))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
            panel.set_title(model, fontsize=9)
            percent_axis(panel, extent(self._rows))
        handles = [Line2D([], [], color=inks[n], marker=marks[n], label=n) for n in datasets if several]
        for index, method in enumerate(methods):
            style = _style(index, method, "" if several else marks[method])
            handles.append(Line2D([], [], color=INK if several else inks[method], label=method, **style))
        ncols = 4 if max(map(len, [*datasets, *methods])) <= _SHORT else 2
        legend(drawing, handles, loc="outside upper left", ncols=ncols, handlelength=2.4)
        drawing.supxlabel("Labelled training images", fontsize=9)
        drawing.supylabel("Accuracy on test", fontsize=9)
        stamp(drawing, caution([setting for setting in self.settings if setting.tested]))
        return drawing

    @cached_property
    def _has_bands(self) -> bool:
        """Whether the lines of a panel are few enough that their bands do not hide each other."""
        return len({(row["dataset"], row["method"]) for row in self._rows}) <= _MAX_BANDS

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        tested = [one for one in self.settings if one.num_labels and one.tested]
        found = one_row_each(tested, _row)
        return sorted(found, key=lambda row: (row["dataset"], row["model"], row["method"], row["num_labels"]))


def _row(setting: Setting) -> dict[str, Any]:
    return {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "amount": setting.spec.sampling.amount,
        "num_labels": setting.num_labels,
        **measured(setting),
    }


def _style(index: int, method: str, marker: str) -> dict[str, Any]:
    if words.kind_of(method) == "linear":
        return {"linestyle": _LINEAR_DASH, "marker": marker, "markerfacecolor": "white"}
    return {"linestyle": _DASHES[index % len(_DASHES)], "marker": marker}
