"""Findings of the leakage report: classes that are their source, inflated numbers, readable sources."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from cytolora.classifier.leakage.gap import points
from cytolora.core.findings import Finding, finding
from cytolora.data.quality.confounded import confounded
from cytolora.display import format as words
from cytolora.metrics.confounding import Purity

if TYPE_CHECKING:
    from cytolora.classifier.leakage.report import FeatureReport


def findings_of(classes: Sequence[Purity], by_features: Sequence["FeatureReport"]) -> list[Finding]:
    """Returns what a reader must know before trusting a number on this dataset."""
    found = confounded(classes)
    for report in by_features:
        found += _of_features(report)
    return found


def _of_features(report: "FeatureReport") -> Iterator[Finding]:
    kind, inflation = report.features, report.inflation
    if inflation is not None and inflation.leakage.is_above_zero:
        text = f"Divided by image, {inflation.head} on {kind} features looks {points(inflation.leakage)} better"
        yield finding("N842", f"{text} than by group, at equal training sizes.", count=inflation.num_cells)
    if inflation is not None and inflation.copies is not None and inflation.copies.is_above_zero:
        cells = words.count(inflation.num_copies, "cell")
        text = f"{cells} with a near-duplicate in another group make {inflation.head} on {kind} features look "
        text += f"{points(inflation.copies)} better, although it is divided by group."
        yield finding("N843", text, count=inflation.num_copies)
    for one in report.sources:
        if one.is_readable:
            yield finding(
                "N844",
                f"The {one.source} can be read from {kind} features beside the class: balanced accuracy "
                f"{words.percent(one.balanced_accuracy)} % over {one.num_sources}, by chance "
                f"{words.percent(one.chance)} % (p {one.p:.3f}).",
                count=one.num_sources,
            )
