"""embed: the features of a folder of images, for whatever one does with them."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from cytolora.commands.options import Device, Several


def embed(
    path: Path,
    /,
    *,
    out: Path,
    model: str | None = None,
    dataset: str | None = None,
    unlabelled: Annotated[bool, Parameter(negative="")] = False,
    split: Path | None = None,
    weights: Annotated[tuple[str, ...], Several] = (),
    weights_dir: Path | None = None,
    backbone_file: Annotated[tuple[Path, ...], Several] = (),
    cache: Path = Path("runs/.cache"),
    device: Device = "auto",
    threads: int | None = None,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Writes the features of every image to a Parquet file; memory stays flat, and a second time only reads.

    Examples:

        cytolora embed my_cells --model uni --weights uni=UNI/model.safetensors --out cells.parquet
        cytolora embed new_cells --unlabelled --model dinov2-b14 --out new.parquet

    Parameters
    ----------
    path
        Folder, table or zip file.
    out
        Parquet file to write: path, label, subset, group, sha256, features; the metadata names model and weights.
    model
        Backbone (`cytolora ls models`); the best on this machine for a linear classifier, if not given.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    unlabelled
        Takes every image below the folder, whatever sub-folder it stands in; the labels stay empty.
    split
        File written by `cytolora split`.
    weights
        Official checkpoint of the backbone on disk, file or folder, as NAME=PATH.
    weights_dir
        Folder written by `cytolora weights fetch`; looked into before the hub's cache.
    backbone_file
        YAML file that describes a backbone of one's own.
    cache
        Folder that keeps decoded images and features; the default is that of runs, so that they share them.
    device
        auto takes a GPU where there is one.
    threads
        CPU threads.
    quiet
        Shows no progress.
    """
    from cytolora.commands.bars import bar
    from cytolora.commands.feature_bench import check_no_model, feature_bench, read_manifest
    from cytolora.errors import ConfigError
    from cytolora.lab.embed import embed as write
    from cytolora.lab.embed import unlabelled as list_images

    if unlabelled and (dataset or split):
        raise ConfigError("--unlabelled reads neither labels nor subsets; leave out --dataset and --split.")
    if out.is_dir():
        raise ConfigError(f"{out} is a folder; name a file, such as {out / 'features.parquet'}.")
    check_no_model(out.parent)
    manifest = list_images(path) if unlabelled else read_manifest(path, dataset, split)
    with bar("features", total=len(manifest.samples), unit="images", quiet=quiet) as (say, done):
        bench = feature_bench(
            manifest,
            model,
            weights=weights,
            weights_dir=weights_dir,
            backbone_file=backbone_file,
            cache=cache,
            device=device,
            threads=threads,
            say=say,
        )
        num_images, feature_dim = write(bench, out, on_images=done)
    Console(highlight=False, markup=False).print(
        f"{num_images} images x {feature_dim} features of {bench.backbone.name} in {out}.", soft_wrap=True
    )
