"""Figure of a learning curve: measured points, fitted curve, and the range beyond the data."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import FuncFormatter, NullLocator

from cytolora.classifier.learning_curve.forecast import FARTHEST, Forecast
from cytolora.display.figure import GRID, INK, PALETTE

_GUESS = PALETTE[0]
_TARGET = PALETTE[1]


@dataclass(frozen=True, kw_only=True)
class LabelsFigure:
    """Balanced accuracy by labelled images per class."""

    found: Forecast
    title: str
    name: str = "labels"

    @property
    def caption(self) -> str:
        """What is seen."""
        return (
            "Balanced accuracy by labelled images per class to train on. Points: mean over draws, with 95 % intervals "
            "over groups and draws. Line: inverse power law, dashed beyond what was measured; band: 95 % of its "
            "refits. Rings: the last points as predicted from the others. Bar at the target: interval of the forecast."
        )

    def frame(self) -> pa.Table:
        """Returns the line: labels, fitted, low, high, and measured where there is a point."""
        labels = self._labels()
        low, high = self._band(labels)
        measured = dict(zip(self.found.curve.shots, self.found.means, strict=True))
        return pa.table(
            {
                "labels": labels,
                "fitted": self.found.law.at(labels),
                "low": low,
                "high": high,
                "measured": pa.array([measured.get(int(number)) for number in labels], pa.float64()),
            }
        )

    def plot(self) -> Drawing:
        """Draws it."""
        drawing = Drawing(figsize=(5.6, 3.5), layout="constrained")
        axes = drawing.add_subplot()
        labels, most = self._labels(), self.found.curve.shots[-1]
        low, high = self._band(labels)
        axes.fill_between(labels, low, high, color=_GUESS, alpha=0.14, linewidth=0, label="95 % of refits")
        fitted = self.found.law.at(labels)
        inside = labels <= most
        axes.plot(labels[inside], fitted[inside], color=_GUESS, linewidth=1.6, label="fitted")
        axes.plot(
            labels[labels >= most], fitted[labels >= most], color=_GUESS, linewidth=1.6, linestyle="--", label="guessed"
        )
        self._points(axes)
        self._target(axes, labels[-1])
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlim(labels[0] / 1.15, labels[-1] * 1.05)
        axes.set_ylim(0, 1)
        axes.set_xlabel("labelled images per class to train on")
        axes.set_ylabel("balanced accuracy")
        axes.grid(axis="y", color=GRID)
        axes.set_axisbelow(True)
        axes.set_title(self.title)
        axes.legend(loc="lower right", fontsize=8)
        return drawing

    def _points(self, axes: Axes) -> None:
        means = self.found.means
        ends = np.quantile(self.found.resampled, [0.025, 0.975], axis=0)
        axes.errorbar(
            self.found.curve.shots,
            means,
            yerr=np.maximum(0, [means - ends[0], ends[1] - means]),
            fmt="o",
            markersize=4,
            color=INK,
            elinewidth=1,
            label="measured",
            zorder=3,
        )
        if (test := self.found.back_test) is not None:
            axes.plot(test.shots, test.predicted, "o", color=_GUESS, fillstyle="none", label="back-test", zorder=4)

    def _target(self, axes: Axes, most: float) -> None:
        """Draws the aim, and where the curve meets it."""
        target, needed = self.found.target, self.found.needed
        axes.axhline(target, color=_TARGET, linewidth=1, linestyle=":")
        axes.annotate(
            f"target {target:g}", (0.01, target), xycoords=("axes fraction", "data"), va="bottom", color=_TARGET
        )
        if needed <= most and self.found.verdict in ("reached", "within reach"):
            low, high = self.found.interval
            axes.plot(needed, target, "D", color=_TARGET, markersize=6, zorder=4)
            axes.plot([low, min(high, most)], [target, target], color=_TARGET, linewidth=3, alpha=0.5)

    def _labels(self) -> np.ndarray:
        """Where the line is drawn: a little beyond the answer, at least twice the data, at most FARTHEST times.

        Where no forecast is given, it ends with the data.
        """
        shots, needed = self.found.curve.shots, self.found.needed
        if self.found.verdict == "withheld":
            return np.unique(np.concatenate([np.geomspace(shots[0], shots[-1], 60), shots]).round(6))
        wanted = 1.5 * needed if np.isfinite(needed) else FARTHEST * shots[-1]
        last = min(max(2 * shots[-1], wanted), FARTHEST * shots[-1])
        between = np.geomspace(shots[0], last, 60)
        return np.unique(np.concatenate([between, shots]).round(6))

    def _band(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        low, high = np.quantile(self.found.laws.at(labels), [0.025, 0.975], axis=0)
        return low, high
