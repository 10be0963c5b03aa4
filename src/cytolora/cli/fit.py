"""fit: from a folder of labelled cells to a classifier that one can hand on."""

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.cli.console import make_console
from cytolora.cli.options import NO_WEIGHTS, THIS_MACHINE, MachineOptions, Precision, Several, WeightOptions, pairs
from cytolora.cli.own_backbones import add_own
from cytolora.cli.print_metrics import print_metrics
from cytolora.cli.progress import show_progress
from cytolora.errors import ConfigError


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
    positive: str | None = None,
    sensitivity: float = 0.95,
    coverage: float = 0.9,
    rates: Annotated[tuple[float, ...], Several] = (),
    steps: int | None = None,
    precision: Precision = "auto",
    labels: Path | None = None,
    add: Annotated[tuple[Path, ...], Several] = (),
    map_: Annotated[Path | None, Parameter(name="--map")] = None,
    split: Path | None = None,
    files: WeightOptions = NO_WEIGHTS,
    cache: Path = Path("runs/.cache"),
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Fits a classifier to your own cells and writes it as a bundle, tested once on cells that took no part.

    Ctrl-C at any time; the same command goes on from there.

    Examples:

        cytolora fit my_cells --out model1
        cytolora fit my_cells --out model1 --model uni --positive hsil,scc --sensitivity 0.95
        cytolora fit my_cells --out model1 --method lora --shots 4 --labels corrections.csv
        cytolora fit my_cells --out model2 --labels corrections.csv --add new_cells

    Parameters
    ----------
    data
        Folder with a sub-folder for each class, a table (manifest.csv), or a zip file.
    out
        The bundle: a folder, or one zip file where the name ends in .zip. An older bundle there is replaced.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    model
        Backbone (`cytolora ls models`); that of --backbone-file, or the best one on this machine, if not given.
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
    add
        Folders or zip files of new cells, as predict read them: those that --labels names are trained on too, and on
        nothing else; the others are left out.
    map_
        CSV with columns from,to[,order] that renames or joins classes.
    split
        File written by `cytolora split`; says which image is in train, val or test.
    cache
        Keeps decoded images, features and trained adapters; may be deleted at any time.
    quiet
        Says nothing but the result.
    json_
        Prints one JSON document: `bundle`, `metrics`, `training`.
    """
    from cytolora import api
    from cytolora.cli.machine import resolve_device

    own = add_own(files.backbone_file)
    with show_progress(quiet=quiet, keep_bars=False) as progress:
        progress.status(f"reading {data}")
        bundle = api.fit(
            data,
            out,
            dataset=dataset,
            model=model,
            method=method,
            shots=shots,
            seed=seed,
            positive=_labels(positive),
            sensitivity=sensitivity,
            coverage=coverage,
            rates=rates,
            steps=steps,
            precision="fp32" if precision == "auto" else precision,
            labels=labels,
            add=add,
            label_map=map_,
            split=split,
            weights=pairs(files.weights, "--weights"),
            weights_dir=files.weights_dir,
            cache=cache,
            device=resolve_device(machine),
            own_backbones=own,
            progress=progress,
        )
    contents = bundle.contents
    if json_:
        found = {"bundle": str(out), "metrics": contents.metrics, "training": contents.training}
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    print_metrics(contents.metrics["test"])
    name = out if out.suffix == ".zip" else out / "report.html"
    make_console().print(
        f"Written: {out}. Look at {name}, then: cytolora predict {out} NEW_CELLS --out predictions.csv"
    )


def _labels(positive: str | None) -> list[str]:
    """Reads ``hsil,scc``; an option that names nothing is a mistake, not a option for no operating point."""
    labels = [label.strip() for label in (positive or "").split(",") if label.strip()]
    if positive is not None and not labels:
        raise ConfigError(f"--positive names classes, such as hsil,scc, got {positive!r}. Leave it out for none.")
    return labels
