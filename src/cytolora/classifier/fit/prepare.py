"""Data preparation for `fit`: label corrections, unusable images, division by group, and the draw of a run."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import torch

from cytolora.classifier.fit.added import (
    Added,
    check_labels_agree,
    find_added,
    group_rule_of,
    join,
    with_added,
    without_contradicted,
)
from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.corrections import read_labels, relabelled
from cytolora.classifier.fit.readers import Readings
from cytolora.classifier.fit.usable import DIVISION, check_classes, findings_of_fit, usable
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import SplitSpec
from cytolora.core.arguments import AnyPath, OneOrMany, as_paths
from cytolora.core.findings import Finding, RefusedDataError, finding, gravest_first
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.data.chosen_groups import groups_elsewhere
from cytolora.data.datasets import load_manifest
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.label_map import apply_label_map
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.data.quality.audit import audit
from cytolora.data.quality.findings import Audit
from cytolora.data.quality.scan import Records, scan
from cytolora.data.splitting.split_files import read_split
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

Begin = Callable[[str, int, str], None]
"""Told of a stage of work: what it is, and the number of images."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A dataset that a classifier can be trained on."""

    manifest: Manifest
    """Every image in train, val or test; what cannot be used is gone."""
    found: tuple[Sample, ...]
    """Every image of the dataset, also what cannot be used: others of its group may be trained on."""
    audit: Audit
    """Of the dataset before anything was left out."""
    records: Records
    """Of every image, also what cannot be used."""
    statements: tuple[str, ...]
    """What was done to the dataset, in sentences."""
    findings: tuple[Finding, ...]
    """What is odd in it, the gravest first."""
    num_corrected: int
    num_added: int = 0
    """Images from elsewhere in train."""
    readings: Readings | None = None
    """Of several readers, where labels come from a project that has them."""
    pixels: PixelCache | None = field(default=None, compare=False, repr=False)
    """Holds images until they are asked for, so that they are not decoded again; None without a cache."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything that was done or found, in sentences."""
        return (*self.statements, *map(str, self.findings))


def read_cells(
    path: Path,
    dataset: str | None = None,
    *,
    labels: Path | None = None,
    add: OneOrMany[AnyPath] = (),
    label_map: Path | None = None,
    split_file: Path | None = None,
    split: SplitSpec | None = None,
    reading: ReadOptions = AS_IT_STANDS,
    read: Manifest | None = None,
    cache: Path | None = None,
    begin: Begin = lambda text, total, unit: None,
    on_image: Callable[[], None] = lambda: None,
) -> Cells:
    """Reads a dataset, puts corrected labels in, leaves out what cannot be used and divides the rest by group.

    Files that cannot be read are left out, and of images with equal pixels all but the first, or all of them where
    their labels differ: a copy in the test set would be counted twice, or answered from memory.

    Args:
        labels: Table with columns path and label; what is not in it keeps its label.
        add: Folders and zip files of further images; those that ``labels`` names are added to train (added.py).
        reading: What the files leave to choose.
        read: The dataset, where ``path`` was read already; with hashes.
        cache: Of the fit that follows; images are then held in memory for it, as many as there is room for.
        begin: Told what is being done and to how many images, before ``on_image`` is called for each.

    Raises:
        DataError: If fewer than two classes are left, or a class has too few images or groups to be divided.
        ConfigError: If there is something to add, and nothing that labels it.
    """
    added_from = as_paths(add, "add")
    if added_from and labels is None:
        shown = " ".join(map(str, added_from))
        raise ConfigError(f"--add {shown} needs the labels of its cells: --labels corrections.csv, of a review page.")
    manifest = loaded = load_manifest(path, dataset, reading=reading) if read is None else read
    if label_map is not None:
        manifest = apply_label_map(manifest, label_map)
    if split_file is not None:
        manifest = read_split(split_file, manifest)
    num_corrected, before, added, new, of_labels = 0, manifest, Added(), (), ()
    if labels is not None:
        added = find_added(added_from, manifest, reading)
        given = read_labels(labels, manifest, path, added)
        manifest, num_corrected = relabelled(manifest, given.own)
        of_labels = given.findings
        stems = (PurePosixPath(name).stem for name in added.files)
        group_of = groups_elsewhere(loaded, reading.groups_from, stems) or group_rule_of(loaded)
        new = added.samples(given.added, group_of if label_map is None else None)
    whole = with_added(manifest, new)
    begin("looking at images", len(whole.samples), "images")
    pixels = None if cache is None else PixelCache(cache / "pixels", whole.root, whole.decoding)
    records = scan(whole, pixels=pixels, on_image=on_image)
    whole = without_contradicted(whole, records)
    looked = audit(whole, records=records)
    looked.check_readable()
    left = usable(whole, looked)
    by_path = {sample.path: sample for sample in whole.samples}
    for one in looked.exact_duplicates:
        check_labels_agree(one.paths, by_path)
    kept = left.manifest
    own = replace(manifest, samples=tuple(one for one in kept.samples if not one.is_added))
    check_classes(own, left.findings)
    divided, of_added = join(assign_subsets(own, split or DIVISION), kept)
    findings = [*of_labels, *findings_of_fit(divided, looked, left.findings)]
    num_added = len(divided.samples) - len(own.samples)
    statements = [added.summary(num_added, len(new), labels.name if labels else "")] if new else []
    if num_corrected:
        text = f"{num_corrected} labels were corrected by {labels and labels.name}"
        flattering = _corrected_in_test(before, divided, text)
        findings += flattering
        statements = ([] if flattering else [f"{text}."]) + statements
    return Cells(
        manifest=divided,
        found=(*loaded.samples, *new, *added.unlabelled_of_known_group({one.path for one in new})),
        audit=looked,
        records=records,
        statements=(*statements, *of_added),
        findings=tuple(gravest_first(findings)),
        num_corrected=num_corrected,
        num_added=num_added,
        pixels=pixels,
    )


def _corrected_in_test(before: Manifest, divided: Manifest, text: str) -> list[Finding]:
    """Finds corrected labels of test images."""
    old = {sample.path: sample.label for sample in before.samples}
    paths = [one.path for one in divided.subset("test") if one.label != old[one.path]]  # of added images none is there
    if not paths:
        return []
    flattering = "of them of test images: corrected with a prediction in sight, they make results too good"
    return [finding("D510", f"{text}, {len(paths)} {flattering}.", count=len(paths), examples=paths)]


def summary(cells: Cells) -> list[str]:
    """Says in a few lines what was found and what will be used."""
    found, counts = cells.audit, cells.manifest.counts()
    groups = f"{counted(found.num_groups, 'group')} ({found.group_rule})" if found.num_groups else "groups not known"
    sizes = ", ".join(f"{label} {row['all']}" for label, row in counts.items())
    return [
        f"{found.name}: {counted(found.num_images, 'image')}{_and_added(cells)}, {len(counts)} classes, {groups}.",
        f"Images used: {sizes}.",
        f"Split: {cells.manifest.split_rule}.",
        *cells.statements,
    ]


def _and_added(cells: Cells) -> str:
    number = sum(one.is_added and not one.shares for one in cells.found)
    return f" ({number} of them added)" if number else ""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A dataset divided into train, calibration (``val``) and test, with the encoder that its images go through."""

    cells: Cells
    config: FitConfig
    split: Split
    session: Session
    """Of the images of the split alone: with few shots most of train is not used."""


def prepare(
    cells: Cells,
    config: FitConfig,
    inputs: Inputs,
    *,
    cache: Path,
    device: torch.device,
    progress: Progress,
) -> Prepared:
    """Draws the images of a fit and fetches the weights of its backbone.

    Raises:
        DataError: If there is no image to calibrate or test on.
    """
    manifest, split = cells.manifest, draw(cells.manifest, config.sampling, config.seed)
    for part, samples in (("validation", split.val), ("test", split.test)):
        if not samples:
            text = f"{manifest.name} has no {part} images; thresholds and numbers need some. Add a split."
            raise RefusedDataError("D509", text)
    inputs.fetch_weights(config.backbone.name, progress)
    session = Session(
        manifest=manifest,
        looked_at=cells.pixels,
        given_split=split,
        backbone=config.backbone,
        precision=config.precision,
        inputs=inputs,
        cache=cache,
        device=device,
        progress=progress,
    )
    return Prepared(cells=cells, config=config, split=split, session=session)
