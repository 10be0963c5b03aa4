"""Dataset registry, and ``load_manifest``: from a path to a checked manifest."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import SUBSETS
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.findings import Finding, finding, first
from cytolora.core.registry import Registry
from cytolora.core.text import counted
from cytolora.data.archive import DEFAULT_CACHE, inner_folders, is_archive, unpack
from cytolora.data.chosen_groups import with_chosen_groups
from cytolora.data.exchange.formats import IMAGE_READERS, LABEL_READERS, READERS, container_of
from cytolora.data.formats import TABLE_SUFFIXES, suffix_of
from cytolora.data.left_out import account
from cytolora.data.manifest import Manifest
from cytolora.data.readers.apacc import APACC
from cytolora.data.readers.bcfc import BCFC
from cytolora.data.readers.bloodmnist import BLOODMNIST
from cytolora.data.readers.bmcd import BMCD
from cytolora.data.readers.bmt import BMT
from cytolora.data.readers.code_names import named_like_groups
from cytolora.data.readers.cric import CRIC
from cytolora.data.readers.csv import CSV, TABLE
from cytolora.data.readers.exports import why_refused
from cytolora.data.readers.flat import FLAT
from cytolora.data.readers.fnac2019 import FNAC2019
from cytolora.data.readers.folder import FOLDER, are_groups, are_numbered, holds_classes
from cytolora.data.readers.herlev import HERLEV
from cytolora.data.readers.hicervix import HICERVIX
from cytolora.data.readers.layout import child_named
from cytolora.data.readers.mlcc import MLCC
from cytolora.data.readers.pool import POOL
from cytolora.data.readers.rearranged import read_dataset
from cytolora.data.readers.sipakmed import SIPAKMED
from cytolora.data.readers.spec import CountDifference, DatasetSpec
from cytolora.data.readers.synthetic import SYNTHETIC
from cytolora.data.readers.tables import how_to_name
from cytolora.data.readers.txt import TXT
from cytolora.data.similar_names import with_label_findings
from cytolora.data.walk import files_in, folders_in, listed_once
from cytolora.errors import ConfigError, DataError, unknown_name

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
    POOL,
    SIPAKMED,
    SYNTHETIC,
    TXT,
    *READERS,
):
    DATASETS.add(_spec)


_OF_LABELLING = ("project.json", "journal.sqlite")
"""Files of a project of ``cytolora label``, which is read above this layer."""


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
    is_packed = is_archive(path) and container_of(path) is None
    outer = unpack(path, as_path(cache, "cache")) if is_packed else path
    with listed_once():
        manifest = _read(outer, dataset, reading=reading, strict=strict)
    return with_label_findings(with_chosen_groups(manifest, reading.groups_from)).with_hashes()


def manifest_of(
    data: AnyPath | Manifest, dataset: str | None = None, *, reading: ReadOptions = AS_IT_STANDS
) -> Manifest:
    """Reads a dataset as ``load_manifest``, or returns one that was read already.

    Raises:
        ConfigError: If it was read already, and ``dataset`` or ``reading`` would not act.
    """
    if not isinstance(data, Manifest):
        return load_manifest(data, dataset, reading=reading)
    if dataset is not None or reading != AS_IT_STANDS:
        option = "reading" if dataset is None else "dataset"
        raise ConfigError(f"The dataset was read already, so that `{option}` would not act; give it to load_dataset.")
    return data


def _read(outer: Path, dataset: str | None, *, reading: ReadOptions, strict: bool) -> Manifest:
    spec, inner = _locate(outer, dataset)
    manifest = read_dataset(inner, spec, reading)
    if spec is CSV and inner.is_file() and inner != outer:
        manifest = replace(manifest, name=inner.resolve().parent.name)  # as where the table is called manifest.csv
    if dataset is None and spec is FOLDER:
        _refuse_groups(manifest, is_inner=inner != outer)
    manifest, left_out = account(outer, manifest, spec)
    counts = manifest.counts()
    empty = [label for label in manifest.classes if not counts[label]["all"]]
    if empty:
        raise DataError(f"{manifest.name}: class {empty[0]!r} has no images in {manifest.root}; complete the download.")
    differences = spec.differences(manifest)
    if strict and differences:
        raise DataError(f"{differences[0]} Complete the download, or leave out --strict.")
    guessed = _guessed(outer, inner, manifest, spec) if dataset is None else []
    findings = (*manifest.findings, *_counts(differences), *_absent_classes(manifest), *left_out, *guessed)
    return replace(manifest, findings=findings, decoding=reading.decoding)


def _counts(differences: Sequence[CountDifference]) -> list[Finding]:
    """One note of a part of a dataset, which has fewer images and nowhere more; else a warning of each count."""
    if not differences or any(one.number > one.published for one in differences):
        return [finding("F207", str(one)) for one in differences]
    numbers = [f"{one.part or 'all'} {one.number:,} of {one.published:,}" for one in differences]
    text = f"{differences[0].dataset}: fewer images than published, {first(numbers)}."
    return [finding("F215", text, count=len(numbers), examples=numbers)]


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
        DataError: If two published datasets recognise it, it is an export that is not read, or nothing reads it.
    """
    published = [spec for spec in DATASETS if not spec.generic and spec.looks_like(path)]
    if len(published) > 1:
        raise DataError(f"{path} may be {_alternatives(published)}; say which with --dataset.")
    if published:
        return next(iter(published[0].label_sets.values()), published[0])
    if _has_table(path):
        return CSV
    exchanged = next((spec for spec in READERS if spec.looks_like(path)), None)
    if exchanged is not None:
        return exchanged
    refused = why_refused(path)
    if refused:
        raise DataError(refused)
    for spec in (TXT, FLAT, FOLDER):
        if spec.looks_like(path):
            return spec
    expected = "expected class folders with images, a CSV table, or an official download"
    problems = [f"{path} is no dataset; {expected}.", *_beside(path), *DATASETS.problems()]
    raise DataError(" ".join(problems))


def _beside(path: Path) -> list[str]:
    """Says how images are read that stand in the folder itself, and what takes a labelling project."""
    if all((path / name).is_file() for name in _OF_LABELLING):
        return [
            "It is a project of `cytolora label`: `fit`, `check` and `convert` take it, and `convert` writes its "
            "labels for every other command."
        ]
    files = files_in(path) if path.is_dir() else {}
    number = sum(kind == "image" for kind in files.values())
    if not number:
        return []
    found = f"It holds {counted(number, 'image')} and no folder"
    tables = [file for file in files if suffix_of(file.name) in TABLE_SUFFIXES]
    if tables:
        return [f"{found}, and {tables[0].name}, which is not read. {how_to_name(tables[0])}."]
    return [f"{found}: put those of each class into a sub-folder, or list them in manifest.csv, columns path,label."]


def _locate(path: Path, dataset: str | None) -> tuple[DatasetSpec, Path]:
    """Finds the dataset and its folder, which may be some folders further in."""
    spec = find_dataset(dataset) if dataset else None
    if not path.is_dir() or (spec and spec.drawn):
        return spec or recognise(path), path
    folders = inner_folders(path)
    if spec is None:
        published = [known.looks_like for known in DATASETS if not known.generic]
        # a table above a download is somebody's own word on these images; one below a file of images was made from it
        known = [*published, _has_table, *(spec.looks_like for spec in IMAGE_READERS)]
        folder = _first(folders, known) or _first(folders, [_is_ones_own]) or _wrapped(folders)
        return recognise(folder), _table_in(folder)
    fits = [holds_classes] if spec is FOLDER else [spec.looks_like]
    rearranged = [] if spec.generic else [TXT.looks_like, FLAT.looks_like]
    folder = _first(folders, [*fits, *rearranged]) or _wrapped(folders)
    return spec, _table_in(folder) if spec is CSV else folder


def _wrapped(folders: Sequence[Path]) -> Path:
    """Returns the last folder that is the only one in the folder before it."""
    only = list(takewhile(lambda inner: len(folders_in(inner.parent)) == 1, folders[1:]))
    return only[-1] if only else folders[0]


def _first(folders: Sequence[Path], tests: Sequence[Callable[[Path], bool]]) -> Path | None:
    return next((folder for folder in folders if any(test(folder) for test in tests)), None)


def _is_ones_own(folder: Path) -> bool:
    is_read = _has_table(folder) or TXT.looks_like(folder) or FLAT.looks_like(folder) or holds_classes(folder)
    return is_read or any(spec.looks_like(folder) for spec in LABEL_READERS) or bool(why_refused(folder))


def _has_table(folder: Path) -> bool:
    return CSV.looks_like(folder) or _table_in(folder) != folder


def _table_in(folder: Path) -> Path:
    """Returns the table of a folder if its name is written in another case than expected, else the folder."""
    table = child_named(folder, TABLE) if folder.is_dir() else None
    return folder if table is None or table.name == TABLE else table


def _refuse_groups(manifest: Manifest, *, is_inner: bool) -> None:
    """Refuses folders of patients, slides or fields where nobody said that these are classes."""
    if are_groups(manifest.classes) or (is_inner and are_numbered(manifest.classes)):
        raise DataError(
            f"{manifest.root} holds folders called {', '.join(manifest.classes[:3])}: patients, slides or fields, it "
            "seems, not classes. Make a table manifest.csv with columns path,label,group; `--dataset folder` takes "
            "them for classes."
        )


def _guessed(path: Path, inner: Path, manifest: Manifest, spec: DatasetSpec) -> list[Finding]:
    """Says what was taken for what, where nobody named the dataset."""
    counts = {label: row["all"] for label, row in manifest.counts().items()}
    suspected = named_like_groups(counts) if spec is FOLDER else []
    return [*suspected, finding("F210", _layout(path, inner, manifest, spec))]


def _layout(path: Path, inner: Path, manifest: Manifest, spec: DatasetSpec) -> str:
    """Says which reader was taken, and by what evidence."""
    evidence = {
        FOLDER.name: f"images in {counted(len(manifest.classes), 'folder')}, {', '.join(manifest.classes)}",
        CSV.name: f"the table {inner.name if inner.is_file() else TABLE}",
        TXT.name: "images/ and the lists in splits/",
        FLAT.name: "files named <class>_<number> in folders of train, val or test",
        **{known.name: known.description.rstrip(".") for known in READERS},
    }.get(spec.name, "its folders and names are those of the download")
    where = f" in {inner.relative_to(path).as_posix()}" if inner != path and inner.is_dir() else ""
    return f"Read as {spec.title} (--dataset {spec.name}){where}: {evidence}."


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
