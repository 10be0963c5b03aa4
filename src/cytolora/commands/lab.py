"""fit, evaluate and predict: from a folder of cells to a classifier that one can hand on."""

import json
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.table import Column, Table

from cytolora.commands.bars import bar, stages
from cytolora.commands.models import add_own, open_any, open_bundle
from cytolora.commands.options import Device, Precision, Several, pairs
from cytolora.commands.slides import predict_on_slide, print_summary
from cytolora.errors import ConfigError

Quiet = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]


def fit(
    data: Path,
    /,
    *,
    out: Path = Path("model"),
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    shots: int | None = None,
    seed: int = 0,
    positive: str = "",
    sensitivity: float = 0.95,
    coverage: float = 0.9,
    rates: Annotated[tuple[float, ...], Several] = (),
    steps: int | None = None,
    precision: Precision = "auto",
    labels: Path | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    split: Path | None = None,
    weights: Annotated[tuple[str, ...], Several] = (),
    weights_dir: Path | None = None,
    backbone_file: Annotated[tuple[Path, ...], Several] = (),
    cache: Path = Path("runs/.cache"),
    device: Device = "auto",
    threads: int | None = None,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Fits a classifier to your own cells and writes it as a bundle, tested once on cells that took no part.

    Ctrl-C at any time; the same command goes on from there.

    Examples:

        cytolora fit my_cells --out model1
        cytolora fit my_cells --out model1 --model uni --positive hsil,scc --sensitivity 0.95
        cytolora fit my_cells --out model1 --method lora --shots 4 --labels corrections.csv

    Parameters
    ----------
    data
        Folder with a sub-folder for each class, a table (manifest.csv), or a zip file.
    out
        The bundle: a folder, or one zip file where the name ends in .zip. An older bundle there is replaced.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    model
        Backbone (`cytolora ls models`); the best one on this machine if not given.
    method
        linear (frozen features), lora, or another of `cytolora ls methods`; linear on a CPU, lora on a GPU.
    shots
        Training images per class; all if not given. Held-out images are all used either way.
    seed
        Decides the draw, the folds and the start of training.
    positive
        Classes that must not be missed, with commas between them: sets an operating point.
    sensitivity
        Share of the positive images to be found, on held-out groups.
    coverage
        Share of prediction sets that are to hold the true class.
    rates
        Learning rates to choose from.
    steps
        Cuts training short: a rehearsal.
    precision
        What an adapter is trained in: auto is fp32; bf16 is twice as fast on processors that have it.
    labels
        CSV with columns path,label that replaces labels: what the review page saves.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    split
        File written by `cytolora split`; says which image is in train, val or test.
    weights
        Official checkpoint of a backbone on disk, file or folder, as NAME=PATH.
    weights_dir
        Folder written by `cytolora weights fetch`; looked into before the hub's cache.
    backbone_file
        YAML file that describes a backbone of one's own; it is meant if no --model is named.
    cache
        Keeps decoded images, features and trained adapters; may be deleted at any time.
    device
        auto takes a GPU where there is one.
    threads
        CPU threads; the number is recorded.
    quiet
        Says nothing but the result.
    json_
        Prints one JSON document: `bundle`, `metrics`, `training`.
    """
    from cytolora import api
    from cytolora.commands.machine import resolve_device

    own = add_own(backbone_file)
    with stages(unit="images", quiet=quiet) as (say, begin, done):
        bundle = api.fit(
            data,
            out,
            dataset=dataset,
            model=model,
            method=method,
            shots=shots,
            seed=seed,
            positive=[label.strip() for label in positive.split(",") if label.strip()],
            sensitivity=sensitivity,
            coverage=coverage,
            rates=rates,
            steps=steps,
            precision="fp32" if precision == "auto" else precision,
            labels=labels,
            label_map=map_,
            split=split,
            weights=pairs(weights, "--weights"),
            weights_dir=weights_dir,
            cache=cache,
            device=resolve_device(device, threads),
            own_backbones=own,
            say=say,
            begin=begin,
            done=done,
        )
    contents = bundle.contents
    if json_:
        found = {"bundle": str(out), "metrics": contents.metrics, "training": contents.training}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    print_metrics(contents.metrics["test"])
    name = out if out.suffix == ".zip" else out / "report.html"
    Console(highlight=False, markup=False, soft_wrap=True).print(
        f"Written: {out}. Look at {name}, then: cytolora predict {out} NEW_CELLS --out predictions.csv"
    )


def evaluate(
    bundle: Path,
    data: Path,
    /,
    *,
    dataset: str | None = None,
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    split: Path | None = None,
    subset: Literal["train", "val", "test"] | None = None,
    seen: Literal["refuse", "mark", "drop"] = "refuse",
    page: Path | None = None,
    weights: Annotated[tuple[str, ...], Several] = (),
    weights_dir: Path | None = None,
    backbone_file: Annotated[tuple[Path, ...], Several] = (),
    device: Device = "auto",
    threads: int | None = None,
    json_: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measures a bundle on labelled images that it was not trained on, with intervals.

    Examples:

        cytolora evaluate model1 other_cells
        cytolora evaluate model1 my_cells --seen drop --json
        cytolora evaluate model1 my_cells --seen mark --page review.html

    Parameters
    ----------
    bundle
        What `cytolora fit` wrote: a folder or a zip file.
    data
        Labelled images: folder, table or zip file.
    dataset
        Which reader; recognised from the folder if not given.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    split
        File written by `cytolora split`.
    subset
        Only the images of this part.
    seen
        Images that were in training or calibration, found by their content: refuse, mark, or drop.
    page
        HTML file to write: images whose label is most suspicious first, to be corrected for `cytolora fit --labels`.
    weights
        Checkpoint of the bundle's backbone on disk, as NAME=PATH.
    weights_dir
        Folder written by `cytolora weights fetch`; looked into before the hub's cache.
    backbone_file
        YAML file that describes a backbone of one's own.
    device
        auto takes a GPU where there is one.
    threads
        CPU threads.
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    from cytolora.commands.feature_bench import read_manifest
    from cytolora.data.labels import apply_label_map
    from cytolora.lab.evaluate import evaluate as measure
    from cytolora.lab.evaluate import only

    opened = open_bundle(bundle, weights, weights_dir, backbone_file, device, threads)
    manifest = read_manifest(data, dataset, split)
    if map_ is not None:
        manifest = apply_label_map(manifest, map_)
    if subset is not None:
        manifest = only(manifest, subset)
    with bar("predicting", total=len(manifest.samples), unit="images", quiet=quiet) as (_, advance):
        found = measure(opened, manifest, on_seen=seen, page=page, on_images=advance)
    if json_:
        sys.stdout.write(json.dumps(asdict(found), indent=2) + "\n")
        return
    print_metrics(found.metrics)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for note in (*found.notes, *found.metrics["warnings"]):
        console.print(f"! {note}")


def predict(
    bundle: Path,
    paths: Annotated[tuple[str, ...], Parameter(negative="")],
    /,
    *,
    out: Path,
    page: Path | None = None,
    cells: Path | None = None,
    crop_um: float | None = None,
    mpp: float | None = None,
    weights: Annotated[tuple[str, ...], Several] = (),
    weights_dir: Path | None = None,
    backbone_file: Annotated[tuple[Path, ...], Several] = (),
    device: Device = "auto",
    threads: int | None = None,
    quiet: Quiet = False,
) -> None:
    """Says of new images what they show, which of them a person should look at, and which are unlike all known ones.

    Examples:

        cytolora predict model1 new_cells --out predictions.csv --page review.html
        cytolora predict model1 "slides/*/cells/*.png" more.zip --out predictions.parquet
        cytolora predict model1 slide.svs --cells cells.geojson --crop-um 30 --out predictions.geojson

    Parameters
    ----------
    bundle
        What `cytolora fit` wrote, a folder or a zip file; or what `cytolora export --to onnx` did.
    paths
        Images, folders of them, patterns in quotes, or zip files; with --cells one whole slide.
    out
        Table to write, .csv or .parquet: one row an image, one column a class. Of a slide .geojson (QuPath) or .csv.
    page
        HTML file to write: the images, the suspicious and doubtful first, to be corrected by keyboard.
    cells
        Where the cells of a slide are: GeoJSON as QuPath exports it, or CSV with columns x,y (pixels of level 0) or
        x_um,y_um (micrometres).
    crop_um
        Edge of the square around a cell of a slide, micrometres: what the training images show.
    mpp
        Micrometres per pixel of level 0, where the slide does not say.
    weights
        Checkpoint of the bundle's backbone on disk, as NAME=PATH.
    weights_dir
        Folder written by `cytolora weights fetch`; looked into before the hub's cache.
    backbone_file
        YAML file that describes a backbone of one's own.
    device
        auto takes a GPU where there is one.
    threads
        CPU threads.
    quiet
        Shows no progress.
    """
    if cells is not None:
        opened = open_any(bundle, weights, weights_dir, backbone_file, device, threads)
        predict_on_slide(opened, paths, cells, out, page=page, crop_um=crop_um, mpp=mpp, quiet=quiet)
        return
    warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged files, which the table says more clearly
    from cytolora.lab.image_sources import find_images
    from cytolora.lab.predict import predict_table

    if not paths:
        raise ConfigError(
            "Name at least one image, folder, pattern or zip file: cytolora predict BUNDLE PATH --out FILE."
        )
    sources = find_images(paths)
    opened = open_any(bundle, weights, weights_dir, backbone_file, device, threads)
    total = sum(1 for _ in find_images(paths))
    with bar("predicting", total=total, unit="images", quiet=quiet) as (_, advance):
        found = predict_table(opened, sources, out, page=page, on_images=advance)
    print_summary(found, "images", out, page)


def print_metrics(found: dict[str, Any]) -> None:
    """Prints what ``assess`` measured."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    groups = f", {found['num_groups']} groups" if found["num_groups"] else ""
    console.print(f"On {found['n']} images{groups}, in percent, 95 % intervals over {_unit(found)}:")
    for name, interval in found["intervals"].items():
        console.print(f"  {name.replace('_', ' ')}: {100 * found[name]:.1f} {_range(interval)}")
    table = Table(Column("class", no_wrap=True), "n", "sensitivity", "specificity", box=None, header_style="bold")
    columns = ("sensitivity", "specificity")
    for row in found["classes"]:
        table.add_row(row["label"], str(row["n"]), *(_share(row[name]) for name in columns))
    console.print(table)
    for line in _threshold_lines(found):
        console.print(line)


def _threshold_lines(found: dict[str, Any]) -> list[str]:
    lines, sets, referral, point = [], found["prediction_sets"], found["referral"], found["operating_point"]
    if point is not None:
        lines.append(
            f"Operating point ({', '.join(point['positive'])}, {point['n']} images): sensitivity "
            f"{_share(point['sensitivity'])}, specificity {_share(point['specificity'])}."
        )
    if sets is not None:
        lines.append(
            f"Prediction sets at {100 * sets['nominal']:g} %: {_share(sets['coverage'])} hold the true class, "
            f"{100 * sets['coverage_over_groups']:.1f} on average over groups; {sets['mean_size']:.2f} classes a set."
        )
    rest = referral["error_of_rest"]
    among = "nothing is left to decide alone" if rest is None else f"error among the rest {100 * rest:.1f}"
    lines.append(
        f"Referred to a person: {100 * referral['share']:.1f}, {among}, among all "
        f"{100 * referral['error_of_all']:.1f}; area under the referral curve {referral['curve']['area']:.4f}."
    )
    lines.append(
        f"Unfamiliar: {100 * found['unfamiliar']:.1f}. Calibration error: {100 * found['calibration_error']:.1f}."
    )
    return lines


def _unit(found: dict[str, Any]) -> str:
    return "groups" if any(one["unit"] == "group" for one in found["intervals"].values()) else "images"


def _share(found: dict[str, float] | None) -> str:
    return "–" if found is None else f"{100 * found['value']:.1f} {_range(found)}"


def _range(found: dict[str, float]) -> str:
    return f"({100 * found['low']:.1f}–{100 * found['high']:.1f})"
