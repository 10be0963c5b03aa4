"""The paper's Figure 2: accuracy against the share of training images, beside a published model on its own classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from cytolora.display import format as words
from cytolora.display.column import legend
from cytolora.display.figure import INK, stamp
from cytolora.display.lines import (
    colours,
    extent,
    in_text,
    line,
    markers,
    panels,
    percent_axis,
    plain_ticks,
    what_is_drawn,
)
from cytolora.metrics.intervals import Interval
from cytolora.reporting.figures.over_divisions import one_row_each, what_divisions
from cytolora.reporting.results.divided import divided
from cytolora.reporting.results.flags import caution, in_caption, in_file
from cytolora.reporting.results.paper import is_of_paper
from cytolora.reporting.results.published import Reference, references
from cytolora.reporting.results.settings import MeanStd, Setting

_RESTRICTED = (0, (2, 1.5))
_LEVEL = (0, (6, 3))
_COLUMNS = (
    *("dataset", "model", "method", "fraction", "scored_on", "num_classes", "mean", "std", "low", "high", "n_seeds"),
    *("n_divisions", "by_seed", "published", "flags"),
)


@dataclass(frozen=True, kw_only=True)
class Fractions:
    """One dataset: every model and method that was trained on shares of it, and the published model's level."""

    dataset: str
    settings: Sequence[Setting]
    """Of one dataset."""
    slug: str = ""
    """Sets the files of this dataset apart, where there are several."""
    of_paper: bool = True
    """Whether it is the paper's Figure 2, or the same of methods or budgets that the paper does not have."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{'figure2' if self.of_paper else 'fractions'}{f'_{self.slug}' if self.slug else ''}"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        lead = "Figure 2: accuracy" if self.of_paper else "Accuracy"
        text = f"{lead} on the test set of {self.dataset} against the share of the training images. "
        text += f"Solid: on all its classes. {what_is_drawn(self._rows)}{what_divisions(self._rows)}"
        for reference in self._references:
            number = self._num_classes(reference)
            text += (
                f" Horizontal line: {reference.name}, {100 * reference.accuracy:.2f} % on {number} classes as published"
                f" ({reference.source}). Dotted: the same runs on the images of these {number} classes, naming the most"
                " probable among them: this line is the one to compare."
            )
        if any(row["published"] is not None for row in self._rows):
            text += " Diamond: published for the solid line."
        return text + in_caption(self._shown)

    @property
    def drawable(self) -> bool:
        """Whether anything was trained on a share, and something published stands beside it."""
        return bool(self._rows) and bool(self._references)

    def frame(self) -> pa.Table:
        """Returns a row per point, once on all classes and once on those of each published model; its own rows last."""
        rows = self._rows + [
            dict.fromkeys(_COLUMNS)
            | {
                "dataset": self.dataset,
                "model": reference.name,
                "scored_on": reference.dataset,
                "num_classes": self._num_classes(reference),
                "published": reference.accuracy,
            }
            for reference in self._references
        ]
        return pa.table({name: [row[name] for row in rows] for name in _COLUMNS})

    def plot(self) -> Drawing:
        """Draws one panel."""
        names = list(dict.fromkeys((row["model"], row["method"]) for row in self._rows))
        labels = {pair: f"{pair[0]}, {pair[1]}" for pair in names}
        drawing, (axes,) = panels(1, 1, share_y=False, size=(6.6, 3.9))
        inks, marks = colours(list(labels.values())), markers(list(labels.values()))
        handles = []
        for pair, label in labels.items():
            own = [row for row in self._rows if (row["model"], row["method"]) == pair]
            for scored_on in dict.fromkeys(row["scored_on"] for row in own):
                rows = [row for row in own if row["scored_on"] == scored_on]
                whole = scored_on == self.dataset
                style: dict[str, Any] = {"linestyle": "-" if whole else _RESTRICTED, "marker": marks[label]}
                style |= {} if whole else {"markerfacecolor": "white"}
                line(axes, rows, "fraction", colour=inks[label], band=whole, **style)
                said = f"{label}, {rows[0]['num_classes']} classes"
                handles.append(Line2D([], [], color=inks[label], label=said, **style))
            for row in (row for row in own if row["published"] is not None):
                axes.plot(row["fraction"], row["published"], "D", **_DIAMOND)
        for reference in self._references:
            axes.axhline(reference.accuracy, color=INK, linestyle=_LEVEL, linewidth=1.1)
            said = f"{reference.name}, published, {self._num_classes(reference)} classes"
            handles.append(Line2D([], [], color=INK, linestyle=_LEVEL, linewidth=1.1, label=said))
        if any(row["published"] is not None for row in self._rows):
            handles.append(Line2D([], [], linestyle="none", marker="D", label="published, all classes", **_DIAMOND))
        self._scale(axes)
        legend(drawing, handles, loc="outside upper left", ncols=2, handlelength=2.6)
        stamp(drawing, caution(self._shown))
        return drawing

    def _scale(self, axes: Any) -> None:
        plain_ticks(axes, sorted({row["fraction"] for row in self._rows}), log=False, share=True)
        levels = extent(self._rows)
        levels += [row["published"] for row in self._rows if row["published"] is not None]
        percent_axis(axes, [*levels, *(reference.accuracy for reference in self._references)])
        axes.set_xlabel("Share of the training images")
        axes.set_ylabel("Accuracy on test")

    @cached_property
    def _shown(self) -> list[Setting]:
        return [
            setting
            for setting in self.settings
            if setting.fraction is not None and setting.tested and is_of_paper(setting.spec) == self.of_paper
        ]

    @cached_property
    def _references(self) -> tuple[Reference, ...]:
        """Those whose classes are all among ours, or are ours."""
        if not self._shown:
            return ()
        known = references(self._shown[0].spec.dataset.partition(":")[0])
        return tuple(one for one in known if one.dataset in self._shown[0].facts.restrictions)

    def _num_classes(self, reference: Reference) -> int:
        return len(self._shown[0].facts.restrictions[reference.dataset])

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        kinds = dict.fromkeys(row["scored_on"] for setting in self._shown for row in _rows(setting))
        return [row for scored_on in kinds for row in self._scored_on(scored_on)]

    def _scored_on(self, scored_on: str) -> list[dict[str, Any]]:
        """The rows on one set of classes; of several divisions one row, with the interval on all classes alone."""
        found = {one.setting_id: row for one in self._shown for row in _rows(one) if row["scored_on"] == scored_on}
        shown = [setting for setting in self._shown if setting.setting_id in found]
        rows = one_row_each(shown, lambda setting: found[setting.setting_id])
        if scored_on == self.dataset:
            return rows
        over = {
            (family.first.model, family.first.label, family.first.fraction): [
                found[one.setting_id]["mean"] for one in family.settings
            ]
            for family in divided(shown)
        }
        return [row if row["n_divisions"] == 1 else row | _means(over[_point(row)]) for row in rows]


def _point(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row["model"], row["method"], row["fraction"]


def _means(values: Sequence[float]) -> dict[str, Any]:
    """Of divisions, on some of the classes: metrics are stored of all classes alone."""
    return {"mean": fmean(values), "std": stdev(values), "low": None, "high": None, "by_seed": ""}


_DIAMOND: dict[str, Any] = {"markerfacecolor": "none", "markeredgecolor": INK, "markersize": 7}


def _rows(setting: Setting) -> list[dict[str, Any]]:
    found, spread = setting.evaluation, setting.test("accuracy")
    if found is None or spread is None:
        return []
    published = setting.published
    row = {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "fraction": setting.fraction,
        "n_seeds": len(setting.tested),
        "by_seed": "",
        "flags": in_file(setting),
    }
    whole = {"scored_on": setting.dataset, "num_classes": len(found.classes), "mean": spread.mean, "std": spread.std}
    rows = [
        row
        | whole
        | _ends(found.intervals["accuracy"])
        | {"published": published and published.accuracy, "by_seed": _by_seed(setting)}
    ]
    for name, kept in setting.facts.restrictions.items():
        values = [value for value in found.restricted[name] if value is not None]
        if values and len(kept) < len(found.classes):
            part = MeanStd.of(values)
            scored = {"scored_on": name, "num_classes": len(kept), "mean": part.mean, "std": part.std}
            rows.append(row | scored | _ends(found.restricted_intervals[name]) | {"published": None})
    return rows


def _by_seed(setting: Setting) -> str:
    return in_text(run.metrics["test"]["accuracy"] for run in setting.tested)


def _ends(interval: Interval) -> dict[str, float]:
    return {"low": interval.low, "high": interval.high}


def published_gaps(settings: Sequence[Setting]) -> list[str]:
    """Says of each setting with a published rival how far apart the two are on the same classes."""
    said = []
    for setting in settings:
        rows = {row["scored_on"]: row for row in _rows(setting)}
        for reference in references(setting.spec.dataset.partition(":")[0]):
            row = rows.get(reference.dataset)
            if row is not None:
                apart = words.difference(row["mean"], reference.accuracy)
                amount = words.amount(setting.shots, setting.fraction)
                text = f"{setting.model}, {setting.method}, {amount}: {words.percent(row['mean'])} %"
                text += f" (95 % interval {words.interval(row)}) on the"
                text += f" {row['num_classes']} classes of {reference.name}, {apart} against its published"
                said.append(f"{text} {100 * reference.accuracy:.2f} %.")
    return said
