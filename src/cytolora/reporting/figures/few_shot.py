"""The paper's Figure 1: accuracy against shots, a panel per dataset, a line per model, the linear result as a level."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D

from cytolora.config.run import PAPER
from cytolora.display.column import legend
from cytolora.display.figure import INK, stamp
from cytolora.display.lines import (
    colours,
    extent,
    line,
    markers,
    panels,
    percent_axis,
    plain_ticks,
    what_is_drawn,
)
from cytolora.reporting.figures.over_divisions import MEASURED, measured, one_row_each, what_divisions
from cytolora.reporting.results.flags import caution, in_caption
from cytolora.reporting.results.paper import is_of_paper
from cytolora.reporting.results.published import printed_order
from cytolora.reporting.results.settings import Setting

_LEVEL = (0, (6, 3))
_COLUMNS = (
    "dataset",
    "model",
    "method",
    "shots",
    *MEASURED,
)


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """One adapted method at every number of shots, all models and datasets in one picture."""

    settings: Sequence[Setting]
    """Of the whole report."""
    method: str
    """As settings call it, with what sets a variant apart."""
    slug: str = ""
    """Sets the files of this method apart, where there are several."""
    of_paper: bool = True
    """Whether it is the paper's Figure 1, or the same of a method or budget that the paper does not have."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{'figure1' if self.of_paper else 'few_shot'}{f'_{self.slug}' if self.slug else ''}"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        lead = "Figure 1: accuracy" if self.of_paper else "Accuracy"
        text = f"{lead} on the test set of {self.method} against labelled images per class, by dataset. "
        text += what_is_drawn(self._rows) + what_divisions(self._rows)
        if any(row["shots"] is None for row in self._rows):
            text += f" Dashed horizontal lines, in each model's colour: {self._level_name}."
        return text + in_caption(self._drawn)

    @property
    def drawable(self) -> bool:
        """Whether the method was tested at any number of shots."""
        return any(row["shots"] is not None for row in self._rows)

    def frame(self) -> pa.Table:
        """Returns a row per point; ``shots`` is empty for the linear classifier on all images."""
        return pa.table({name: [row[name] for row in self._rows] for name in _COLUMNS})

    def plot(self) -> Drawing:
        """Draws a panel per dataset, two beside each other."""
        datasets, models = self._datasets, self._models
        drawing, axes = panels(len(datasets), 2, share_y=False, size=(3.5, 2.5))
        inks, marks = colours(models), markers(models)
        ticks = sorted({row["shots"] for row in self._rows if row["shots"] is not None})
        for panel, dataset in zip(axes, datasets, strict=True):
            rows = [row for row in self._rows if row["dataset"] == dataset]
            for model in models:
                own = [row for row in rows if row["model"] == model]
                line(panel, own, "shots", colour=inks[model], marker=marks[model])
                for level in (row["mean"] for row in own if row["shots"] is None):
                    panel.axhline(level, color=inks[model], linestyle=_LEVEL, linewidth=1.1, zorder=2)
            plain_ticks(panel, ticks, log=True)
            percent_axis(panel, extent(rows))
            panel.set_title(dataset)
        handles = [Line2D([], [], color=inks[model], marker=marks[model], label=model) for model in models]
        if any(row["shots"] is None for row in self._rows):
            handles.append(Line2D([], [], color=INK, linestyle=_LEVEL, linewidth=1.1, label=self._level_label))
        legend(drawing, handles, loc="outside upper left", ncols=3, handlelength=2.4)
        drawing.supxlabel("Labelled images per class (shots)", fontsize=9)
        drawing.supylabel("Accuracy on test", fontsize=9)
        stamp(drawing, caution(self._drawn))
        return drawing

    @cached_property
    def _drawn(self) -> list[Setting]:
        own = [
            setting
            for setting in self.settings
            if setting.label == self.method
            and setting.shots
            and setting.tested
            and is_of_paper(setting.spec) == self.of_paper
        ]
        pairs = {(setting.dataset, setting.model, setting.spec.split): setting for setting in own}
        levels = [level for setting in pairs.values() for level in self._levels(setting)]
        return own + list({level.setting_id: level for level in levels}.values())

    def _levels(self, setting: Setting) -> list[Setting]:
        """The linear classifiers on all images beside a setting: of its preset, else of the paper's on the same view.

        A preset that changes adapters alone, as ``attention-alone`` does, has the paper's linear classifier.
        """
        linear = [
            one
            for one in self.settings
            if (one.spec.kind, one.dataset, one.model) == ("linear", setting.dataset, setting.model)
            and one.shots is None
            and one.fraction is None
            and one.tested
            and (one.spec.split, one.spec.preprocess) == (setting.spec.split, setting.spec.preprocess)
        ]
        same = [one for one in linear if one.spec.preset == setting.spec.preset]
        return same or [one for one in linear if one.spec.preset == PAPER]

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return one_row_each(self._drawn, _row)

    @cached_property
    def _is_borrowed(self) -> bool:
        """Whether a level was computed under another preset than the method."""
        presets = [{c.spec.preset for c in self._drawn if (c.shots is None) == level} for level in (False, True)]
        return bool(presets[1] - presets[0])

    @property
    def _level_name(self) -> str:
        text = "linear classifier on all images"
        return f"{text} (preset {PAPER}, where this one has none of its own)" if self._is_borrowed else text

    @property
    def _level_label(self) -> str:
        return f"linear, all images{f' (preset {PAPER})' if self._is_borrowed else ''}"

    @property
    def _datasets(self) -> list[str]:
        return in_print_order({row["dataset"] for row in self._rows}, 0)

    @property
    def _models(self) -> list[str]:
        return in_print_order({row["model"] for row in self._rows}, 1)


def few_shot_figures(settings: Sequence[Setting], slug: Any) -> list[FewShot]:
    """Makes a figure for every adapted method that was tested at some number of shots, the paper's first.

    Args:
        slug: From a method's name to what stands in file names.
    """
    adapted = [setting for setting in settings if setting.spec.kind == "adapter" and setting.shots and setting.tested]
    found = sorted({(not is_of_paper(setting.spec), setting.label) for setting in adapted})
    number = Counter(is_own for is_own, _ in found)
    return [
        FewShot(
            settings=settings,
            method=method,
            slug=slug(method) if is_own or number[is_own] > 1 else "",
            of_paper=not is_own,
        )
        for is_own, method in found
    ]


def in_print_order(names: set[str], kind: int) -> list[str]:
    """Sorts as the paper prints datasets (``kind`` 0) or models (1), then by name."""
    known = printed_order()[kind]
    return sorted(names, key=lambda name: (known.index(name) if name in known else len(known), name))


def _row(setting: Setting) -> dict[str, Any]:
    return {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "shots": setting.shots,
        **measured(setting),
    }
