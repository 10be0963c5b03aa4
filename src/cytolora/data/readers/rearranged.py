"""Rearranged copies of a published dataset: its name, classes and, where file names survived, groups."""

from dataclasses import replace
from pathlib import Path, PurePosixPath

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.data.manifest import Manifest
from cytolora.data.readers.class_folders import class_names, plain
from cytolora.data.readers.flat import FLAT
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.txt import TXT
from cytolora.errors import DataError


def read_dataset(path: Path, spec: DatasetSpec, reading: ReadOptions = AS_IT_STANDS) -> Manifest:
    """Reads a dataset as it was downloaded, or as users of the paper's public code have rearranged it.

    Raises:
        DataError: If the path is neither, or is no table and has no columns to choose.
    """
    columns = {"--group-column": reading.group_column, "--subset-column": reading.subset_column}
    given = next((f"{option} {column}" for option, column in columns.items() if column is not None), None)
    if given and spec.read_with is None:
        raise DataError(
            f"{path} is read as {spec.name} ({spec.title}), which is no table with columns to choose, and {given} "
            "names one. Leave it out, or list the images in a table (manifest.csv)."
        )
    if spec.read_with is not None:
        return spec.read_with(path, reading)
    if spec.classes and not spec.generic:
        if TXT.looks_like(path):
            return _renamed(TXT.read(path), spec)
        if not spec.looks_like(path) and FLAT.looks_like(path):  # which asks for the name of every image
            return _renamed(FLAT.read(path), spec)
    return spec.read(path) if spec.read_decoded is None else spec.read_decoded(path, reading.decoding)


def _renamed(manifest: Manifest, spec: DatasetSpec) -> Manifest:
    names = class_names(spec)
    strange = [label for label in manifest.classes if plain(label) not in names]
    if strange:
        raise DataError(
            f"{manifest.root} is not {spec.title}: it has a class {strange[0]!r}; expected {', '.join(spec.classes)}."
        )
    samples = tuple(replace(sample, label=names[plain(sample.label)]) for sample in manifest.samples)
    if spec.group_of:
        groups = [spec.group_of(PurePosixPath(sample.path).stem, sample.label) for sample in samples]
        if all(groups):  # the names survived the move
            samples = tuple(replace(sample, group=group) for sample, group in zip(samples, groups, strict=True))
            manifest = replace(manifest, group_rule=spec.group_rule)
    return replace(manifest, name=spec.name, classes=spec.classes, samples=samples)
