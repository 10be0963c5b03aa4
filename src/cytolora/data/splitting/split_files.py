"""Split files, to cite and to share: the subset of every image."""

import csv
from dataclasses import replace
from io import StringIO
from pathlib import Path

from cytolora.config.run import Subset
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import canonical_json, sha256_text, write_text
from cytolora.data.manifest import Manifest
from cytolora.data.readers.csv import read_rows
from cytolora.data.readers.layout import SUBSET_NAMES
from cytolora.errors import DataError

_COLUMNS = ("path", "label", "subset", "group", "fingerprint", "split_rule")
"""The last two stand in the first row only: they are about the whole file, and a comment would not be CSV."""


def write_split(manifest: Manifest, path: AnyPath) -> None:
    """Writes where every image stands, with a fingerprint of the images and the rule in words.

    Raises:
        DataError: If the manifest is not divided yet.
    """
    if not manifest.has_subsets:
        raise DataError(f"{manifest.name} is not divided into train, val and test yet; there is no split to write.")
    text = StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    about = (images_fingerprint(manifest), manifest.split_rule)
    for sample in manifest.samples:
        writer.writerow([sample.path, sample.label, sample.subset, sample.group or "", *about])
        about = ("", "")
    write_text(as_path(path), text.getvalue())


def read_split(path: AnyPath, manifest: Manifest) -> Manifest:
    """Returns the manifest with the subsets of a split file.

    Labels and groups stay the manifest's own: a label map moves no image to another side. A file made by hand may
    lack the columns fingerprint and split_rule.

    Raises:
        DataError: If the file lists other images than the dataset has, or images whose content has changed.
    """
    path = as_path(path)
    rows = read_rows(path, ("path", "subset"))
    subsets: dict[str, Subset] = {}
    for line, row in rows:
        if row["path"] in subsets:
            raise DataError(f"{path}, line {line}: {row['path']} is listed twice; keep one of the lines.")
        if row["subset"].lower() not in SUBSET_NAMES:
            raise DataError(f"{path}, line {line}: subset {row['subset']!r} is none of train, val and test.")
        subsets[row["path"]] = SUBSET_NAMES[row["subset"].lower()]
    _check_same_images(path, subsets, manifest)
    first = rows[0][1]
    expected = first.get("fingerprint", "")
    if expected and expected != images_fingerprint(manifest):
        raise DataError(
            f"{path} was made for other images: paths are those of {manifest.name}, but the content of at least one "
            "file has changed. Get the images that the split was made for, or make a new split."
        )
    rule = first.get("split_rule", "")
    samples = tuple(replace(sample, subset=subsets[sample.path]) for sample in manifest.samples)
    return replace(manifest, samples=samples, split_rule=f"{rule} (from {path.name})" if rule else f"from {path.name}")


def images_fingerprint(manifest: Manifest) -> str:
    """SHA-256 over paths and bytes of the images alone: labels and groups may be corrected without a new split."""
    rows = [[sample.path, sample.sha256] for sample in manifest.samples]
    if not all(digest for _, digest in rows):
        return images_fingerprint(manifest.with_hashes())
    return sha256_text(canonical_json(rows))


def _check_same_images(path: Path, subsets: dict[str, Subset], manifest: Manifest) -> None:
    there = {sample.path for sample in manifest.samples}
    gone, new = sorted(set(subsets) - there), sorted(there - set(subsets))
    if gone:
        raise DataError(
            f"{path} lists {len(gone)} images that {manifest.name} does not have, the first is {gone[0]}. "
            "Point at the dataset that the split was made for."
        )
    if new:
        raise DataError(
            f"{manifest.name} has {len(new)} images that {path} does not list, the first is {new[0]}. "
            "Make a new split, or take these images away."
        )
