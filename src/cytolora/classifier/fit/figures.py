"""The three figures of a bundle's page: what is taken for what, whether probabilities hold, what referring gains."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.display.figure import FAINT, GRID, PALETTE

_DARK_FROM = 0.5


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """True class by predicted class; each row adds up to 100 %."""

    contents: BundleManifest

    name = "confusion"
    caption = "True class (rows) by predicted class (columns) on the test images: percent of the row, and count."

    @property
    def counts(self) -> Any:
        """Images by true and predicted class."""
        return np.array(self.contents.metrics["test"]["confusion"])

    def frame(self) -> pa.Table:
        """Returns a row per pair of classes."""
        names = self.contents.classes
        pairs = [(row, column) for row in range(len(names)) for column in range(len(names))]
        return pa.table(
            {
                "true": [names[row] for row, _ in pairs],
                "predicted": [names[column] for _, column in pairs],
                "n": [int(self.counts[pair]) for pair in pairs],
            }
        )

    def plot(self) -> Drawing:
        """Draws them."""
        names, counts = self.contents.classes, self.counts
        shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
        edge = max(3.0, 0.62 * len(names))
        drawing = Drawing(figsize=(edge + 1.4, edge))
        axes = drawing.subplots()
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*shares.shape):
            if counts[row, column]:
                ink = "#ffffff" if shares[row, column] > _DARK_FROM else "#14181f"
                text = f"{100 * shares[row, column]:.0f}\n{counts[row, column]}"
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=7)
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        return drawing


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Confidence against accuracy: on the diagonal a probability means what it says."""

    contents: BundleManifest

    name = "reliability"
    caption = (
        "Of the test images predicted with a probability, the share that was right; a dot's area is its number of "
        "images. On the line, probabilities can be taken at their word."
    )

    def frame(self) -> pa.Table:
        """Returns a row per bin."""
        return pa.Table.from_pylist(self.contents.metrics["test"]["reliability"])

    def plot(self) -> Drawing:
        """Draws them."""
        bins = self.contents.metrics["test"]["reliability"]
        drawing = Drawing(figsize=(3.6, 3.2))
        axes = drawing.subplots()
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=0.8)
        largest = max(one["n"] for one in bins)
        axes.scatter(
            [one["confidence"] for one in bins],
            [one["accuracy"] for one in bins],
            s=[12 + 140 * one["n"] / largest for one in bins],
            color=PALETTE[0],
            alpha=0.8,
            linewidths=0,
        )
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="probability", ylabel="share right")
        axes.grid(color=GRID)
        return drawing


@dataclass(frozen=True, kw_only=True)
class Referral:
    """How error falls when the doubtful images go to a person."""

    contents: BundleManifest

    name = "referral"
    caption = (
        "The share of test images referred to a person, the most doubtful first, against the error among the rest. "
        "The square: what the bundle's own flag refers."
    )

    def frame(self) -> pa.Table:
        """Returns a row per share referred."""
        curve = self.contents.metrics["test"]["referral"]["curve"]
        return pa.table({"referred": curve["referred"], "error": curve["error"]})

    def plot(self) -> Drawing:
        """Draws them."""
        found = self.contents.metrics["test"]["referral"]
        drawing = Drawing(figsize=(4.2, 3.2))
        axes = drawing.subplots()
        percent = [100 * value for value in found["curve"]["referred"]]
        axes.plot(percent, [100 * value for value in found["curve"]["error"]], color=PALETTE[0], marker="o", ms=3)
        if found["error_of_rest"] is not None:
            axes.plot(100 * found["share"], 100 * found["error_of_rest"], color=PALETTE[1], marker="s", ms=7)
        axes.set(xlim=(-2, 100), xlabel="referred, %", ylabel="error among the rest, %")
        axes.set_ylim(bottom=-0.5)
        axes.grid(color=GRID)
        return drawing


FIGURES = (Confusion, Reliability, Referral)
