"""Figures of a classifier's page: confusion matrix, reliability diagram, referral curve."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.display.confusion import ConfusionMatrix
from cytolora.display.figure import GRID, PALETTE, Figure
from cytolora.display.reliability import ReliabilityDiagram
from cytolora.metrics.calibration import NUM_BINS, Bin, bin_index


def figures(contents: BundleManifest) -> tuple[Figure, ...]:
    """Makes the figures of the test images, in the order of the page."""
    return confusion_matrix(contents), reliability_diagram(contents), Referral(contents=contents)


def confusion_matrix(contents: BundleManifest) -> ConfusionMatrix:
    """Makes the confusion matrix of the test images."""
    return ConfusionMatrix(
        name="confusion",
        caption=(
            "Confusion matrix: true class (rows) by predicted class (columns) on the test images. Large: percent of "
            "the row; small: count."
        ),
        classes=tuple(contents.classes),
        counts=np.array(contents.metrics["test"]["confusion"], dtype=np.int64),
    )


def reliability_diagram(contents: BundleManifest) -> ReliabilityDiagram:
    """Makes the reliability diagram of the test images."""
    return ReliabilityDiagram(
        name="reliability",
        caption=(
            "Reliability diagram: accuracy of the test images against the probability of their predicted class, in "
            f"{NUM_BINS} bins of equal width; below, how many images each bin holds. Points below the diagonal: "
            "overconfident."
        ),
        bins=[_bin(**row) for row in contents.metrics["test"]["reliability"]],
    )


def _bin(*, confidence: float, accuracy: float, n: int) -> Bin:
    """Finds the ends of a stored bin, which a bundle does not hold."""
    index = int(bin_index([confidence])[0])
    return Bin(
        low=index / NUM_BINS, high=(index + 1) / NUM_BINS, num_images=n, confidence=confidence, accuracy=accuracy
    )


@dataclass(frozen=True, kw_only=True)
class Referral:
    """Referral curve: error among the rest against the share of images referred to a person."""

    contents: BundleManifest

    name = "referral"
    caption = (
        "Referral curve: error among the rest against the share of test images referred to a person, the least certain "
        "first. Square: the classifier's own referral flag."
    )

    def frame(self) -> pa.Table:
        """Returns a row per share referred."""
        curve = self.contents.metrics["test"]["referral"]["curve"]
        return pa.table({"referred": curve["referred"], "error": curve["error"]})

    def plot(self) -> Drawing:
        """Draws them."""
        referral = self.contents.metrics["test"]["referral"]
        drawing = Drawing(figsize=(4.2, 3.2))
        axes = drawing.subplots()
        percent = [100 * value for value in referral["curve"]["referred"]]
        axes.plot(percent, [100 * value for value in referral["curve"]["error"]], color=PALETTE[0], marker="o", ms=3)
        if referral["error_of_rest"] is not None:
            axes.plot(100 * referral["share"], 100 * referral["error_of_rest"], color=PALETTE[1], marker="s", ms=7)
        axes.set(xlim=(-2, 100), xlabel="referred, %", ylabel="error among the rest, %")
        axes.set_ylim(bottom=-0.5)
        axes.grid(color=GRID)
        return drawing
