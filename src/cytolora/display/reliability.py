"""Reliability diagram: accuracy against the probability of the predicted class, in bins of equal width."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing

from cytolora.display.figure import FAINT, PALETTE, stamp
from cytolora.display.lines import percent_ticks
from cytolora.metrics.calibration import Bin


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliabilityDiagram:
    """A figure of bins of predictions."""

    name: str
    """The stem of its files."""
    caption: str
    bins: Sequence[Bin]
    flags: str = ""
    """Tags in the column ``flags`` of ``frame()``."""
    caution: str = ""
    """Printed below the diagram."""

    def frame(self) -> pa.Table:
        """Returns a row per bin; ``confidence`` and ``accuracy`` are empty where it holds nothing."""
        bins = self.bins
        return pa.table(
            {
                "low": [entry.low for entry in bins],
                "high": [entry.high for entry in bins],
                "num_predictions": [entry.num_images for entry in bins],
                "confidence": pa.array([e.confidence if e.num_images else None for e in bins], pa.float64()),
                "accuracy": pa.array([e.accuracy if e.num_images else None for e in bins], pa.float64()),
                "flags": [self.flags] * len(bins),
            }
        )

    def plot(self) -> Drawing:
        """Draws the points above, the numbers of images below."""
        bins = [entry for entry in self.bins if entry.num_images]
        shares = np.array([entry.num_images for entry in bins]) / sum(entry.num_images for entry in bins)
        drawing = Drawing(figsize=(4.0, 4.4), layout="constrained")
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=1)
        confidence, accuracy = [entry.confidence for entry in bins], [entry.accuracy for entry in bins]
        above.plot(confidence, accuracy, color=PALETTE[0], linewidth=1, alpha=0.5, zorder=2)
        above.scatter(confidence, accuracy, s=12 + 90 * np.sqrt(shares), color=PALETTE[0], zorder=3)
        above.set_ylim(0, 1.04)
        above.set_ylabel("Accuracy")
        middles = [(entry.low + entry.high) / 2 for entry in bins]
        below.bar(middles, shares, width=0.9 * (bins[0].high - bins[0].low), color=PALETTE[0])
        below.set_ylabel("Images")
        below.set_xlabel("Probability of the predicted class")
        below.set_xlim(0, 1)
        for axes in (above, below):
            percent_ticks(axes.yaxis)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        percent_ticks(below.xaxis)
        stamp(drawing, self.caution)
        return drawing
