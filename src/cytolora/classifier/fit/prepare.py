"""Data preparation for `fit`: label corrections, unusable images, division by group, and the draw of a run."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cytolora.classifier.decision.decide import COLUMNS
from cytolora.classifier.fit.added import Added, check_labels_agree, find_added, group_rule_of, join, with_added
from cytolora.classifier.fit.config import FitConfig
from cytolora.classifier.fit.corrections import read_labels, relabelled
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import SplitSpec
from cytolora.core.arguments import AnyPath, OneOrMany, as_paths
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.data.grouping import SPLIT_BY_IMAGE
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.label_map import apply_label_map
from cytolora.data.manifest import Manifest, Sample, Split
from cytolora.data.quality.audit import audit
from cytolora.data.quality.findings import Audit, Duplicate
from cytolora.data.quality.scan import Records, scan
from cytolora.data.splitting.split_files import read_split
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, DataError
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

_NUM_SHOWN = 3

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
    notes: tuple[str, ...]
    """What was left out or corrected, and what cannot be verified."""
    num_corrected: int
    num_added: int = 0
    """Images from elsewhere in train."""


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
        cache: Folder that keeps the decoded images, so that `fit` decodes none of them again.
        begin: Told what is being done and to how many images, before ``on_image`` is called for each.

    Raises:
        DataError: If fewer than two classes are left, or a class has too few images or groups to be divided.
        ConfigError: If there is something to add, and nothing that labels it.
    """
    added_from = as_paths(add, "add")
    if added_from and labels is None:
        shown = " ".join(map(str, added_from))
        raise ConfigError(f"--add {shown} needs the labels of its cells: --labels corrections.csv, of a review page.")
    manifest = loaded = load_manifest(path, dataset, reading=reading)
    if label_map is not None:
        manifest = apply_label_map(manifest, label_map)
    if split_file is not None:
        manifest = read_split(split_file, manifest)
    num_corrected, before, added, new = 0, manifest, Added(), ()
    if labels is not None:
        added = find_added(added_from, manifest)
        given = read_labels(labels, manifest, path, added)
        manifest, num_corrected = relabelled(manifest, given.own)
        new = added.samples(given.added, group_rule_of(loaded) if label_map is None else None)
    whole = with_added(manifest, new)
    begin("looking at images", len(whole.samples), "images")
    pixels = None if cache is None else PixelCache(cache / "pixels", whole.root, whole.decoding)
    records = scan(whole, pixels=pixels, on_image=on_image)
    looked = audit(whole, records=records)
    looked.check_readable()
    kept, notes = _usable(whole, looked)
    own = replace(manifest, samples=tuple(one for one in kept.samples if one.elsewhere is None))
    _check_classes(own)
    divided, of_added = join(assign_subsets(own, split or SplitSpec()), kept)
    leakage = divided.grouping.warnings(divided.split_rule).get(SPLIT_BY_IMAGE)
    notes += [*([leakage] if leakage else []), *_across(divided, looked), *of_added, *_unknown_groups(looked)]
    num_added = len(divided.samples) - len(own.samples)
    if new:
        notes.insert(0, added.summary(num_added, len(new), labels.name if labels else ""))
    if num_corrected:
        notes.insert(0, f"{num_corrected} labels were corrected by {labels and labels.name}{_tested(before, divided)}.")
    return Cells(
        manifest=divided,
        found=(*loaded.samples, *new, *added.unlabelled_of_known_group({one.path for one in new})),
        audit=looked,
        records=records,
        notes=tuple(notes),
        num_corrected=num_corrected,
        num_added=num_added,
    )


def _tested(before: Manifest, divided: Manifest) -> str:
    """Says how many corrected labels are those of test images."""
    old = {sample.path: sample.label for sample in before.samples}
    count = sum(sample.label != old[sample.path] for sample in divided.subset("test"))  # of added images none is there
    if not count:
        return ""
    return f", {count} of them of test images: corrected with a prediction in sight, they make results too good"


def summary(cells: Cells) -> list[str]:
    """Says in a few lines what was found and what will be used."""
    found, counts = cells.audit, cells.manifest.counts()
    groups = f"{found.num_groups} groups ({found.group_rule})" if found.num_groups else "groups not known"
    sizes = ", ".join(f"{label} {row['all']}" for label, row in counts.items())
    return [
        f"{found.name}: {found.num_images} images{_and_added(cells)}, {len(counts)} classes, {groups}.",
        f"Images used: {sizes}.",
        f"Split: {cells.manifest.split_rule}.",
        *cells.notes,
    ]


def _and_added(cells: Cells) -> str:
    number = sum(one.elsewhere is not None for one in cells.found)
    return f" ({number} of them added)" if number else ""


def _usable(manifest: Manifest, found: Audit) -> tuple[Manifest, list[str]]:
    bad = {one.path for one in found.unreadable}
    samples = {sample.path: sample for sample in manifest.samples}
    for one in found.exact_duplicates:
        check_labels_agree(one.paths, samples)
    conflicting = {path for one in found.exact_duplicates if len(one.labels) > 1 for path in one.paths}
    copies = {path for one in found.exact_duplicates if len(one.labels) == 1 for path in _all_but_one(one, manifest)}
    notes = [
        f"{len(paths)} {what} left out: {_first(sorted(paths))}."
        for paths, what in (
            (bad, "unreadable files"),
            (conflicting, "images with equal pixels and different labels"),
            (copies, "copies of images that stay"),
        )
        if paths
    ]
    left = tuple(one for one in manifest.samples if one.path not in bad | conflicting | copies)
    if not left:
        raise DataError(f"{manifest.name}: no image is left; {notes[0] if notes else 'there are none.'}")
    return replace(manifest, samples=left), notes


def _all_but_one(duplicate: Duplicate, manifest: Manifest) -> set[str]:
    """Keeps a copy in test before val before train, so that no answer is known, and one that was added last of all."""
    place = {None: 0, "test": 0, "val": 1, "train": 2}
    samples = {path: sample for sample in manifest.samples if (path := sample.path) in duplicate.paths}
    kept = min(samples, key=lambda path: (samples[path].elsewhere is not None, place[samples[path].subset], path))
    return set(duplicate.paths) - {kept}


def _check_classes(manifest: Manifest) -> None:
    taken = [label for label in manifest.classes if label in COLUMNS]
    if taken:
        raise DataError(
            f"{manifest.name}: a class is named {taken[0]!r}, like a column of predictions. Rename it with a label map."
        )
    counts = manifest.counts()
    empty = [label for label in manifest.classes if not counts[label]["all"]]
    if empty:
        raise DataError(f"{manifest.name}: class {empty[0]!r} has no image left that can be used. Add some.")
    if len(manifest.classes) == 1:
        raise DataError(
            f"{manifest.name} has one class, {manifest.classes[0]!r}; a classifier tells two or more apart. "
            "Make one sub-folder for each class."
        )


def _across(divided: Manifest, found: Audit) -> list[str]:
    """Warns of near duplicates that the split put on two sides."""
    subsets = {sample.path: sample.subset for sample in divided.samples}
    split_pairs = [
        one.paths
        for one in found.near_duplicates
        if all(path in subsets for path in one.paths) and len({subsets[path] for path in one.paths}) > 1
    ]
    if not split_pairs:
        return []
    return [
        f"{len(split_pairs)} pairs of near duplicates stand on two sides of the split, the first is "
        f"{' = '.join(split_pairs[0])}; results may be too good. Look at them with cytolora check --page."
    ]


def _unknown_groups(looked: Audit) -> list[str]:
    return [str(one) for one in looked.findings() if one.code == "D506"]


def _first(paths: list[str]) -> str:
    return ", ".join(paths[:_NUM_SHOWN]) + (", …" if len(paths) > _NUM_SHOWN else "")


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
            raise DataError(f"{manifest.name} has no {part} images; thresholds and numbers need some. Add a split.")
    inputs.fetch_weights(config.backbone.name, progress)
    session = Session(
        manifest=manifest,
        given_split=split,
        backbone=config.backbone,
        inputs=inputs,
        cache=cache,
        device=device,
        progress=progress,
    )
    return Prepared(cells=cells, config=config, split=split, session=session)
