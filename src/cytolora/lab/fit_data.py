"""The first look at one's own cells: corrections, what cannot be used, and which image is for what."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cytolora.data.audit import audit
from cytolora.data.datasets import load_manifest
from cytolora.data.findings import Audit, Duplicate
from cytolora.data.labels import apply_label_map
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.partition import partition
from cytolora.data.sources.csv import read_rows
from cytolora.data.split_files import read_split
from cytolora.data.splits import assign_subsets
from cytolora.errors import DataError, unknown_name
from cytolora.lab.decisions import COLUMNS
from cytolora.specs import SplitSpec

_NUM_SHOWN = 3

Begin = Callable[[str, int], None]
"""Told of a stage of work: what it is, and the number of images."""


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A dataset ready to be learned from."""

    manifest: Manifest
    """Every image in train, val or test; what cannot be used is gone."""
    found: tuple[Sample, ...]
    """Every image of the dataset, also what cannot be used: others of its group may be trained on."""
    audit: Audit
    """Of the dataset as it was found."""
    notes: tuple[str, ...]
    """What was left out or corrected, and what nobody can know, in words."""
    num_corrected: int


def read_cells(
    path: Path,
    dataset: str | None = None,
    *,
    labels: Path | None = None,
    label_map: Path | None = None,
    split_file: Path | None = None,
    split: SplitSpec | None = None,
    begin: Begin = lambda text, total: None,
    on_image: Callable[[], None] = lambda: None,
) -> Cells:
    """Reads a dataset, puts corrected labels in, leaves out what cannot be used and divides the rest by group.

    Files that cannot be read are left out, and of images with equal pixels all but the first, or all of them where
    their labels differ: a copy in the test set would be counted twice, or answered from memory.

    Args:
        labels: Table with columns path and label; what is not in it keeps its label.
        begin: Told what is being done and to how many images, before ``on_image`` is called for each.

    Raises:
        DataError: If fewer than two classes are left, or a class has too few images or groups to be divided.
    """
    manifest = loaded = load_manifest(path, dataset)
    if label_map is not None:
        manifest = apply_label_map(manifest, label_map)
    if split_file is not None:
        manifest = read_split(split_file, manifest)
    num_corrected, before = 0, manifest
    if labels is not None:
        manifest, num_corrected = correct(manifest, labels, path)
    begin("looking at images", len(manifest.samples))
    looked = audit(manifest, on_image=on_image)
    kept, notes = _usable(manifest, looked)
    _check_classes(kept)
    divided = assign_subsets(kept, split or SplitSpec())
    notes += [*_across(divided, looked), *looked.unverifiable]
    if num_corrected:
        notes.insert(0, f"{num_corrected} labels were corrected by {labels and labels.name}{_tested(before, divided)}.")
    return Cells(manifest=divided, found=loaded.samples, audit=looked, notes=tuple(notes), num_corrected=num_corrected)


def _tested(before: Manifest, divided: Manifest) -> str:
    """Says how many corrected labels are those of test images."""
    old = {sample.path: sample.label for sample in before.samples}
    count = sum(sample.label != old[sample.path] for sample in divided.subset("test"))
    if not count:
        return ""
    return f", {count} of them of test images: corrected with a prediction in sight, they make results too good"


def correct(manifest: Manifest, table: Path, source: Path | None = None) -> tuple[Manifest, int]:
    """Puts labels of a table in the place of the manifest's; returns how many changed.

    Paths are those of the dataset, or point at the same files from the current folder, or into the zip file that was
    read.

    Args:
        source: Folder, table or zip file that the manifest was read from.

    Raises:
        DataError: If the table names an image that the dataset does not have, or one image twice.
        ConfigError: If a label is none of the classes.
    """
    by_path = {sample.path: sample.path for sample in manifest.samples}
    by_file = {str((manifest.root / path).resolve()): path for path in by_path}
    given: dict[str, str] = {}
    for line, row in read_rows(table, ("path", "label")):
        name = row["path"].replace("\\", "/")
        path = by_path.get(name) or by_file.get(str(Path(name).resolve())) or _zipped(name, source, by_path)
        if path is None:
            raise DataError(f"{table}, line {line}: {row['path']} is no image of {manifest.name} ({manifest.root}).")
        if path in given:
            raise DataError(f"{table}, line {line}: {row['path']} is listed twice; keep one of the lines.")
        if row["label"] not in manifest.classes:
            raise unknown_name(f"class in {table}, line {line},", row["label"], manifest.classes)
        given[path] = row["label"]
    samples = tuple(replace(sample, label=given.get(sample.path, sample.label)) for sample in manifest.samples)
    changed = sum(new.label != old.label for new, old in zip(samples, manifest.samples, strict=True))
    return replace(manifest, samples=samples), changed


def _zipped(name: str, source: Path | None, by_path: Mapping[str, str]) -> str | None:
    """Finds ``archive.zip/cells/hsil/a.png``, as predictions name it; the dataset may begin at an inner folder."""
    if source is None or source.is_dir() or not Path(name).resolve().is_relative_to(source.resolve()):
        return None
    parts = Path(name).resolve().relative_to(source.resolve()).parts
    return next((found for start in range(len(parts)) if (found := by_path.get("/".join(parts[start:])))), None)


def summary(cells: Cells) -> list[str]:
    """Says in a few lines what was found and what will be used."""
    found, counts = cells.audit, cells.manifest.counts()
    groups = f"{found.num_groups} groups ({found.group_rule})" if found.num_groups else "groups not known"
    sizes = ", ".join(f"{label} {row['all']}" for label, row in counts.items())
    return [
        f"{found.name}: {found.num_images} images, {len(counts)} classes, {groups}.",
        f"Images used: {sizes}.",
        f"Split: {cells.manifest.split_rule}.",
        *cells.notes,
    ]


def _usable(manifest: Manifest, found: Audit) -> tuple[Manifest, list[str]]:
    bad = {one.path for one in found.unreadable}
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
    samples = tuple(one for one in manifest.samples if one.path not in bad | conflicting | copies)
    if not samples:
        raise DataError(f"{manifest.name}: no image is left; {notes[0] if notes else 'there are none.'}")
    return replace(manifest, samples=samples), notes


def _all_but_one(duplicate: Duplicate, manifest: Manifest) -> set[str]:
    """Keeps a copy in test before val before train, so that no answer is known; then the first by path."""
    place = {None: 0, "test": 0, "val": 1, "train": 2}
    subsets = {sample.path: sample.subset for sample in manifest.samples}
    kept = min(duplicate.paths, key=lambda path: (place[subsets[path]], path))
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
    """Near duplicates that the split put on two sides."""
    subsets = {sample.path: sample.subset for sample in divided.samples}
    torn = [
        one.paths
        for one in found.near_duplicates
        if all(path in subsets for path in one.paths) and len({subsets[path] for path in one.paths}) > 1
    ]
    if not torn:
        return []
    return [
        f"{len(torn)} pairs of near duplicates stand on two sides of the split, the first is {' = '.join(torn[0])}; "
        "results may be too good. Look at them with cytolora check --page."
    ]


def _first(paths: list[str]) -> str:
    return ", ".join(paths[:_NUM_SHOWN]) + (", …" if len(paths) > _NUM_SHOWN else "")


def halves(samples: tuple[Sample, ...], name: str) -> tuple[tuple[Sample, ...], tuple[Sample, ...]] | None:
    """Divides held-out images by group into two halves, one to choose with and one to calibrate with.

    Returns:
        None where a class comes from one group only and cannot stand in both.
    """
    try:
        found = partition(name, samples, {"train": 0.5, "val": 0.5}, by="group", seed=0)
    except DataError:
        return None
    first = tuple(sample for sample in samples if found.subsets[sample.path] == "train")
    return first, tuple(sample for sample in samples if found.subsets[sample.path] == "val")
