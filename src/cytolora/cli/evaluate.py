"""The command `evaluate`: metrics of a classifier on labelled images that it was not trained on."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

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
from cytolora.cli.own_backbones import open_bundle
from cytolora.cli.print_findings import print_findings
from cytolora.cli.print_metrics import print_metrics, print_statement
from cytolora.cli.progress import show_progress
from cytolora.cli.targets import replaced
from cytolora.data.own_files import REVIEW_PAGE


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
    page: Annotated[Path | None, replaced("--page", REVIEW_PAGE)] = None,
    precision: OfFeatures = "auto",
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    machine: MachineOptions = THIS_MACHINE,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Evaluates a classifier on labelled images that it was not trained on, with 95 % intervals.

    Examples:

        cytolora evaluate model1 other_cells
        cytolora evaluate model1 my_cells --seen drop --json
        cytolora evaluate model1 my_cells --seen mark --page review.html

    Parameters
    ----------
    bundle
        Bundle that `cytolora fit` wrote: a folder or a zip file.
    data
        Labelled images: folder, table or zip file.
    dataset
        Which reader; recognised from the folder if not given.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    split
        File written by `cytolora split`.
    subset
        Only the images of this subset.
    seen
        Images that were in training or calibration, found by their content: refuse, mark, or drop.
    page
        HTML file to write: images whose label is most suspicious first, to be corrected for `cytolora fit --labels`.
    precision
        Of a frozen encoder: auto is that of `fit`; fp32 opens a bundle in int8 where int8 cannot be computed.
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    from cytolora.classifier.decision.statement import state
    from cytolora.classifier.inference.evaluate import evaluate as measure
    from cytolora.classifier.inference.evaluate import only
    from cytolora.cli.session import read_manifest
    from cytolora.data.label_map import apply_label_map

    with show_progress(quiet=quiet) as progress:
        progress.status(f"opening {bundle}")
        opened = open_bundle(bundle, files, machine, precision)
        progress.status(f"reading {data}")
        manifest = read_manifest(data, dataset, split, reading)
        if map_ is not None:
            manifest = apply_label_map(manifest, map_)
        if subset is not None:
            manifest = only(manifest, subset)
        progress.begin("predicting", len(manifest.samples), "images")
        result = measure(opened, manifest, on_seen=seen, page=page, on_images=progress.done)
    statement = state({"test": result.metrics}, opened.contents.rules)
    if json_:
        plain = {**asdict(result), "statement": statement.plain()}
        plain["findings"] = [one.plain() for one in result.findings]
        sys.stdout.write(json.dumps(plain, indent=2) + "\n")
        return
    print_metrics(result.metrics)
    print_statement(statement)
    console = make_console()
    print_findings(result.findings, console)
    for note in (*result.notes, *result.metrics["warnings"]):
        console.print(f"! {note}")
