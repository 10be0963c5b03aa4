"""Canonical division of a published dataset: from file names alone, the same everywhere, with a hash to cite."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from cytolora.config.reading import ReadOptions
from cytolora.config.run import SplitSpec, Subset
from cytolora.core.files import canonical_json, sha256_text
from cytolora.data.datasets import DATASETS, find_dataset
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.split_files import read_split
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError, DataError

_RULE = SplitSpec()
"""By group, 60 / 20 / 20, seed 0; stored runs pin that it never changes."""

_HASH = re.compile(r"(?:sha256:)?([0-9a-f]{12,64})", re.IGNORECASE)


def check_canonical(spec: SplitSpec, *, label_map: bool, reading: ReadOptions) -> None:
    """Raises a ConfigError if a canonical division is asked for together with one of one's own."""
    own = [
        name
        for name, is_given in {
            "--by": spec.by != _RULE.by,
            "--ratios": spec.ratios != _RULE.ratios,
            "--seed": spec.seed != _RULE.seed,
            "--map": label_map,
            "--groups-from": reading.groups_from is not None,
        }.items()
        if is_given
    ]
    if own:
        raise ConfigError(
            f"The canonical division is by group, 60/20/20, with seed 0 and the published classes; leave {own[0]} out, "
            "or divide without --canonical."
        )


def canonical_division(manifest: Manifest) -> Manifest:
    """Divides a published dataset by group with seed 0; official subsets are kept.

    An image counts as class and file name without suffix, so that neither folders nor bytes matter.

    Raises:
        ConfigError: If the dataset is none of the published ones.
        DataError: If it is not complete: a part of it would be divided otherwise.
    """
    _check_published(manifest)
    names = _names(manifest)
    bare = replace(
        manifest,
        samples=tuple(replace(sample, path=names[sample.path], sha256="") for sample in manifest.samples),
    )
    divided = assign_subsets(bare, _RULE)
    subset_of = {sample.path: sample.subset for sample in divided.samples}
    samples = tuple(replace(sample, subset=subset_of[names[sample.path]]) for sample in manifest.samples)
    whole = replace(manifest, samples=samples)
    return replace(whole, split_rule=f"canonical division sha256:{division_sha256(whole)}: {divided.split_rule}")


def division_sha256(manifest: Manifest) -> str:
    """Returns the SHA-256 over class, file name and subset of every image, sorted: to be cited.

    Raises:
        DataError: If the dataset is not divided.
    """
    if not manifest.has_subsets:
        raise DataError(f"{manifest.name} is not divided into train, val and test yet; there is no hash to cite.")
    names = _names(manifest)
    return sha256_text(canonical_json(sorted([names[sample.path], sample.subset] for sample in manifest.samples)))


def verify_division(manifest: Manifest, cited: str) -> str:
    """Compares the canonical division of a dataset with a split file, or with a hash of at least 12 digits.

    Returns:
        The hash of both.

    Raises:
        DataError: If they are two divisions.
    """
    canonical = canonical_division(manifest)
    sha256 = division_sha256(canonical)
    if Path(cited).is_file():
        _compare(canonical, read_split(Path(cited), manifest), cited)
        return sha256
    match = _HASH.fullmatch(cited.strip())
    if match is None:
        raise ConfigError(f"{cited!r} is neither a split file nor a hash; expected a path, or sha256: and 12 digits.")
    if not sha256.startswith(match[1].lower()):
        raise DataError(
            f"{manifest.name}: the canonical division is sha256:{sha256}, not {cited}. Compare images and names with "
            "those of the official download, and the label set."
        )
    return sha256


def _compare(canonical: Manifest, other: Manifest, name: str) -> None:
    theirs: Mapping[str, Subset | None] = {sample.path: sample.subset for sample in other.samples}
    moved = [sample for sample in canonical.samples if theirs[sample.path] != sample.subset]
    if moved:
        raise DataError(
            f"{name} is not the canonical division of {canonical.name}: {len(moved)} of {len(theirs)} images stand in "
            f"another subset, the first is {moved[0].path} ({theirs[moved[0].path]}, canonical: {moved[0].subset}). "
            "Cite the file itself, or divide with `cytolora split --canonical`."
        )


def _check_published(manifest: Manifest) -> None:
    known = {spec.name: spec for spec in DATASETS if not spec.generic and not spec.drawn}
    base = manifest.name.partition(":")[0]
    if base not in known:
        raise ConfigError(
            f"{manifest.name} is no published dataset, so there is no canonical division of it. Divide it without "
            f"--canonical and publish the file; or name the dataset: {', '.join(sorted(known))}."
        )
    differences = find_dataset(manifest.name).differences(manifest)
    if differences:
        raise DataError(f"{differences[0]} Complete the download: a part of it would be divided otherwise.")


def _names(manifest: Manifest) -> dict[str, str]:
    """Returns class and stem of every image by its path; the path without suffix where these do not tell images apart.

    A suffix changes when images are converted, and its case when they are unpacked.
    """
    names = {sample.path: f"{sample.label}/{PurePosixPath(sample.path).stem}" for sample in manifest.samples}
    if max(Counter(names.values()).values()) == 1:
        return names
    paths = {sample.path: PurePosixPath(sample.path).with_suffix("").as_posix() for sample in manifest.samples}
    return paths if len(set(paths.values())) == len(paths) else {path: path for path in paths}
