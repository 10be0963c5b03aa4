"""Cost table: trainable parameters, seconds and intruder dimensions of a run of each setting."""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from cytolora.display import format as words
from cytolora.display.format import escape_latex
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Setting, by_dataset
from cytolora.reporting.tables.intruders import mean_intruders
from cytolora.reporting.tables.tables import amounts_of, label, pivot

COLUMNS = (
    *("dataset", "model", "method", "shots", "fraction", "num_trainable", "seconds", "n_runs", "device", "flags"),
    *("setting_id", "intruders"),
    *("wall_seconds", "cpu_seconds", "gpu_seconds", "cpu_kwh", "gpu_kwh", "peak_memory_bytes"),
    *("host", "processor", "gpu", "first_date", "last_date"),
)
"""Of costs.csv; ``seconds`` is the mean over ``n_runs``, ``intruders`` that of the intruder dimensions of a run. Of the
same runs are the means of what they took (core/spending.py), each over those that know it, and the highest peak of
memory. A row for each run stands in runs.csv."""
_MEANS = ("wall_seconds", "cpu_seconds", "gpu_seconds", "cpu_kwh", "gpu_kwh")

_NONE = "--"


def to_rows(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Returns a row per setting; ``shots`` is ``all`` for the whole training set."""
    return [_row(setting) for setting in settings]


def _row(setting: Setting) -> dict[str, Any]:
    timed = [run.provenance for run in setting.tested or setting.runs if "seconds" in run.provenance]
    return {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "shots": "all" if setting.shots is None and setting.fraction is None else setting.shots,
        "fraction": setting.fraction,
        "num_trainable": setting.runs[0].metrics["num_trainable"],
        "seconds": None if setting.seconds is None else round(setting.seconds, 3),
        "n_runs": len(timed),
        "device": words.listed(sorted({str(found["device"]) for found in timed if found.get("device")}) or [""]),
        "flags": in_file(setting),
        "setting_id": setting.setting_id,
        "intruders": None if (number := mean_intruders(setting)) is None else round(number, 3),
        **_spent(timed),
    }


def _spent(timed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums up what runs took, by their provenance; None where none of them knows."""
    spent = [found.get("spending") or {} for found in timed]

    def known(name: str) -> list[Any]:
        return [value for one in spent if (value := one.get(name)) is not None]

    dates = sorted(known("date"))
    return {
        **{name: float(f"{fmean(values):.4g}") if (values := known(name)) else None for name in _MEANS},
        "peak_memory_bytes": max(known("peak_memory_bytes"), default=None),
        **{name: words.listed(sorted(set(known(name)))) or None for name in ("host", "processor", "gpu")},
        "first_date": dates[0] if dates else None,
        "last_date": dates[-1] if dates else None,
    }


def to_latex(settings: Sequence[Setting]) -> str:
    """Prints, per dataset, parameters and time of every model and method by amount; needs the package booktabs."""
    blocks = ["% Needs \\usepackage{booktabs}. Trainable parameters, head included; mean time of a run."]
    for dataset, members in by_dataset(settings).items():
        amounts = amounts_of(members)
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{{escape_latex(dataset)}: trainable parameters, and time of a run by training images.}}",
            f"\\label{{{label(dataset, 'costs')}}}",
            f"\\begin{{tabular}}{{ll{'r' * (1 + len(amounts))}}}",
            "\\toprule",
            " & ".join(["Model", "Method", "Parameters", *map(escape_latex, amounts)]) + " \\\\",
            "\\midrule",
        ]
        for names, row in pivot(members).items():
            sizes = sorted({setting.runs[0].metrics["num_trainable"] for setting in row.values()})
            times = [_time(row.get(amount)) for amount in amounts]
            numbers = [" to ".join(dict.fromkeys(map(words.thousands, (sizes[0], sizes[-1])))), *times]
            lines.append(" & ".join([*map(escape_latex, names), *numbers]) + " \\\\")
        blocks.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _time(setting: Setting | None) -> str:
    found = words.duration(None if setting is None else setting.seconds)
    return f"${found[0]}${found[1:]}" if found.startswith("<") else found or _NONE
