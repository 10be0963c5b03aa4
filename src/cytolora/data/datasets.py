"""Dataset registry, and ``load_manifest``: from a path to a checked manifest."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import SUBSETS
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.findings import Finding, finding
from cytolora.core.registry import Registry
from cytolora.data.archive import DEFAULT_CACHE, inner_folders, is_archive, unpack
from cytolora.data.chosen_groups import with_chosen_groups
from cytolora.data.manifest import Manifest
from cytolora.data.readers.apacc import APACC
from cytolora.data.readers.bcfc import BCFC
from cytolora.data.readers.bloodmnist import BLOODMNIST
from cytolora.data.readers.bmcd import BMCD
from cytolora.data.readers.bmt import BMT
from cytolora.data.readers.cric import CRIC
from cytolora.data.readers.csv import CSV
from cytolora.data.readers.flat import FLAT
from cytolora.data.readers.fnac2019 import FNAC2019
from cytolora.data.readers.folder import FOLDER
from cytolora.data.readers.herlev import HERLEV
from cytolora.data.readers.hicervix import HICERVIX
from cytolora.data.readers.mlcc import MLCC
from cytolora.data.readers.rearranged import read_dataset
from cytolora.data.readers.sipakmed import SIPAKMED
from cytolora.data.readers.spec import DatasetSpec
from cytolora.data.readers.synthetic import SYNTHETIC
from cytolora.data.readers.txt import TXT
from cytolora.data.similar_names import with_label_findings
from cytolora.errors import DataError, unknown_name

DATASETS: Registry[DatasetSpec] = Registry("dataset")

for _spec in (
    APACC,
    BCFC,
    BLOODMNIST,
    BMCD,
    BMT,
    CRIC,
    CSV,
    FLAT,
    FNAC2019,
    FOLDER,
    HERLEV,
    HICERVIX,
    MLCC,
    SIPAKMED,
    SYNTHETIC,
    TXT,
):
    DATASETS.add(_spec)


def load_manifest(
    path: AnyPath,
    dataset: str | None = None,
    *,
    reading: ReadOptions = AS_IT_STANDS,
    strict: bool = False,
    cache: AnyPath = DEFAULT_CACHE,
) -> Manifest:
    """Reads a dataset: classes, groups and official subsets as its source gives them, with the hash of every image.

    Args:
        path: A folder, a table, or a zip file as it was downloaded.
        dataset: A registered name, with its label set where it has several; None recognises the folder.
        reading: What the files leave to choose.
        strict: Makes a count that differs from the published one an error; it is a warning otherwise.
        cache: Where a zip file is unpacked, once.

    Raises:
        ConfigError: If the name is unknown.
        DataError: If the path is not such a dataset, or a class has no images.
    """
    path = as_path(path)
    if not path.exists() and not (dataset and find_dataset(dataset).drawn):
        raise DataError(f"{path} does not exist; expected the folder or table of a dataset.")
    spec, path = _locate(path, dataset, as_path(cache, "cache"))
    manifest = read_dataset(path, spec, reading)
    counts = manifest.counts()
    empty = [label for label in manifest.classes if not counts[label]["all"]]
    if empty:
        raise DataError(f"{manifest.name}: class {empty[0]!r} has no images in {manifest.root}; complete the download.")
    differences = spec.differences(manifest)
    if strict and differences:
        raise DataError(f"{differences[0]} Complete the download, or leave out --strict.")
    differing = (finding("F207", text) for text in differences)
    findings = (*manifest.findings, *differing, *_absent_classes(manifest))
    manifest = with_chosen_groups(replace(manifest, findings=findings), reading.groups_from)
    return with_label_findings(manifest).with_hashes()


def find_dataset(name: str) -> DatasetSpec:
    """Returns the dataset of a name such as ``herlev`` or ``hicervix:25``; without a label set, the default one."""
    base, _, label_set = name.partition(":")
    spec = DATASETS.get(base)
    if not label_set:
        return next(iter(spec.label_sets.values()), spec)
    if label_set not in spec.label_sets:
        raise unknown_name(f"label set of {base}", label_set, spec.label_sets)
    return spec.label_sets[label_set]


def recognise(path: Path) -> DatasetSpec:
    """Returns the published dataset that a path looks like, else the reader for tables or class folders of one's own.

    Raises:
        DataError: If two published datasets recognise it, or nothing reads it.
    """
    published = [spec for spec in DATASETS if not spec.generic and spec.looks_like(path)]
    if len(published) > 1:
        raise DataError(f"{path} may be {_alternatives(published)}; say which with --dataset.")
    if published:
        return next(iter(published[0].label_sets.values()), published[0])
    for spec in (CSV, TXT, FLAT, FOLDER):
        if spec.looks_like(path):
            return spec
    expected = "expected class folders with images, a CSV table, or an official download"
    raise DataError(" ".join([f"{path} is no dataset; {expected}.", *DATASETS.problems()]))


def _locate(path: Path, dataset: str | None, cache: Path) -> tuple[DatasetSpec, Path]:
    """Finds the dataset and its folder; in an archive that may be some folders further in."""
    spec = find_dataset(dataset) if dataset else None
    if not is_archive(path):
        return spec or recognise(path), path
    folders = inner_folders(unpack(path, cache))
    published = [spec] if spec else [known for known in DATASETS if not known.generic]
    fitting = (folder for folder in folders for known in published if not known.generic and known.looks_like(folder))
    path = next(fitting, folders[-1])
    return spec or recognise(path), path


def _alternatives(specs: Sequence[DatasetSpec]) -> str:
    return " or ".join(spec.name for spec in specs)


def _absent_classes(manifest: Manifest) -> list[Finding]:
    """Says which class has images, but none in a subset where others have some."""
    counts = manifest.counts()
    return [
        finding("F209", f"{manifest.name}: class {label!r} has no images in {subset}.", examples=[label])
        for subset in SUBSETS
        if manifest.subset(subset)
        for label in manifest.classes
        if not counts[label][subset]
    ]
