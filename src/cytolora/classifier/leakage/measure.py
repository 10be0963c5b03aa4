"""Leakage of a dataset, from images to the report: near-duplicates, features, and every measure on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from cytolora.classifier.bundle.files import SEEN
from cytolora.classifier.decision.operating_point import check_asked
from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.leakage.cells import SourcedCells, sourced, twin_pairs
from cytolora.classifier.leakage.encodings import Encoding
from cytolora.classifier.leakage.features import Effort, assemble, measure_features
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.core.progress import Progress
from cytolora.core.strict_json import read_json
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.quality.audit import audit
from cytolora.data.quality.scan import ImageRecord, Records, scan
from cytolora.data.splitting.findings import refuse_one_class
from cytolora.errors import DataError

_TRAINED = ("train", "trained_groups")
"""Images whose features the adapter has fitted, and others of their groups."""


def measure_leakage(
    manifest: Manifest,
    encodings: Sequence[Encoding],
    *,
    model: str,
    cache: Path,
    device: torch.device,
    bundle: Classifier | None = None,
    positive: Sequence[str] = (),
    sensitivity: float = 0.95,
    effort: Effort,
    progress: Progress,
) -> LeakageReport:
    """Measures what a dataset gives away to an encoder beside the classes.

    Args:
        encodings: Each is measured on the same cells.
        bundle: Cells that it was trained on, and others of their groups, are left out: it has adapted to them.

    Raises:
        DataError: If no group is known, or nothing is left.
    """
    refuse_one_class(manifest)
    check_asked(positive, sensitivity, manifest.classes)
    samples, num_not_drawn = sourced(manifest, effort.max_cells)
    progress.begin("looking at images", len(samples), "images")
    looked_at = replace(manifest, samples=samples)
    pixels = PixelCache(cache / "pixels", manifest.root, manifest.decoding)
    records = scan(looked_at, pixels=pixels, on_image=lambda: progress.done(1))
    found = audit(looked_at, records=records)
    bad = {one.path for one in found.unreadable}
    readable = [sample for sample in samples if sample.path not in bad]
    unseen = readable if bundle is None else _not_trained_on(readable, records, bundle)
    if not unseen:
        raise DataError(
            f"{manifest.name}: no cell is left to look at; the others cannot be read, or the bundle was trained on "
            "them or on others of their groups. Take images of other slides."
        )
    used = replace(manifest, samples=tuple(unseen))
    cells = SourcedCells(
        name=manifest.name,
        classes=manifest.classes,
        samples=used.samples,
        features=torch.zeros(len(unseen), 0),
        twins=twin_pairs(used.samples, found.duplicates),
        num_without_group=sum(sample.group is None for sample in manifest.samples),
        num_not_drawn=num_not_drawn,
    )
    reports = []
    for encoding in encodings:
        progress.begin(f"{encoding.kind} features", len(unseen), "images")
        rows = encoding.features(used, cache, device, progress.done, pixels=pixels)
        reports.append(
            measure_features(
                cells.with_features(rows),
                encoding.kind,
                effort,
                positive=positive,
                sensitivity=sensitivity,
                progress=progress,
            )
        )
    return assemble(
        cells,
        reports,
        model=model,
        group_rule=manifest.group_rule,
        positive=positive,
        sensitivity=sensitivity,
        num_trained_on=len(readable) - len(unseen),
        of_data=[
            *(bundle.findings() if bundle is not None else ()),
            *(one for one in found.findings() if one.code != "N841"),  # said of the cells that are looked at
        ],
    )


def _not_trained_on(samples: Sequence[Sample], records: Records, bundle: Classifier) -> list[Sample]:
    """Leaves out what the bundle was trained on, by file, by pixels and by group."""
    seen = read_json(bundle.files[SEEN])
    files = {digest for name in _TRAINED for digest in seen.get(name, ())}
    pixels = set(seen.get("train_pixels", ()))
    groups = {sample.group for sample in samples if _is_in(sample, files, pixels, records)}
    return [sample for sample in samples if sample.group not in groups]


def _is_in(sample: Sample, files: set[str], pixels: set[str], records: Records) -> bool:
    record = records[sample.path]
    return sample.sha256 in files or (isinstance(record, ImageRecord) and record.pixel_sha256 in pixels)
