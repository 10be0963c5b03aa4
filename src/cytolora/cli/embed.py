"""The command `embed`: features of a folder of images as a Parquet, AnnData or NumPy file."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.cache_options import DEFAULT, CacheOptions
from cytolora.cli.console import make_console
from cytolora.cli.options import (
    AS_IT_STANDS,
    NO_WEIGHTS,
    THIS_MACHINE,
    MachineOptions,
    OfFeatures,
    ReadingOptions,
    WeightOptions,
)
from cytolora.core.text import counted


def embed(
    path: Path,
    /,
    *,
    out: Path,
    model: str | None = None,
    dataset: str | None = None,
    unlabelled: Annotated[bool, Parameter(negative="")] = False,
    split: Path | None = None,
    precision: OfFeatures = "auto",
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    caching: CacheOptions = DEFAULT,
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Writes the frozen features of every image to a Parquet file, in constant memory; a second call reads the cache.

    A name that ends in .h5ad or .npz writes AnnData or NumPy arrays instead, from memory.

    Examples:

        cytolora embed my_cells --model uni --weights uni=UNI/model.safetensors --out cells.parquet
        cytolora embed new_cells --unlabelled --model dinov2-b14 --out new.parquet
        cytolora embed my_cells --model nano --out cells.h5ad

    Parameters
    ----------
    path
        Folder, table or zip file.
    out
        Parquet file to write: path, label, subset, group, sha256, features; the metadata names model and weights. Or
        AnnData (.h5ad, extra `exchange`), or NumPy (.npz).
    model
        Backbone (`cytolora ls models`); that of --backbone-file, or the best for a linear classifier here, if none.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    unlabelled
        Takes every image below the folder, in any sub-folder; the labels stay empty.
    split
        File written by `cytolora split`.
    precision
        Of the features: auto is fp32; int8 is faster on a CPU with VNNI and nearly the same (docs/performance.md).
    quiet
        Shows no progress.
    """
    from cytolora.cli.print_findings import print_findings
    from cytolora.cli.progress import show_progress
    from cytolora.cli.session import check_no_model, open_session, read_manifest
    from cytolora.errors import ConfigError
    from cytolora.training.embed import embed as write
    from cytolora.training.embed import unlabelled as list_images

    of_pixels = replace(reading, group_column=None, subset_column=None, groups_from=None)
    if unlabelled and (dataset or split or reading != of_pixels):
        raise ConfigError(
            "--unlabelled reads neither labels, groups nor subsets; leave out --dataset, --split, --group-column, "
            "--subset-column and --groups-from."
        )
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file, such as {out / 'features.parquet'}.")
    check_no_model(out.parent)
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        manifest = (
            list_images(path, reading.options().decoding)
            if unlabelled
            else read_manifest(path, dataset, split, reading)
        )
        progress.begin("features", len(manifest.samples), "images")
        session = open_session(
            manifest, model, files, machine, cache=caching.folder(), progress=progress, precision=precision
        )
        num_images, feature_dim = write(session, out, on_images=progress.done)
    print_findings([*manifest.findings, *session.weight_findings], make_console(stderr=True))
    make_console().print(
        f"{counted(num_images, 'image')} x {feature_dim} features of {session.backbone.name} in {out}."
    )
