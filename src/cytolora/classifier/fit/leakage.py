"""Leakage section of `fit`: what the features that are there give away, where groups are known."""

from collections.abc import Sequence

import torch

from cytolora.classifier.fit.assess import Metrics
from cytolora.classifier.fit.prepare import Prepared
from cytolora.classifier.fit.train import Trained
from cytolora.classifier.leakage.cells import MAX_CELLS, MIN_GROUPS, SourcedCells, twin_pairs
from cytolora.classifier.leakage.encodings import ADAPTED, FROZEN
from cytolora.classifier.leakage.features import Effort, assemble, measure_features
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.data.manifest import Sample

LEAKAGE = "leakage"
"""Its key among the metrics of a bundle."""
_EFFORT = Effort(head="nearest-mean", repeats=3, permutations=99, sites=False)
"""A few hundred milliseconds; `cytolora leakage` takes its time."""


def leakage_of(prepared: Prepared, trained: Trained) -> LeakageReport | None:
    """Measures frozen features of all images of a fit, adapted ones of the test images; None without two groups.

    An adapter has fitted the features of its training images, which say nothing of new ones.
    """
    split, is_adapted = prepared.split, prepared.config.adapter is not None
    images = split.test if is_adapted else (*split.train, *split.val, *split.test)
    chosen = {sample.path: sample for sample in images if sample.group is not None and not sample.is_added}
    samples = tuple(chosen[path] for path in sorted(chosen))
    if len({sample.group for sample in samples}) < MIN_GROUPS or len(samples) > MAX_CELLS:
        return None
    cells = SourcedCells(
        name=prepared.cells.manifest.name,
        classes=prepared.cells.manifest.classes,
        samples=samples,
        features=_features(prepared, trained, samples),
        twins=twin_pairs(samples, prepared.cells.audit.duplicates),
        num_without_group=sum(sample.group is None for sample in images),
    )
    kind = ADAPTED if is_adapted else FROZEN
    return assemble(
        cells,
        [measure_features(cells, kind, _EFFORT)],
        model=prepared.config.backbone.name,
        group_rule=prepared.cells.manifest.group_rule,
    )


def with_leakage(metrics: Metrics, report: LeakageReport | None) -> Metrics:
    """Adds the report to the metrics of a bundle, under ``leakage``."""
    return metrics if report is None else {**metrics, LEAKAGE: report.plain()}


def _features(prepared: Prepared, trained: Trained, samples: Sequence[Sample]) -> torch.Tensor:
    if prepared.config.adapter is None:
        return prepared.session.features_of(samples)
    test = prepared.split.test
    rows = {sample.path: row for sample, row in zip(test, trained.outputs(test)[1], strict=True)}
    return torch.stack([torch.from_numpy(rows[sample.path]) for sample in samples])
