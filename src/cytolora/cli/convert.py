"""convert: writes the labels of a dataset as files of annotation programs and dataset libraries."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.cli.options import AS_IT_STANDS, ReadingOptions
from cytolora.cli.print_findings import print_findings
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.core.findings import problems
from cytolora.core.text import counted
from cytolora.data.datasets import load_manifest
from cytolora.data.exchange.formats import convert as write
from cytolora.data.label_map import apply_label_map
from cytolora.data.splitting.split_files import read_split


def convert(
    path: Path,
    /,
    *,
    to: str,
    out: Annotated[Path, replaced()],
    dataset: str | None = None,
    split: Path | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    reading: ReadingOptions = AS_IT_STANDS,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Writes the labels of a dataset for another program; images are named, not copied. An existing file is kept.

    Reading needs no command: `check`, `fit`, `run` and the others open these formats themselves (docs/interchange.md).

    Examples:

        cytolora convert my_cells --to coco --out my_cells/coco.json
        cytolora convert my_cells --to label-studio --out my_cells/tasks.json
        cytolora convert my_cells --split split.csv --to imagefolder --out my_cells/metadata.csv

    Parameters
    ----------
    path
        Folder, table or file of labels, zip file, tar shards, Parquet, .npz or HDF5.
    to
        Format (`cytolora ls formats`): coco, cvat, fiftyone, imagefolder, label-studio or qupath.
    out
        File to write, or folder for qupath. Paths in it are relative to its own folder where the images are below that.
    dataset
        Reader (`cytolora ls datasets`); recognised from the folder if not given.
    split
        File written by `cytolora split`; its train, val and test are written where the format has a place for them.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    quiet
        Shows no progress.
    """
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        manifest = load_manifest(path, dataset, reading=reading.options())
        manifest = manifest if map_ is None else apply_label_map(manifest, map_)
        manifest = manifest if split is None else read_split(split, manifest)
        progress.status(f"writing {out}")
        entry, files = write(manifest, to, out)
    console = make_console()
    number = counted(len(manifest.samples), "image")
    console.print(f"{entry.name}: {number} of {manifest.root} in {', '.join(map(str, files))}.", soft_wrap=True)
    console.print(f"Not carried over: {entry.lost}.", soft_wrap=True)
    print_findings(problems(manifest.findings), make_console(stderr=True))
