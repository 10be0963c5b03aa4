"""The command `learning-curve`: balanced accuracy by number of labels, and a forecast for a target."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from cytolora.cli.cache_options import DEFAULT, CacheOptions
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.options import (
    AS_IT_STANDS,
    NO_WEIGHTS,
    THIS_MACHINE,
    MachineOptions,
    ReadingOptions,
    Several,
    WeightOptions,
)
from cytolora.cli.print_findings import print_findings
from cytolora.cli.targets import shared
from cytolora.core.findings import gravest_first
from cytolora.data.own_files import LEARNING_CURVE

if TYPE_CHECKING:
    from cytolora.classifier.learning_curve.forecast import Forecast


def learning_curve(
    path: Path,
    /,
    *,
    target: float = 0.8,
    shots: Annotated[tuple[int, ...], Several] = (),
    seeds: Annotated[tuple[int, ...], Several] = (1, 2, 3, 4, 5),
    model: str | None = None,
    dataset: str | None = None,
    split: Path | None = None,
    out: Annotated[Path | None, shared(files=LEARNING_CURVE)] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
    reading: ReadingOptions = AS_IT_STANDS,
    files: WeightOptions = NO_WEIGHTS,
    caching: CacheOptions = DEFAULT,
    machine: MachineOptions = THIS_MACHINE,
    quiet: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measures the learning curve of a linear classifier and forecasts the labels per class that reach a target.

    Examples:

        cytolora learning-curve my_cells --model uni --weights uni=UNI/model.safetensors --target 0.8 --out curve
        cytolora learning-curve my_cells --shots 1 2 4 8 16 --seeds 1 2 3 --json

    Parameters
    ----------
    path
        Folder, table or zip file of labelled images.
    target
        Balanced accuracy to reach, in (0, 1).
    shots
        Labelled images per class to measure at, at least 4 numbers; 1, 2, 4, … and what there is, if not given.
    seeds
        Each gives another split by group and another draw of images; five by default.
    model
        Backbone (`cytolora ls models`); that of --backbone-file, or the best for a linear classifier here, if none.
    dataset
        Which reader (`cytolora ls datasets`); recognised from the folder if not given.
    split
        File written by `cytolora split`; without it every seed splits by group, 60/20/20.
    out
        Folder for labels.json and the figure (SVG, PNG, CSV).
    json_
        Prints one JSON document.
    quiet
        Shows no progress.
    """
    from cytolora.classifier.fit.usable import without_unusable
    from cytolora.classifier.learning_curve.forecast import check_target, forecast, plain
    from cytolora.classifier.learning_curve.measure import check_asked, default_shots, measure, num_classifiers
    from cytolora.cli.progress import show_progress
    from cytolora.cli.session import open_session, read_manifest
    from cytolora.experiments.store import require_writable

    check_target(target)
    if out is not None:
        require_writable(out)  # now, not after all classifiers
    with show_progress(quiet=quiet) as progress:
        progress.status(f"reading {path}")
        manifest = read_manifest(path, dataset, split, reading)
        check_asked(manifest, shots, seeds)
        progress.begin("looking at images", len(manifest.samples), "images")
        manifest = without_unusable(manifest, on_image=lambda: progress.done(1))
        check_asked(manifest, shots, seeds)
        chosen = shots or default_shots(manifest, seeds)
        progress.begin("features", len(manifest.samples), "images")
        session = open_session(manifest, model, files, machine, cache=caching.folder(), progress=progress)
        for _ in session.feature_chunks(progress.done):
            pass  # cached now, and read back at once
        progress.begin("classifiers", num_classifiers(chosen, seeds), "classifiers")
        result = forecast(measure(session, chosen, seeds, on_classifier=lambda: progress.done(1)), target)
    document = {"dataset": manifest.name, "model": session.backbone.name, **plain(result)}
    document["findings"] = [one.plain() for one in gravest_first(manifest.findings)]
    if out is not None:
        _write(result, document, out, f"{manifest.name}, {session.backbone.name}")
    if json_:
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _print(document, out)
        print_findings(manifest.findings, make_console())


def _write(result: "Forecast", document: dict[str, object], out: Path, title: str) -> None:
    from cytolora.classifier.learning_curve.figure import LabelsFigure
    from cytolora.core.files import write_json
    from cytolora.core.folders import staged_together
    from cytolora.display.figure import save
    from cytolora.errors import ConfigError

    try:
        with staged_together(out) as staging:
            write_json(staging / "labels.json", document)
            save(LabelsFigure(found=result, title=title), staging)
    except OSError as error:
        raise ConfigError(f"Cannot write to {out}: {error.strerror}.") from error


def _print(document: dict[str, object], out: Path | None) -> None:
    console = make_console()
    table = PlainTable("labels per class", "balanced accuracy", "95 % interval")
    points = document["points"]
    assert isinstance(points, list)
    for point in points:
        low, high = point["interval"]
        table.add_row(str(point["shots"]), f"{point['balanced_accuracy']:.3f}", f"{low:.3f} to {high:.3f}")
    console.print(f"{document['dataset']}, linear classifier on {document['model']}; {document['split_rule']}.")
    console.print(table)
    if (back_test := document["back_test"]) is not None:
        assert isinstance(back_test, dict)
        console.print(back_test["text"])
    console.print(document["summary"])
    texts = document["warnings"]
    assert isinstance(texts, list)
    for text in texts:
        console.print(f"! {text}")
    if out is not None:
        console.print(f"Written to {out}.")
