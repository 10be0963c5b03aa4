"""Figures of a classifier's page: confusion matrix, reliability diagram, referral curve, agreement of readers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from matplotlib.figure import Figure as Drawing

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.classifier.fit.readers import READERS
from cytolora.display.confusion import ConfusionMatrix
from cytolora.display.figure import GRID, MARKERS, PALETTE, Figure
from cytolora.display.reliability import ReliabilityDiagram
from cytolora.metrics.calibration import NUM_BINS, Bin, bin_index


def figures(contents: BundleManifest) -> tuple[Figure, ...]:
    """Makes the figures of the test images, in the order of the page."""
    return confusion_matrix(contents), reliability_diagram(contents), Referral(contents=contents)


def of_readers(contents: BundleManifest) -> "ReaderAgreement | None":
    """Makes the figure of agreement; None where no two readers labelled a test image."""
    found = contents.metrics.get(READERS)
    return None if found is None else ReaderAgreement(found=found)


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


@dataclass(frozen=True, kw_only=True)
class ReaderAgreement:
    """Kappa of every two readers beside that of the classifier with each reader, and agreement on each class."""

    found: Mapping[str, Any]
    """As of ``beside_readers``."""

    name = "readers"
    caption = (
        "Agreement of readers with each other (circles) and of the classifier with each of them (squares), on test "
        "cells. Left: Cohen's kappa with 95 % intervals over groups. Right: specific agreement on each class, the "
        "share of the labels of a class that the other confirms."
    )

    def frame(self) -> pa.Table:
        """Returns a row per comparison for all classes, with kappa and interval, and one per class."""
        rows = []
        for kind, row in self._comparisons():
            about = {"kind": kind, "a": row["a"], "b": row["b"], "cells": row["cells"]}
            rows.append({**about, "class": "", "kappa": row["kappa"], "low": row["low"], "high": row["high"]})
            by_class = zip(self.found["classes"], row["by_class"], strict=True)
            rows += [{**about, "class": name, "agreement": value} for name, value in by_class]
        text, share = pa.string(), pa.float64()
        kinds = {"kind": text, "a": text, "b": text, "cells": pa.int64(), "class": text}
        shares = dict.fromkeys(("kappa", "low", "high", "agreement"), share)
        return pa.Table.from_pylist(rows, schema=pa.schema({**kinds, **shares}))

    def _comparisons(self) -> list[tuple[str, Mapping[str, Any]]]:
        return [(kind, row) for kind in ("between", "classifier") for row in self.found[kind]]

    def plot(self) -> Drawing:
        """Draws a line per comparison, the same place and colour in both panels."""
        compared, classes = self._comparisons(), self.found["classes"]
        drawing = Drawing(figsize=(7.2, 1.1 + max(0.32 * len(compared), 0.42 * len(classes))))
        left, right = drawing.subplots(1, 2)
        for at, (kind, row) in enumerate(compared):
            style = {"color": PALETTE[kind == "classifier"], "marker": MARKERS[kind == "classifier"], "ms": 5, "ls": ""}
            if row["low"] is not None:
                left.plot([row["low"], row["high"]], [at, at], color=style["color"], lw=1.2)
            if row["kappa"] is not None:
                left.plot([row["kappa"]], [at], **style)
            offset = 0.5 * ((at + 0.5) / len(compared) - 0.5)
            known = [(100 * value, place + offset) for place, value in enumerate(row["by_class"]) if value is not None]
            right.plot([value for value, _ in known], [place for _, place in known], **style)
        left.set_yticks(range(len(compared)), [f"{row['a']}, {row['b']}" for _, row in compared])
        right.set_yticks(range(len(classes)), classes)
        left.set(xlim=(None, 1.03), ylim=(len(compared) - 0.4, -0.6), xlabel=f"Cohen's kappa{self._weights}")
        right.set(xlim=(-2, 102), ylim=(len(classes) - 0.4, -0.6), xlabel="agreement on the class, %")
        for axes in (left, right):
            axes.grid(color=GRID, axis="x")
        drawing.tight_layout()
        return drawing

    @property
    def _weights(self) -> str:
        return ", linear weights" if self.found["weighted"] else ""
