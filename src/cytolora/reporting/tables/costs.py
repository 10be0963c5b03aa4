"""What each cell costs: trainable parameters and seconds a run, beside the accuracies of Table 1."""

from collections.abc import Sequence
from typing import Any

from cytolora.display import format as words
from cytolora.display.format import escape_latex
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Cell, by_dataset
from cytolora.reporting.tables.tables import amounts_of, pivot

COLUMNS = (
    *("dataset", "model", "method", "shots", "fraction", "num_trainable", "seconds", "n_runs", "device", "flags"),
    "cell_id",
)
"""Of costs.csv; ``seconds`` is the mean over ``n_runs``."""

_NONE = "--"


def to_rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Returns a row per cell; ``shots`` is ``all`` for the whole training set."""
    return [_row(cell) for cell in cells]


def _row(cell: Cell) -> dict[str, Any]:
    timed = [run.provenance for run in cell.tested or cell.runs if "seconds" in run.provenance]
    return {
        "dataset": cell.dataset,
        "model": cell.model,
        "method": cell.method,
        "shots": "all" if cell.shots is None and cell.fraction is None else cell.shots,
        "fraction": cell.fraction,
        "num_trainable": cell.runs[0].metrics["num_trainable"],
        "seconds": None if cell.seconds is None else round(cell.seconds, 3),
        "n_runs": len(timed),
        "device": words.listed(sorted({str(found["device"]) for found in timed if found.get("device")}) or [""]),
        "flags": in_file(cell),
        "cell_id": cell.cell_id,
    }


def to_latex(cells: Sequence[Cell]) -> str:
    """Prints, per dataset, parameters and time of every model and method by amount; needs the package booktabs."""
    blocks = ["% Needs \\usepackage{booktabs}. Trainable parameters, head included; mean time of a run."]
    for dataset, members in by_dataset(cells).items():
        amounts = amounts_of(members)
        lines = [
            "\\begin{table}",
            f"\\caption{{{escape_latex(dataset)}: trainable parameters, and time of a run by training images.}}",
            f"\\begin{{tabular}}{{ll{'r' * (1 + len(amounts))}}}",
            "\\toprule",
            " & ".join(["Model", "Method", "Parameters", *map(escape_latex, amounts)]) + " \\\\",
            "\\midrule",
        ]
        for names, row in pivot(members).items():
            sizes = sorted({cell.runs[0].metrics["num_trainable"] for cell in row.values()})
            times = [_time(row.get(amount)) for amount in amounts]
            numbers = [" to ".join(dict.fromkeys(map(words.thousands, (sizes[0], sizes[-1])))), *times]
            lines.append(" & ".join([*map(escape_latex, names), *numbers]) + " \\\\")
        blocks.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _time(cell: Cell | None) -> str:
    found = words.seconds(None if cell is None else cell.seconds)
    return f"${found[0]}${found[1:]}" if found.startswith("<") else found or _NONE
