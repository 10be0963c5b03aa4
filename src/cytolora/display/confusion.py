"""Confusion matrix: true class by predicted class, each row adding up to 100 %."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Drawing
from numpy.typing import NDArray

from cytolora.display.column import is_narrow
from cytolora.display.figure import FAINT, stamp

_SHADES = LinearSegmentedColormap.from_list("shades", ["#f4f8fc", "#b3cde6", "#5b93c4", "#1c5a94", "#08306b"])
_DARK, _LIGHT = "#14181f", "#ffffff"
_EQUAL_CONTRAST = 0.2
"""Luminance at which both letters contrast equally: sqrt(1.05 x 0.059) - 0.05, from WCAG 2.2's ratio."""
_MANY = 12
"""From this many classes on, letters shrink and empty fields stay empty."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ConfusionMatrix:
    """A figure of counts, classes in the order given."""

    name: str
    """The stem of its files."""
    caption: str
    classes: tuple[str, ...]
    counts: NDArray[np.int64]
    """Images, [true, predicted]."""
    numbers: Literal["all", "diagonal"] = "all"
    """Which fields are written out; all of them stand in ``frame()``."""
    branch_starts: tuple[int, ...] = ()
    """Indices of the classes at which another branch of a class tree begins; a line is drawn there."""
    flags: str = ""
    """Tags in the column ``flags`` of ``frame()``."""
    caution: str = ""
    """Printed above the matrix."""

    def frame(self) -> pa.Table:
        """Returns a row per pair of classes."""
        shares = row_shares(self.counts)
        pairs = list(np.ndindex(*self.counts.shape))
        return pa.table(
            {
                "true": [self.classes[row] for row, _ in pairs],
                "predicted": [self.classes[column] for _, column in pairs],
                "count": [int(self.counts[pair]) for pair in pairs],
                "share_of_true": [float(shares[pair]) for pair in pairs],
                "flags": [self.flags] * len(pairs),
            }
        )

    def plot(self) -> Drawing:
        """Draws the matrix, true classes from top to bottom."""
        shares = row_shares(self.counts)
        edge = (0.42 if self._has_many else 0.62) * len(self.classes)
        drawing = Drawing(figsize=(edge, edge))
        axes = drawing.add_axes((0, 0, 1, 1))  # labels stand outside; saving makes room for them
        sparse = self.numbers == "diagonal"  # then one picture of all fields: a tenth of the bytes
        axes.pcolormesh(shares, cmap=_SHADES, vmin=0, vmax=1, edgecolors="white", linewidth=0.8, rasterized=sparse)
        for (row, column), share in np.ndenumerate(shares):
            if not self._is_tight and (self.numbers == "all" or row == column):
                self._write(axes, row, column, share)
        for start in self.branch_starts:
            axes.axhline(start, color=FAINT, linewidth=1.2)
            axes.axvline(start, color=FAINT, linewidth=1.2)
        self._label(axes)
        stamp(drawing, self.caution, above=True)  # names of classes stand below
        return drawing

    def _label(self, axes: Axes) -> None:
        axes.invert_yaxis()
        ticks = np.arange(len(self.classes)) + 0.5
        totals = self.counts.sum(axis=1)
        axes.set_yticks(ticks, [f"{name} ({total})" for name, total in zip(self.classes, totals, strict=True)])
        slant: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(ticks, self.classes, **(dict[str, Any](rotation=90) if self._is_tight else slant))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_xlabel("Predicted")
        axes.set_ylabel("True (count)")

    @property
    def _has_many(self) -> bool:
        return len(self.classes) >= _MANY

    @property
    def _is_tight(self) -> bool:
        """Whether fields are too small for numbers, and as wide as a line of letters."""
        return self._has_many and is_narrow()

    def _write(self, axes: Axes, row: int, column: int, share: float) -> None:
        x, y, count = column + 0.5, row + 0.5, int(self.counts[row, column])
        if not count:
            if not self._has_many:
                axes.text(x, y, "·", ha="center", va="center", color=FAINT)
            return
        colour = _DARK if _luminance(share) > _EQUAL_CONTRAST else _LIGHT
        large, small = (7, 6) if self._has_many else (10, 6.5)
        text = f"{100 * share:.0f}" if share >= 0.005 else "<1"
        axes.text(x, y - 0.08, text, ha="center", va="center", fontsize=large, color=colour)
        axes.text(x, y + 0.28, str(count), ha="center", va="center", fontsize=small, color=colour)


def row_shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns each count as a share of its true class; 0 for a class without images."""
    totals = counts.sum(axis=1, keepdims=True)
    return np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)


def _luminance(share: float) -> float:
    """The relative luminance of a field, as WCAG 2.2 defines it."""
    channels = np.array(_SHADES(share)[:3])
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
