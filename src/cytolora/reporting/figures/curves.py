"""Accuracy against the amount of training images: the paper's Figure 1, and Figure 2 for shares of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor
from textwrap import fill
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from cytolora.display import format as words
from cytolora.display.column import canvas, is_narrow, legend
from cytolora.display.figure import FAINT, INK, PALETTE, stamp
from cytolora.display.lines import extent, line, linear_last, markers, percent_ticks, what_is_drawn
from cytolora.reporting.figures.over_divisions import MEASURED, measured, one_row_each, what_divisions
from cytolora.reporting.results.flags import caution, in_caption
from cytolora.reporting.results.settings import Metric, Setting
from cytolora.reporting.tables.tables import TITLES

Axis = Literal["shots", "fraction"]

_COLUMNS = (
    *("dataset", "metric", "model", "method", "axis", "amount"),
    *MEASURED,
)
_LINEAR_DASH = (0, (1.2, 1.6))
_DASHES = ("-", (0, (5, 1.6, 1.2, 1.6)), (0, (3, 1.2)), (0, (7, 1.5)))
_LEVEL_DASHES = ((0, (6, 3)), (0, (11, 2)), (0, (2, 2)), (0, (8, 2, 2, 2)))
_NUM_COLUMNS = 4
_LETTERS_AN_INCH = 13
"""Of a panel's title."""
_MAX_LEGEND = 24
"""Letters of a name up to which the legend stands beside the panel, not below."""


@dataclass(frozen=True, kw_only=True)
class Curves:
    """One dataset's results on test against shots or shares: a line per model and method, a band over seeds."""

    dataset: str
    settings: Sequence[Setting]
    metric: Metric
    axis: Axis
    slug: str
    """Names the dataset in file names."""
    all_models: Sequence[str] = ()
    """Those of the whole report, so that a model keeps its colour from one dataset to the next."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.slug}_{self.metric}{'' if self.axis == 'shots' else '_by_fraction'}"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        against = "labelled images per class" if self.axis == "shots" else "the share of the training images"
        text = f"{self.dataset}: {TITLES[self.metric]} on the test set against {against}. {what_is_drawn(self._points)}"
        text += what_divisions(self._points)
        if len(self._points) < len(self._rows):
            levels = {words.kind_of(row["method"]) == "zero_shot" for row in self._rows if row["amount"] is None}
            said = ["trained on all images", "zero-shot, trained on none"]
            text += f" Dashed horizontal lines: {'; '.join(said[level] for level in sorted(levels))}."
        if self._baseline is not None:
            text += f" Always naming the most frequent class would give {words.percent(self._baseline)} %."
        return text + in_caption(self._drawn)

    def frame(self) -> pa.Table:
        """Returns a row per point; ``amount`` is empty for the horizontal lines of all images and of none."""
        return pa.table({name: [row[name] for row in self._rows] for name in _COLUMNS})

    def plot(self) -> Drawing:
        """Draws all lines into one panel, or a panel per model or method where they are too many to tell apart."""
        models = self._ranked("model")
        if len(models) <= len(PALETTE) and len(self._methods) <= len(_DASHES):
            drawing = self._one_panel(models)
        else:
            drawing = self._panel_per_model(models) if len(models) > 1 else self._panel_per_method(models[0])
        stamp(drawing, caution(self._drawn))
        return drawing

    @property
    def drawable(self) -> bool:
        """Whether there is anything to draw against the axis."""
        return bool(self._points)

    @cached_property
    def _drawn(self) -> list[Setting]:
        """The tested settings with a place on the axis, and those of all images or of none."""
        tested = [setting for setting in self.settings if setting.tested]
        return [setting for setting in tested if getattr(setting, self.axis) or not (setting.shots or setting.fraction)]

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return one_row_each(self._drawn, self._row, self.metric)

    def _row(self, setting: Setting) -> dict[str, Any]:
        amount = getattr(setting, self.axis) or None
        return {
            "dataset": setting.dataset,
            "metric": self.metric,
            "model": setting.model,
            "method": setting.method,
            "axis": self.axis,
            "amount": None if amount is None else float(amount),
            **measured(setting, self.metric),
        }

    @cached_property
    def _points(self) -> list[dict[str, Any]]:
        return [row for row in self._rows if row["amount"] is not None]

    @cached_property
    def _methods(self) -> list[str]:
        """Linear last: it is what the others are compared with."""
        return linear_last({row["method"] for row in self._rows})

    def _ranked(self, column: str) -> list[str]:
        """The names of a column, those of the highest last points first, as the lines end from top to bottom."""
        last = sorted(self._rows, key=lambda row: (row["amount"] or 0, row["mean"]), reverse=True)
        return list(dict.fromkeys(row[column] for row in last))

    @cached_property
    def _baseline(self) -> float | None:
        """The share of the most frequent class in the test set, for accuracy."""
        found = next((setting.evaluation for setting in self.settings if setting.evaluation), None)
        if found is None or self.metric != "accuracy":
            return None
        return max(found.class_counts) / found.num_images

    def _one_panel(self, models: list[str]) -> Drawing:
        beside = max(map(len, [*models, *self._methods])) <= _MAX_LEGEND
        below = 0 if beside else 0.2 * max(0, len(self._methods) - 4)
        drawing = canvas(6.6, (4.0 if beside else 4.8) + below)
        axes = drawing.subplots()
        known = self.all_models if 0 < len(self.all_models) <= len(PALETTE) else sorted(models)
        colours = {model: PALETTE[list(known).index(model)] for model in models}
        if len(models) == 1:
            for index, method in enumerate(self._methods):
                self._line(axes, models[0], method, PALETTE[index % len(PALETTE)])
        else:
            for model, method in ((model, method) for model in models for method in self._methods):
                self._line(axes, model, method, colours[model])
        self._scale(axes)
        axes.set_xlabel(self._x_title)
        axes.set_ylabel(self._y_title)
        handles = self._method_handles(coloured=len(models) == 1)
        if len(models) > 1:
            bars = [Line2D([], [], color=colours[model], linewidth=4, label=model) for model in models]
            handles = [*bars, Line2D([], [], linestyle="none", label=" "), *handles]
        place: dict[str, Any] = {"loc": "outside right center"} if beside else {"loc": "outside lower left", "ncols": 2}
        legend(drawing, handles, handlelength=2.6, **place)
        return drawing

    def _panel_per_model(self, models: list[str]) -> Drawing:
        pairs = {model: [(model, method) for method in self._methods] for model in models}
        handles = [*self._method_handles(coloured=True), self._faint("the other models")]
        return self._panels(pairs, handles, min(2 if is_narrow() else _NUM_COLUMNS, len(models)))

    def _panel_per_method(self, model: str) -> Drawing:
        pairs = {method: [(model, method)] for method in self._methods}
        inks = {method: PALETTE[index % len(PALETTE)] for index, method in enumerate(self._methods)}
        levels = [row["method"] for row in self._rows if row["amount"] is None]
        handles = [self._faint("the other methods")]
        if levels:
            style: dict[str, Any] = {"linestyle": self._level_dash(levels[0]), "linewidth": 1.1}
            handles.insert(0, Line2D([], [], color=inks[levels[0]], label="all images", **style))
        return self._panels(pairs, [*handles, *self._baseline_handles()], 2 if is_narrow() else 3)

    def _panels(self, pairs: Mapping[str, list[tuple[str, str]]], handles: list[Line2D], columns: int) -> Drawing:
        """Draws a panel for each list of models and methods, with all others as faint lines."""
        rows, width = ceil(len(pairs) / columns), 8.6 / max(columns, 3)
        drawing = canvas(width * columns, 1.75 * rows + 0.8)
        grid = np.atleast_1d(drawing.subplots(rows, columns, sharex=True, sharey=True)).ravel()
        for index, (panel, (title, own)) in enumerate(zip(grid, pairs.items(), strict=False)):
            self._others(panel, own)
            for model, method in own:
                self._line(panel, model, method, PALETTE[self._methods.index(method) % len(PALETTE)])
            self._scale(panel)
            panel.set_title(fill(title, int(_LETTERS_AN_INCH * width)), fontsize=8.5)
            panel.tick_params(labelbottom=index + columns >= len(pairs), labelleft=index % columns == 0)
        for spare in grid[len(pairs) :]:
            spare.set_visible(False)
        drawing.supxlabel(self._x_title, fontsize=9)
        drawing.supylabel(self._y_title, fontsize=9)
        legend(drawing, handles, loc="outside upper left", ncols=min(len(handles), 5), handlelength=2.6)
        return drawing

    def _faint(self, label: str) -> Line2D:
        return Line2D([], [], color=FAINT, alpha=0.5, linewidth=1, label=label)

    def _line(self, axes: Axes, model: str, method: str, colour: str) -> None:
        for level in (row["mean"] for row in self._of(model, method) if row["amount"] is None):
            axes.axhline(level, color=colour, linestyle=self._level_dash(method), linewidth=1.1, alpha=0.9, zorder=2)
        line(axes, self._of(model, method), "amount", colour=colour, **self._style(method))

    def _others(self, axes: Axes, own: Sequence[tuple[str, str]]) -> None:
        """Draws every line but a panel's own as one faint path, broken by gaps."""
        x, y = [], []
        for pair in ((model, method) for model in self._ranked("model") for method in self._methods):
            points = [row for row in self._of(*pair) if row["amount"] is not None and pair not in own]
            x += [*(row["amount"] for row in points), np.nan]
            y += [*(row["mean"] for row in points), np.nan]
        axes.plot(x, y, color=FAINT, alpha=0.25, linewidth=0.7, zorder=0)

    def _of(self, model: str, method: str) -> list[dict[str, Any]]:
        return [row for row in self._rows if row["model"] == model and row["method"] == method]

    @property
    def _x_title(self) -> str:
        return "Labelled images per class (shots)" if self.axis == "shots" else "Share of the training images"

    @property
    def _y_title(self) -> str:
        return f"{TITLES[self.metric].capitalize()} on test"

    def _scale(self, axes: Axes) -> None:
        ticks = sorted({row["amount"] for row in self._points})
        if self.axis == "shots":
            axes.set_xscale("log")
        labels = [f"{tick:g}" if self.axis == "shots" else words.whole_percent(tick) for tick in ticks]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(ticks, labels)
        low, high = self._limits
        if self._baseline is not None and self._baseline > low:
            axes.axhline(self._baseline, color=FAINT, linewidth=0.9, zorder=0)
        axes.set_ylim(low, high)
        percent_ticks(axes.yaxis)
        axes.grid(axis="y")
        axes.set_axisbelow(True)

    @cached_property
    def _limits(self) -> tuple[float, float]:
        """Round percentages around all bands; the baseline is let in where it costs at most a quarter of the height."""
        levels = [*extent(self._points), *(row["mean"] for row in self._rows)]
        low, high = min(levels), max(levels)
        if self._baseline is not None and self._baseline > low - 0.33 * (high - low):
            low = min(low, self._baseline)
        return max(0.0, floor(20 * low - 0.5) / 20), min(1.01, ceil(20 * high + 0.5) / 20)

    def _method_handles(self, *, coloured: bool) -> list[Line2D]:
        inks = {m: PALETTE[i % len(PALETTE)] if coloured else INK for i, m in enumerate(self._methods)}
        drawn = {row["method"] for row in self._points}
        lines = [Line2D([], [], color=inks[m], label=m, **self._style(m)) for m in self._methods if m in drawn]
        levels = {row["method"] for row in self._rows if row["amount"] is None}
        for m in (m for m in self._methods if m in levels):
            said = m if words.kind_of(m) == "zero_shot" else f"{m}, all images"
            lines.append(Line2D([], [], color=inks[m], label=said, linestyle=self._level_dash(m), linewidth=1.1))
        return [*lines, *self._baseline_handles()]

    def _baseline_handles(self) -> list[Line2D]:
        if self._baseline is None or self._baseline <= self._limits[0]:
            return []
        return [Line2D([], [], color=FAINT, linewidth=0.9, label="most frequent class")]

    def _level_dash(self, method: str) -> Any:
        """The dashes of a method's horizontal line: two methods on all images are told apart by them."""
        drawn = {row["method"] for row in self._rows if row["amount"] is None}
        place = [name for name in reversed(self._methods) if name in drawn].index(method)
        return _LEVEL_DASHES[place % len(_LEVEL_DASHES)]

    def _style(self, method: str) -> dict[str, Any]:
        index = self._methods.index(method)
        style: dict[str, Any] = {
            "linewidth": 1.7,
            "marker": markers(self._methods)[method],
            "markersize": 4.5,
            "markeredgewidth": 1.2,
        }
        if words.kind_of(method) == "linear":
            return style | {"linestyle": _LINEAR_DASH, "markerfacecolor": "white"}
        return style | {"linestyle": _DASHES[index % len(_DASHES)]}
