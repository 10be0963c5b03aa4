"""Whether a setting's probabilities can be believed: the reliability plot."""

from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing

from cytolora.display import format as words
from cytolora.display.figure import FAINT, PALETTE
from cytolora.display.lines import percent_ticks
from cytolora.reporting.results.flags import caution, in_caption, in_file, stamp
from cytolora.reporting.results.settings import Setting


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Accuracy against the probability of the predicted class, all seeds of a tested setting together."""

    setting: Setting
    slug: str
    """Names the setting in file names."""

    @property
    def name(self) -> str:
        """The stem of its files."""
        return f"{self.slug}_reliability"

    @property
    def caption(self) -> str:
        """What is seen, in words that stand alone."""
        setting, found = self.setting, self.setting.evaluation
        amount = words.amount(setting.shots, setting.fraction)
        text = f"{setting.dataset}, {setting.model}, {setting.method}, {amount}: accuracy of test images against the"
        text += " probability of their predicted class, in 15 bins of equal width; below, images in each bin."
        text += " Points below the diagonal: too sure."
        if found is not None:
            text += f" Expected calibration error {words.percent(fmean(found.ece))} %, "
            text += f"Brier score {fmean(found.brier):.3f} (0 to 2), means over seeds."
        return text + in_caption([setting])

    def frame(self) -> pa.Table:
        """Returns a row per bin; ``confidence`` and ``accuracy`` are empty where it holds nothing."""
        bins = self.setting.evaluation.bins if self.setting.evaluation else []
        return pa.table(
            {
                "low": [one.low for one in bins],
                "high": [one.high for one in bins],
                "num_predictions": [one.num_images for one in bins],
                "confidence": pa.array([one.confidence if one.num_images else None for one in bins], pa.float64()),
                "accuracy": pa.array([one.accuracy if one.num_images else None for one in bins], pa.float64()),
                "flags": [in_file(self.setting)] * len(bins),
            }
        )

    def plot(self) -> Drawing:
        """Draws the points above, the numbers of images below."""
        rows = [row for row in self.frame().to_pylist() if row["num_predictions"]]
        total = sum(row["num_predictions"] for row in rows)
        drawing = Drawing(figsize=(4.0, 4.4), layout="constrained")
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        above.plot([0, 1], [0, 1], color=FAINT, linewidth=1, zorder=1)
        sizes = 12 + 90 * np.sqrt([row["num_predictions"] / total for row in rows])
        place, right = ([row[key] for row in rows] for key in ("confidence", "accuracy"))
        above.plot(place, right, color=PALETTE[0], linewidth=1, alpha=0.5, zorder=2)
        above.scatter(place, right, s=sizes, color=PALETTE[0], zorder=3)
        above.set_ylim(0, 1.04)
        above.set_ylabel("Accuracy")
        width = rows[0]["high"] - rows[0]["low"]
        middles = [(row["low"] + row["high"]) / 2 for row in rows]
        below.bar(middles, [row["num_predictions"] / total for row in rows], width=0.9 * width, color=PALETTE[0])
        below.set_ylabel("Images")
        below.set_xlabel("Probability of the predicted class")
        below.set_xlim(0, 1)
        for axes in (above, below):
            percent_ticks(axes.yaxis)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
        percent_ticks(below.xaxis)
        stamp(drawing, caution([self.setting]))
        return drawing
