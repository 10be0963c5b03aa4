"""Datasets from Python: read, check, split, embed, and the names of what is known."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.core.arguments import AnyPath, as_named_paths, as_path, as_path_or_none
from cytolora.core.cache_damage import one_notice
from cytolora.core.notebook import default_progress
from cytolora.core.progress import Progress
from cytolora.data.datasets import DATASETS, manifest_of
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.data.pooling import Pool
    from cytolora.data.quality.findings import Audit


def list_datasets() -> list[str]:
    """Lists the names of all datasets that can be read."""
    return [spec.name for spec in DATASETS]


@one_notice()
def load_dataset(
    data: AnyPath | Mapping[str, AnyPath],
    dataset: str | None = None,
    *,
    split: AnyPath | None = None,
    label_map: AnyPath | None = None,
    pool: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
    strict: bool = False,
) -> Manifest:
    """Reads a dataset: classes, groups and official subsets as its source gives them.

    Example::

        cytolora.load_dataset({"herlev": "smear2005", "sipakmed": "SIPaKMeD"}, pool="bethesda")

    Args:
        data: A folder with a sub-folder per class, a table, or a zip file as it was downloaded; a project of ``cytolora
            label``, as its agreed labels with subsets and groups; of a pool, the folder of each dataset by name.
        dataset: A registered name (``list_datasets``); recognised from the folder if None.
        split: File written by ``split``.
        label_map: CSV with columns from,to[,order] that renames or joins classes.
        pool: Label map (a shipped name or a YAML file) that makes the datasets one.
        reading: What the files leave to choose, such as ``ReadOptions(group_column="patient")``.
        strict: Makes a count that differs from the published one an error; it is a warning otherwise.

    Raises:
        ConfigError: If the name is unknown.
        DataError: If the path is not such a dataset, or a class has no images.
    """
    from cytolora.data.pooling import load_pool
    from cytolora.labelling.as_dataset import read_dataset_or_project

    if pool is not None or isinstance(data, Mapping):
        manifest = load_pool(pool_from(data, pool, dataset, label_map), reading, strict=strict)
    else:
        path = as_path(data, "data")
        manifest = read_dataset_or_project(path, dataset, reading=reading, strict=strict, split=split)
    return _with_files(manifest, split, label_map)


def _manifest(
    data: AnyPath | Mapping[str, AnyPath] | Manifest,
    dataset: str | None,
    *,
    split: AnyPath | None,
    label_map: AnyPath | None,
    pool: AnyPath | None,
    reading: ReadOptions,
) -> Manifest:
    """Reads a dataset as ``load_dataset``, or takes one that was read already; label map and split act on either."""
    if not isinstance(data, Manifest):
        return load_dataset(data, dataset, split=split, label_map=label_map, pool=pool, reading=reading)
    if pool is not None:
        raise ConfigError("The dataset was read already, so that `pool` would not act; give it to load_dataset.")
    return _with_files(manifest_of(data, dataset, reading=reading), split, label_map)


def _with_files(manifest: Manifest, split: AnyPath | None, label_map: AnyPath | None) -> Manifest:
    """Applies a label map and a split file to what was read."""
    from cytolora.data.label_map import apply_label_map
    from cytolora.data.splitting.split_files import read_split

    if label_map is not None:
        manifest = apply_label_map(manifest, label_map)
    return manifest if split is None else read_split(split, manifest)


def pool_from(
    data: AnyPath | Mapping[str, AnyPath],
    pool: AnyPath | None,
    dataset: str | None,
    label_map: AnyPath | None,
) -> "Pool":
    """Returns the pool that arguments describe.

    Raises:
        ConfigError: If one of folders by name and label map is missing, or what is for one dataset is given, too.
    """
    from cytolora.data.pooling import pool_of

    if pool is None or not isinstance(data, Mapping):
        raise ConfigError('A pool is several folders by name and a label map: load_dataset({...}, pool="bethesda").')
    if dataset is not None or label_map is not None:
        raise ConfigError("dataset and label_map are for one dataset; a pool has names and a map of its own.")
    return pool_of(as_path(pool, "pool"), as_named_paths(data, "data"))


@one_notice()
def check(
    data: AnyPath | Mapping[str, AnyPath] | Manifest,
    dataset: str | None = None,
    *,
    split: AnyPath | None = None,
    label_map: AnyPath | None = None,
    pool: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
    page: AnyPath | None = None,
    progress: Progress | None = None,
) -> "Audit":
    """Checks a dataset: counts, unreadable files, duplicates, group leakage, and what `fit` and `run` would refuse.

    Example::

        for finding in cytolora.check("my_cells").findings():
            print(finding)

    Args:
        data: As for ``load_dataset``; or what it returns.
        page: HTML file to write: duplicates side by side, unreadable files, group leakage, counts.
    """
    from cytolora.classifier.fit.usable import audited
    from cytolora.core.files import write_text
    from cytolora.data.own_files import AUDIT_PAGE
    from cytolora.data.targets import check_replaceable_file

    page, progress = as_path_or_none(page, "page"), progress or default_progress()
    if page is not None:
        check_replaceable_file(page, AUDIT_PAGE, option="page")
    manifest = _manifest(data, dataset, split=split, label_map=label_map, pool=pool, reading=reading)
    progress.begin("looking at images", len(manifest.samples), "images")
    found = audited(manifest, on_image=lambda: progress.done(1))
    if page is not None:
        from cytolora.reporting.pages.audit_page import render_audit

        write_text(page, render_audit(manifest, found))
    return found


@one_notice()
def split(
    data: AnyPath | Mapping[str, AnyPath] | Manifest,
    out: AnyPath,
    dataset: str | None = None,
    *,
    by: Literal["group", "image"] = "group",
    ratios: tuple[float, float, float] = (0.6, 0.2, 0.2),
    seed: int = 0,
    leave_out: str | None = None,
    canonical: bool = False,
    label_map: AnyPath | None = None,
    pool: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
) -> Manifest:
    """Divides a dataset into train, val and test, stratified by class, and writes the division to a CSV file.

    Args:
        data: As for ``load_dataset``; or what it returns.
        by: ``group`` keeps the images of a patient, slide or field in one subset; ``image`` may leak groups. Byte-equal
            files stand in one subset either way.
        ratios: Shares of train, val and test.
        leave_out: Metadata column and value, ``site=B``, whose images are the test set.
        canonical: The division of a published dataset that is the same everywhere, to be cited by its hash; by group,
            60 / 20 / 20, seed 0, from file names alone.

    Returns:
        The dataset with every image in a subset.
    """
    from cytolora.config.run import SplitSpec
    from cytolora.data.quality.group_test import groups_suspected
    from cytolora.data.splitting.canonical import canonical_division, check_canonical
    from cytolora.data.splitting.split_files import write_split
    from cytolora.data.splitting.splits import assign_subsets

    manifest = _manifest(data, dataset, split=None, label_map=label_map, pool=pool, reading=reading)
    spec = SplitSpec(by=by, ratios=ratios, seed=seed, copies="together", leave_out=leave_out)
    if canonical:
        check_canonical(spec, label_map=label_map is not None, reading=reading)
    divided = canonical_division(manifest) if canonical else assign_subsets(manifest, spec)
    divided = replace(divided, findings=(*divided.findings, *groups_suspected(manifest)))
    write_split(divided, as_path(out, "out"), by_names=canonical)
    return divided


@one_notice()
def convert(
    data: AnyPath | Manifest,
    to: str,
    out: AnyPath,
    dataset: str | None = None,
    *,
    split: AnyPath | None = None,
    label_map: AnyPath | None = None,
    reading: ReadOptions = AS_IT_STANDS,
) -> list[Path]:
    """Writes the labels of a dataset for another program, and returns the files; images are named, not copied.

    Example::

        cytolora.convert("my_cells", "coco", "my_cells/coco.json")

    Args:
        data: As for ``load_dataset``; or what it returns.
        to: coco, cvat, fiftyone, imagefolder, label-studio or qupath; docs/interchange.md says what each loses.
        out: File to write, which must not exist; for qupath a folder. Paths in it are relative to its own folder where
            the images are below that.
        split: File written by ``split``; its subsets are written where the format has a place for them.

    Raises:
        ConfigError: If the format is unknown, or ``out`` exists, has another suffix or cannot be written.
    """
    from cytolora.data.exchange.formats import convert as write

    manifest = _manifest(data, dataset, split=split, label_map=label_map, pool=None, reading=reading)
    return write(manifest, to, as_path(out, "out"))[1]
