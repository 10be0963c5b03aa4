"""The command `predict`: classes of new images, flags for uncertain and out-of-distribution ones."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from cytolora.cli.options import NO_WEIGHTS, THIS_MACHINE, MachineOptions, OfFeatures, WeightOptions
from cytolora.cli.own_backbones import open_any
from cytolora.cli.progress import show_progress
from cytolora.cli.shard_options import ONE_FILE, ShardOptions, machine_of_driver, refuse_with_shards
from cytolora.cli.slides import (
    check_several,
    make_pool,
    predict_on_slide,
    predict_on_slides,
    print_summary,
    refuse_slides,
    slides_of,
)
from cytolora.cli.targets import replaced
from cytolora.core.arguments import is_url
from cytolora.data.own_files import REVIEW_PAGE
from cytolora.errors import ConfigError

if TYPE_CHECKING:
    from cytolora.classifier.inference.image_sources import Source


def predict(
    bundle: Path,
    paths: Annotated[tuple[str, ...], Parameter(negative="")],
    /,
    *,
    out: Annotated[Path, replaced()],
    page: Annotated[Path | None, replaced("--page", REVIEW_PAGE)] = None,
    cells: Path | None = None,
    crop_um: float | None = None,
    mpp: float | None = None,
    plane: str | None = None,
    transductive: Annotated[bool, Parameter(negative="")] = False,
    slide_by: Literal["command", "folder"] | None = None,
    slide: str | None = None,
    precision: OfFeatures = "auto",
    files: WeightOptions = NO_WEIGHTS,
    machine: MachineOptions = THIS_MACHINE,
    shards: ShardOptions = ONE_FILE,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Predicts classes of new images and flags those to refer to a person and those out of distribution.

    Examples:

        cytolora predict model1 new_cells --out predictions.csv --page review.html
        cytolora predict model1 "slides/*/cells/*.png" more.zip --out predictions.parquet
        cytolora predict model1 archive --workers 2 --out predictions
        cytolora predict model1 s3://bucket/cells --out predictions.parquet
        cytolora predict model1 slides --transductive --slide-by folder --out predictions.csv
        cytolora predict model1 cells --transductive --slide group --out predictions.csv
        cytolora predict model1 slide.svs --cells cells.geojson --crop-um 30 --out predictions.geojson
        cytolora predict model1 "archive/*.svs" --cells positions --crop-um 30 --workers 2 --out predictions

    Parameters
    ----------
    bundle
        Bundle that `cytolora fit` wrote, a folder or a zip file; or an export of `cytolora export --to onnx`.
    paths
        Images, folders of them, patterns in quotes, zip files, or URLs of these (s3://, gs://, file://: the extra
        cloud); with --cells one whole slide.
    out
        Table to write, .csv or .parquet: one row per image, one column per class. Of a slide .geojson (QuPath) or .csv.
        With --engine, --workers or --shard-size a folder of Parquet files, which are read as one table.
    page
        HTML file to write: the images, the most uncertain first, to be corrected by keyboard.
    cells
        Positions of the cells of a slide: GeoJSON as QuPath exports it, or CSV with columns x,y (pixels of level 0) or
        x_um,y_um (micrometres). With --engine or --workers many slides, a shard each, and a folder with one such file
        for every slide, called like it.
    crop_um
        Edge of the square around a cell of a slide, micrometres, as in the training images.
    mpp
        Micrometres per pixel of level 0, where the slide has no such metadata.
    plane
        Focal plane of a slide that has several, for cells that name none: its number from 0, middle, or sharpest, which
        is looked for at every cell.
    transductive
        Classifies all cells of a slide together, in columns beside the usual ones (docs/transduction.md).
    slide_by
        Images that --transductive takes for one slide: all of the command (default), or those of each folder.
    slide
        Column of manifest.csv in the named folders that says which slide an image is of, for --transductive.
    precision
        Of a frozen encoder: auto is that of `fit`; int8 is faster on a CPU with VNNI (docs/performance.md).
    json_
        Prints one JSON document: the counts, the files written and the findings.
    quiet
        Shows no progress.
    """
    if slide_by is not None and (cells is not None or not transductive):
        raise ConfigError("--slide-by says which images are one slide for --transductive; leave it out here.")
    if slide is not None and (cells is not None or not transductive or slide_by is not None):
        raise ConfigError("--slide says which images are one slide for --transductive, as --slide-by; give it alone.")
    refuse_with_shards(shards, page=page, transductive=transductive)
    if cells is not None and shards.is_asked:
        how = shards.sharding()
        machine = machine_of_driver(machine, how)
        opened = open_any(bundle, files, machine, precision)
        of_slides = {"crop_um": crop_um, "mpp": mpp, "plane": plane}
        predict_on_slides(opened, paths, cells, out, how, machine, **of_slides, json_=json_, quiet=quiet)
        return
    if cells is not None:
        opened = open_any(bundle, files, machine, precision)
        predict_on_slide(
            opened,
            paths,
            cells,
            out,
            page=page,
            crop_um=crop_um,
            mpp=mpp,
            plane=plane,
            transductive=transductive,
            json_=json_,
            quiet=quiet,
        )
        return
    if crop_um is not None or mpp is not None or plane is not None:
        raise ConfigError(
            "--crop-um, --mpp and --plane belong to a whole slide; name where its cells are: --cells FILE."
        )
    refuse_slides(paths)
    from cytolora.classifier.inference.image_sources import find_images, left_out
    from cytolora.classifier.inference.table import check_room, check_table, predict_table

    if not paths:
        raise ConfigError(
            "Name at least one image, folder, pattern, zip file or URL: cytolora predict BUNDLE PATH --out FILE."
        )
    sources = find_images(paths)
    if shards.is_asked:
        _predict_shards(bundle, paths, sources, out, shards, precision, files, machine, json_=json_, quiet=quiet)
        return
    check_table(out, *(Path(path) for path in paths if not is_url(path)))
    if page is not None:
        check_room(page, len({source.name for source in find_images(paths)}))
    slide_of, read = None, []
    if transductive:
        names = [source.name for source in find_images(paths)]
        check_several(len(names))
        slide_of, read = slides_of(paths, names, slide_by, slide)
    with show_progress(quiet=quiet) as progress:
        progress.status(f"opening {bundle}")
        opened = open_any(bundle, files, machine, precision)
        pool = make_pool(opened, slide_of) if transductive else None
        progress.begin("predicting", sum(1 for _ in find_images(paths)), "images")
        result = predict_table(
            opened, sources, out, page=page, pool=pool, left_out=left_out(paths, read), on_images=progress.done
        )
    print_summary(result, "images", out, page, json_=json_)


def _predict_shards(
    bundle: Path,
    paths: Sequence[str],
    sources: "Iterator[Source]",
    out: Path,
    shards: ShardOptions,
    precision: OfFeatures,
    files: WeightOptions,
    machine: MachineOptions,
    *,
    json_: bool,
    quiet: bool,
) -> None:
    """Predicts in shards and prints the summary over all of them."""
    from cytolora.classifier.inference.image_sources import left_out
    from cytolora.cli.machine import resolve_device
    from cytolora.core.stopping import heeding_signals
    from cytolora.sharding.predict import predict_shards

    how = shards.sharding()
    machine = machine_of_driver(machine, how)
    with heeding_signals(), show_progress(quiet=quiet) as progress:
        progress.status(f"opening {bundle}")
        opened = open_any(bundle, files, machine, precision)
        result = predict_shards(
            opened,
            sources,
            paths,
            out,
            how,
            left_out=left_out(paths),
            device=resolve_device(machine),
            progress=progress,
        )
    print_summary(result, "images", out, None, json_=json_)
