"""compare: paired comparison of models, methods, amounts or any other setting on the same test images."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cytolora.api.grids import compare as compare_stored
from cytolora.cli.console import PlainTable, make_console
from cytolora.cli.options import Several
from cytolora.cli.targets import shared
from cytolora.core.files import write_json, write_text
from cytolora.core.folders import staged_together
from cytolora.data.own_files import COMPARISON
from cytolora.display.format import escape_markdown
from cytolora.experiments.store import require_writable, unwritable
from cytolora.reporting.comparison.compare import COLUMNS, HEADER, Comparison, notes, to_lines, to_rows
from cytolora.reporting.results.settings import Metric
from cytolora.reporting.tables.tables import bar, to_csv

_WIDTH = 150
"""Letters; narrower, names would be cut."""


def compare(
    runs: Path,
    /,
    *,
    by: str,
    dataset: Annotated[Sequence[str], Several] = (),
    metric: Metric = "accuracy",
    best: Annotated[bool, Parameter(negative="")] = False,
    out: Annotated[Path | None, shared(files=COMPARISON)] = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Compares stored runs in pairs on the same test images: difference, 95 % interval, p corrected for many pairs.

    Examples:

        cytolora compare runs --by model
        cytolora compare runs --by rank
        cytolora compare runs --by method --dataset herlev --metric macro_f1 --out comparison

    Parameters
    ----------
    runs
        Folder of stored runs.
    by
        What rivals differ in, all else equal: model, method, shots, or any setting that differs, such as rank, targets,
        alpha, last-blocks or budget; learning-rate compares the rates of a setting on its validation images.
    dataset
        Only these; all by default.
    metric
        What is compared.
    best
        Compares only the best of each group with the others: fewer pairs, milder correction. The best is picked on
        validation.
    out
        Folder for `compare.csv`, `compare.md` and `compare.json`.
    json_
        Prints one JSON document: `pairs` and `notes`.
    """
    if out is not None:
        require_writable(out)  # now, not after all draws
    comparison = compare_stored(runs, by, dataset=dataset, metric=metric, best=best)
    if out is not None:
        _write(out, comparison)
    if json_:
        sys.stdout.write(json.dumps(_plain(comparison), indent=2) + "\n")
        return
    console = make_console(soft_wrap=False)
    console.width = max(console.width, _WIDTH)
    table = PlainTable(*HEADER, pad_edge=False)
    for line in to_lines(comparison):
        table.add_row(*line)
    console.print(table)
    for note in notes(comparison):
        console.print(note, soft_wrap=True)


def _write(out: Path, comparison: Comparison) -> None:
    lines = [bar(HEADER), bar(["---"] * 4 + ["--:"] * (len(HEADER) - 4))]
    lines += [bar(map(escape_markdown, line)) for line in to_lines(comparison)]
    text = "\n".join([*lines, "", *(f"* {note}" for note in notes(comparison))]) + "\n"
    try:
        with staged_together(out) as staging:
            write_text(staging / "compare.md", text)
            write_text(staging / "compare.csv", to_csv(to_rows(comparison), COLUMNS))
            write_json(staging / "compare.json", _plain(comparison))
    except OSError as error:
        raise unwritable(out, error) from error


def _plain(comparison: Comparison) -> dict[str, object]:
    return {"by": comparison.by, "metric": comparison.metric, "pairs": to_rows(comparison), "notes": notes(comparison)}
