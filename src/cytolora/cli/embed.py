"""The command `embed`: features of a folder of images as a Parquet, AnnData or NumPy file."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from cytolora.cli.shard_options import ONE_FILE, ShardOptions, machine_of_driver
from cytolora.cli.targets import replaced
from cytolora.core.arguments import is_url
from cytolora.core.findings import gravest_first
from cytolora.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from cytolora.config.reading import Decoding
    from cytolora.data.manifest import Manifest


def embed(
    path: str,
    /,
    *,
    out: Annotated[Path, replaced()],
    model: str | None = None,
    dataset: str | None = None,
    unlabelled: Annotated[bool, Parameter(negative="")] = False,
    split: Path | None = None,
    precision: OfFeatures = "auto",
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    caching: CacheOptions = DEFAULT,
    machine: MachineOptions = THIS_MACHINE,
    shards: ShardOptions = ONE_FILE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Writes the frozen features of every image to a Parquet file, in constant memory; a second call reads the cache.

    A name that ends in .h5ad or .npz writes AnnData or NumPy arrays instead, from memory.

    Examples:

        cytolora embed my_cells --model uni --weights uni=UNI/model.safetensors --out cells.parquet
        cytolora embed new_cells --unlabelled --model dinov2-b14 --out new.parquet
        cytolora embed my_cells --model nano --out cells.h5ad
        cytolora embed s3://bucket/cells --unlabelled --model uni --weights uni=UNI/model.safetensors --workers 2 \\
            --out features
        cytolora embed cells --unlabelled --model nano --out features --engine slurm --workers 8 --slurm time=04:00:00

    Parameters
    ----------
    path
        Folder, table or zip file. With --unlabelled and shards also a pattern in quotes, or a URL (s3://, gs://,
        file://: the extra cloud).
    out
        Parquet file to write: path, label, subset, group, sha256, features; the metadata names model and weights. Or
        AnnData (.h5ad, extra `exchange`), or NumPy (.npz). Earlier features are replaced, and no other file.
        With --engine, --workers or --shard-size a folder of such files, which are read as one table; it is what a
        second call reads instead of the cache, and an image that cannot be read is a row with an error.
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
    from cytolora.cli.session import open_session, read_manifest
    from cytolora.data.remote import check_url
    from cytolora.errors import ConfigError
    from cytolora.training.embed import check_out
    from cytolora.training.embed import embed as write
    from cytolora.training.embed import unlabelled as list_images

    of_pixels = replace(reading, group_column=None, subset_column=None, groups_from=None)
    if unlabelled and (dataset or split or reading != of_pixels):
        raise ConfigError(
            "--unlabelled reads neither labels, groups nor subsets; leave out --dataset, --split, --group-column, "
            "--subset-column and --groups-from."
        )
    if is_url(path):
        check_url(path)
    if is_url(path) and not unlabelled:
        raise ConfigError(f"{path} is a URL, of which no labels are read: add --unlabelled.")
    if shards.is_asked:
        _embed_shards(
            path,
            out,
            shards,
            model,
            precision,
            files,
            machine,
            read=lambda: None if unlabelled else read_manifest(Path(path), dataset, split, reading),
            decoding=reading.options().decoding,
            quiet=quiet,
        )
        return
    if is_url(path):
        raise ConfigError(f"{path} is a URL, of which features are written in shards: add --shard-size or --workers.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file, such as {out / 'features.parquet'}.")
    check_out(out)
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        manifest = (
            list_images(Path(path), reading.options().decoding)
            if unlabelled
            else read_manifest(Path(path), dataset, split, reading)
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


def _embed_shards(
    path: str,
    out: Path,
    shards: ShardOptions,
    model: str | None,
    precision: OfFeatures,
    files: WeightOptions,
    machine: MachineOptions,
    *,
    read: "Callable[[], Manifest | None]",
    decoding: "Decoding",
    quiet: bool,
) -> None:
    """Writes features in shards; ``read`` gives the dataset, None where the images are no dataset."""
    from cytolora.classifier.inference.image_sources import find_images, left_out
    from cytolora.cli.print_findings import print_findings
    from cytolora.cli.progress import show_progress
    from cytolora.cli.session import open_backbone
    from cytolora.core.stopping import heeding_signals
    from cytolora.sharding.embed import embed_shards
    from cytolora.sharding.items import of_manifest, of_sources

    how = shards.sharding()
    machine = machine_of_driver(machine, how)
    with heeding_signals(), show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        manifest = read()
        backbone, inputs, device = open_backbone(model, files, machine, progress=progress, precision=precision)
        if manifest is None:
            items, of_data = of_sources(find_images([path]), below=path), left_out([path])
        else:
            items, of_data, decoding = of_manifest(manifest), manifest.findings, manifest.decoding
        result = embed_shards(
            items,
            [path],
            out,
            how,
            backbone=backbone,
            inputs=inputs,
            precision="fp32" if precision == "auto" else precision,
            decoding=decoding,
            metadata=[] if manifest is None else manifest.metadata_names,
            device=device,
            progress=progress,
        )
    findings = [*of_data, *result.findings, *inputs.weight_findings(backbone.name)]
    print_findings(gravest_first(findings), make_console(stderr=True))
    unread = f", {result.num_errors} unreadable" if result.num_errors else ""
    make_console().print(
        f"{counted(result.num_images, 'image')} x {result.feature_dim} features of {backbone.name} in {out}{unread}."
    )
