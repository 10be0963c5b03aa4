"""ensemble: means of stored probabilities over backbones, methods or seeds, beside their members."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.api.ensembles import Ensembles
from cytolora.api.ensembles import ensemble as make
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.options import Several
from cytolora.cli.targets import shared
from cytolora.core.files import write_json, write_text
from cytolora.core.folders import staged_together
from cytolora.data.own_files import ENSEMBLES
from cytolora.experiments.store import require_writable, unwritable
from cytolora.reporting.comparison.ensemble_table import COLUMNS, HEADER, prediction_rows, to_lines, to_page
from cytolora.reporting.comparison.ensembles import Over, Weighting
from cytolora.reporting.results.settings import Metric
from cytolora.reporting.tables.tables import to_csv

_WIDTH = 150
"""Letters; narrower, names would be cut."""


def ensemble(
    runs: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    over: Over = "all",
    weights: Weighting = "equal",
    dataset: Annotated[Sequence[str], Several] = (),
    model: Annotated[Sequence[str], Several] = (),
    method: Annotated[Sequence[str], Several] = (),
    shots: Annotated[Sequence[int], Several] = (),
    metric: Metric = "accuracy",
    out: Annotated[Path | None, shared(files=ENSEMBLES)] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Averages the class probabilities of stored runs, beside each member with paired differences. Trains nothing.

    Examples:

        cytolora ensemble runs --method linear lora
        cytolora ensemble runs --over model --weights validation --shots 16 --out ensemble
        cytolora ensemble runs --over seed --method lora --metric balanced_accuracy --json
        cytolora ensemble runs/RUN_ID_1 runs/RUN_ID_2

    Parameters
    ----------
    runs
        Folders of stored runs: an ensemble for every dataset, division and amount. Or folders of single runs: one of
        all of them, whatever their seeds.
    over
        What members differ in: model, method, seed, or all: every setting of a dataset and amount, seed by seed.
        zero-shot, which has no labels, is a member at every amount and seed (all and method).
    weights
        equal, or validation: those under which the true classes of validation images are most probable.
    dataset
        Only these; all by default.
    model
        Only these; all by default.
    method
        Only these methods or named variants; all by default.
    shots
        Only these numbers of labelled images per class, 0 for zero-shot; all amounts by default.
    metric
        What is compared.
    out
        Folder for `ensemble.csv`, `ensemble.json`, `ensemble.html` and `predictions.csv`.
    json_
        Prints one JSON document: `ensembles`, `weights` and `notes`.
    """
    if out is not None:
        require_writable(out)  # now, not after all draws
    made = make(
        runs, over=over, weights=weights, dataset=dataset, model=model, method=method, shots=shots, metric=metric
    )
    if out is not None:
        _write(out, made)
    if json_:
        sys.stdout.write(json.dumps(_plain(made), indent=2) + "\n")
        return
    console = make_console(soft_wrap=False)
    console.width = max(console.width, _WIDTH)
    table = PlainTable(*HEADER, pad_edge=False)
    for line in to_lines(made.made):
        table.add_row(*line)
    console.print(table)
    for note in made.notes:
        console.print(note, soft_wrap=True)


def _write(out: Path, made: Ensembles) -> None:
    try:
        with staged_together(out) as staging:
            write_text(staging / "ensemble.csv", to_csv(made.rows, COLUMNS))
            write_json(staging / "ensemble.json", _plain(made))
            write_text(staging / "ensemble.html", to_page(made.made, made.weights))
            columns, rows = prediction_rows(made.made)
            write_text(staging / "predictions.csv", to_csv(rows, columns))
    except OSError as error:
        raise unwritable(out, error) from error


def _plain(made: Ensembles) -> dict[str, object]:
    by_seed = [
        {
            "dataset": one.dataset,
            "setting": one.setting,
            "names": [row.member.name for row in one.rows],
            "weights": one.weights,
        }
        for one in made.made
    ]
    return {"weighting": made.weights, "ensembles": made.rows, "weights": by_seed, "notes": made.notes}
