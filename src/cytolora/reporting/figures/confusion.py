"""Which class is taken for which: the confusion matrix of a setting."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

from cytolora.display import format as words
from cytolora.display.figure import FAINT
from cytolora.metrics.hierarchy import tree_order
from cytolora.reporting.results.evaluation import Evaluation
from cytolora.reporting.results.flags import caution, in_caption, in_file, stamp
from cytolora.reporting.results.settings import Setting

_SHADES = LinearSegmentedColormap.from_list("shades", ["#f4f8fc", "#b3cde6", "#5b93c4", "#1c5a94", "#08306b"])
_DARK, _LIGHT = "#14181f", "#ffffff"
_EQUAL_CONTRAST = 0.2
"""Luminance at which both letters contrast equally: sqrt(1.05 x 0.059) - 0.05, from WCAG 2.2's ratio."""
_MANY = 12
"""From this many classes on, letters shrink and empty fields stay empty."""


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix:
    """True class by predicted class on test, all seeds of a setting together; each row adds up to 100 %."""

    setting: Setting
    slug: str
    """Names the setting in file names."""
    numbers: Literal["all", "diagonal"] = "all"
    """Which fields are written out; all of them stand in ``frame()``."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.slug}_confusion"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        setting = self.setting
        amount = words.amount(setting.shots, setting.fraction)
        seeds = words.count(len(setting.tested), "seed")
        together = f"{seeds} together" if len(setting.tested) > 1 else seeds
        return (
            f"{setting.dataset}, {setting.model}, {setting.method}, {amount}: true class (rows) by predicted class "
            f"(columns) on the test set, {together}. Large: percent of the row; small: count.{self._order_in_words}"
            f"{in_caption([setting])}"
        )

    def frame(self) -> pa.Table:
        """Returns a row per pair of classes."""
        classes, counts = self._classes, self._counts()
        shares = _row_shares(counts)
        pairs = [(row, column) for row in range(len(classes)) for column in range(len(classes))]
        return pa.table(
            {
                "true": [classes[row] for row, _ in pairs],
                "predicted": [classes[column] for _, column in pairs],
                "count": [int(counts[pair]) for pair in pairs],
                "share_of_true": [float(shares[pair]) for pair in pairs],
                "flags": [in_file(self.setting)] * len(pairs),
            }
        )

    def plot(self) -> Drawing:
        """Draws the matrix, true classes from top to bottom in the dataset's order."""
        classes, counts = self._classes, self._counts()
        shares = _row_shares(counts)
        edge = (0.62 if len(classes) < _MANY else 0.42) * len(classes)
        drawing = Drawing(figsize=(edge, edge))
        axes = drawing.add_axes((0, 0, 1, 1))  # labels stand outside; saving makes room for them
        sparse = self.numbers == "diagonal"  # then one picture of all fields: a tenth of the bytes
        axes.pcolormesh(shares, cmap=_SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=0.8, rasterized=sparse)
        for (row, column), share in np.ndenumerate(shares):
            if self.numbers == "all" or row == column:
                self._write(axes, row, column, share, int(counts[row, column]))
        for edge_of_branch in self._branches():
            axes.axhline(edge_of_branch, color=FAINT, linewidth=1.2)
            axes.axvline(edge_of_branch, color=FAINT, linewidth=1.2)
        axes.invert_yaxis()
        ticks = np.arange(len(classes)) + 0.5
        axes.set_yticks(ticks, [f"{name} ({count})" for name, count in zip(classes, counts.sum(axis=1), strict=True)])
        axes.set_xticks(ticks, classes, rotation=40, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Predicted")
        axes.set_ylabel("True (count)")
        stamp(drawing, caution([self.setting]), above=True)  # names of classes stand below
        return drawing

    @property
    def _classes(self) -> tuple[str, ...]:
        return tuple(self._found.classes[place] for place in self._order)

    def _counts(self) -> NDArray[np.int64]:
        return np.asarray(self._found.confusion)[np.ix_(self._order, self._order)]

    @property
    def _found(self) -> Evaluation:
        if self.setting.evaluation is None:
            raise ValueError(f"{self.setting.setting_id} has no test score to draw.")
        return self.setting.evaluation

    @property
    def _order(self) -> list[int]:
        """By severity or by branches of the tree where the literature knows of these, else the dataset's own order."""
        classes, facts = self._found.classes, self.setting.facts
        if facts.order:
            return [classes.index(name) for name in facts.order]
        return tree_order(classes, facts.tree) if facts.tree else list(range(len(classes)))

    @property
    def _order_in_words(self) -> str:
        if self.setting.facts.order:
            return " From the least to the most severe class."
        return " Classes of one branch of the tree stand together." if self.setting.facts.tree else ""

    def _branches(self) -> list[int]:
        """Where one branch of the tree's first level ends and the next begins."""
        tops = [self.setting.facts.tree[name][0] for name in self._classes] if self.setting.facts.tree else []
        return [place for place in range(1, len(tops)) if tops[place] != tops[place - 1]]

    def _write(self, axes: Axes, row: int, column: int, share: float, count: int) -> None:
        many = len(self._classes) >= _MANY
        x, y = column + 0.5, row + 0.5
        if not count:
            if not many:
                axes.text(x, y, "·", ha="center", va="center", color=FAINT)
            return
        colour = _DARK if _luminance(share) > _EQUAL_CONTRAST else _LIGHT
        large, small = (6.5, 4.5) if many else (10, 6.5)
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        axes.text(x, y - 0.08, text, ha="center", va="center", fontsize=large, color=colour)
        axes.text(x, y + 0.28, str(count), ha="center", va="center", fontsize=small, color=colour)


def _luminance(share: float) -> float:
    """The relative luminance of a field, as WCAG 2.2 defines it."""
    channels = np.array(_SHADES(share)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
