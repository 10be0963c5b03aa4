"""Results table as CSV, Markdown and LaTeX."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cytolora.core.delimited import csv_line
from cytolora.display import format as words
from cytolora.display.format import escape_latex, escape_markdown
from cytolora.metrics.agreement import macro
from cytolora.metrics.intervals import LEGEND
from cytolora.reporting.results.divided import Divided, divided, undivided
from cytolora.reporting.results.flags import bracketed, in_caption, in_file, suffix
from cytolora.reporting.results.marks import marks
from cytolora.reporting.results.settings import ALL_METRICS, METRICS, MeanStd, Metric, Setting, by_dataset
from cytolora.reporting.tables.divisions import LEGEND as DIVISIONS_LEGEND
from cytolora.reporting.tables.divisions import division_pivot, in_words

COLUMNS = (
    "dataset",
    "model",
    "method",
    "shots",
    "fraction",
    "learning_rate",
    "n_seeds",
    "accuracy_mean",
    "accuracy_std",
    "balanced_accuracy_mean",
    "balanced_accuracy_std",
    "published_accuracy",
    "preset",
    "flags",
)
"""Of tables.csv: what other programs rely on, then what keeps a number from standing beside others."""

TITLES: Mapping[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
}

_DIGITS = 6


def to_row(setting: Setting) -> dict[str, Any]:
    """Returns what is known of a setting as plain values; shares in [0, 1], None where there is nothing.

    ``shots`` is ``all`` for the whole training set. The first columns are those of tables.csv.
    """
    everything = setting.shots is None and setting.fraction is None
    row: dict[str, Any] = {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "shots": "all" if everything else setting.shots,
        "fraction": setting.fraction,
        "learning_rate": setting.rate,
        "n_seeds": len(setting.tested),
    }
    for metric in METRICS:
        spread = setting.test(metric)
        row[f"{metric}_mean"] = _rounded(spread and spread.mean)
        row[f"{metric}_std"] = _rounded(spread and spread.std)
    published = setting.published
    row |= {"published_accuracy": published and published.accuracy, "preset": setting.spec.preset}
    row["flags"] = in_file(setting)
    return row | _details(setting)


def _details(setting: Setting) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for metric in ALL_METRICS:
        found = setting.intervals.get(metric)
        row |= {f"{metric}_low": _rounded(found and found.low), f"{metric}_high": _rounded(found and found.high)}
    spread, any_interval = setting.test("macro_f1"), setting.intervals.get("accuracy")
    val = None if setting.rate is None else setting.val("accuracy", setting.rate)
    return row | {
        "interval_unit": any_interval and any_interval.unit,
        "interval_units": any_interval and any_interval.num_units,
        "interval_kind": any_interval and any_interval.kind,
        "macro_f1_mean": _rounded(spread and spread.mean),
        "macro_f1_std": _rounded(spread and spread.std),
        **further(setting),
        "val_accuracy_mean": _rounded(val and val.mean),
        "split_seed": None if setting.spec.split.file_sha256 else setting.spec.split.seed,
        "num_labels": setting.num_labels,
        "num_trainable": setting.runs[0].metrics["num_trainable"],
        "seconds": _rounded(setting.seconds),
        "marks": "; ".join(mark.tag for mark in marks(setting)),
        "setting_id": setting.setting_id,
    }


def further(setting: Setting) -> dict[str, float | None]:
    """Returns the means over the seeds of what has no interval; None until tested, or where it has no meaning."""
    found = setting.evaluation
    if found is None:
        return dict.fromkeys(("kappa", "linear_kappa", "quadratic_kappa", "auroc", "ece", "brier"))
    return {
        "kappa": _rounded(macro(found.kappa)),
        "linear_kappa": _rounded(macro(found.linear_kappa)),
        "quadratic_kappa": _rounded(macro(found.quadratic_kappa)),
        "auroc": _rounded(macro(found.auroc)),
        "ece": _rounded(macro(found.ece)),
        "brier": _rounded(macro(found.brier)),
    }


def to_csv(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> str:
    """Writes rows as CSV; None is an empty field."""
    names = list(columns)
    return "".join([csv_line(names), *(csv_line(row.get(name) for name in names) for row in rows)])


def amounts_of(settings: Iterable[Setting]) -> list[str]:
    """Returns the amounts of training images that occur, smallest first."""
    found = {words.amount(setting.shots, setting.fraction): setting.amount_key for setting in settings}
    return sorted(found, key=lambda name: found[name])


def pivot(settings: Sequence[Setting]) -> dict[tuple[str, str], dict[str, Setting]]:
    """Arranges the settings of one dataset: (model, method) to amount to setting."""
    table: dict[tuple[str, str], dict[str, Setting]] = {}
    for setting in settings:
        table.setdefault((setting.model, setting.method), {})[words.amount(setting.shots, setting.fraction)] = setting
    return table


def to_markdown(settings: Sequence[Setting]) -> str:
    """Prints, per dataset and metric, models and methods by amount of training images.

    Settings that were run on several divisions have a table of their own, a row for all divisions.
    """
    blocks = []
    for dataset, members in by_dataset(settings).items():
        for metric in METRICS:
            for table in _tables(members, metric):
                lines = [f"### {escape_markdown(dataset)}: {table.title}", ""]
                lines += [bar(["model", "method", *table.amounts]), bar(["---", "---", *["--:"] * len(table.amounts)])]
                for names, values in table.rows.items():
                    lines.append(bar([*map(escape_markdown, names), *values]))
                care = escape_markdown(in_caption(table.settings).strip())
                lines += ["", *filter(None, [care, table.legend])]
                blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table:
    """One metric of one dataset, ready to print."""

    label: str
    title: str
    heading: str
    """The same within a caption."""
    amounts: Sequence[str]
    rows: Mapping[tuple[str, str], Sequence[str]]
    settings: Sequence[Setting]
    legend: str


def _tables(settings: Sequence[Setting], metric: Metric, *, intervals: bool = True) -> Iterator[_Table]:
    families = divided(settings)
    if alone := undivided(settings, families):
        amounts, title = amounts_of(alone), f"{TITLES[metric]} on test, %"
        yield _Table(
            label=metric,
            title=f"{title}, mean ± standard deviation over seeds (95 % interval)",
            heading=f"{TITLES[metric]} on the test set",
            amounts=amounts,
            rows={
                names: [_plain(row.get(name), metric, intervals=intervals) for name in amounts]
                for names, row in pivot(alone).items()
            },
            settings=alone,
            legend=LEGEND,
        )
    if families:
        amounts = amounts_of([family.first for family in families])
        yield _Table(
            label=f"{metric}-divisions",
            title=f"{TITLES[metric]} on test over several divisions, %",
            heading=f"{TITLES[metric]} on the test sets of several divisions",
            amounts=amounts,
            rows={
                names: [_over(row.get(name), metric) for name in amounts]
                for names, row in division_pivot(families).items()
            },
            settings=[setting for family in families for setting in family.settings],
            legend=DIVISIONS_LEGEND,
        )


def _over(family: Divided | None, metric: Metric) -> str:
    if family is None:
        return "–"
    return in_words(family.over(metric)) + bracketed(family.flags)


def to_latex(settings: Sequence[Setting], *, intervals: bool = True) -> str:
    """Prints the same tables for LaTeX; needs the package booktabs.

    Args:
        intervals: Prints the 95 % interval behind each number; without, only mean and standard deviation.
    """
    shown = "mean and standard deviation over seeds" + (" (95 % interval)" if intervals else "")
    blocks = [f"% Needs \\usepackage{{booktabs}}. Test set, %, {shown}.", *([f"% {LEGEND}"] if intervals else [])]
    for dataset, members in by_dataset(settings).items():
        for metric in METRICS:
            tables = _tables(members, metric, intervals=intervals)
            blocks += [_latex_table(dataset, table, shown) for table in tables]
    return "\n\n".join(blocks) + "\n"


def _latex_table(dataset: str, table: _Table, shown: str) -> str:
    care = in_caption(table.settings)
    if table.legend != LEGEND:  # that one stands at the head of the file
        shown, care = "over divisions", f" {table.legend}{care}"
    lines = [
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{escape_latex(f'{dataset}: {table.heading} (%), {shown}.{care}')}}}",
        f"\\label{{{label(dataset, table.label)}}}",
        f"\\begin{{tabular}}{{ll{'r' * len(table.amounts)}}}",
        "\\toprule",
        " & ".join(["Model", "Method", *map(escape_latex, table.amounts)]) + " \\\\",
        "\\midrule",
    ]
    for names, values in table.rows.items():
        printed = [value.replace(" ± ", " $\\pm$ ").replace("–", "--") for value in values]
        lines.append(" & ".join([*map(escape_latex, names), *printed]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"])


def plus_minus(spread: MeanStd) -> str:
    """``71.2 ± 1.4``, in percent; without the second part for a single seed."""
    return words.percent(spread.mean) + ("" if spread.std is None else f" ± {words.percent(spread.std)}")


def label(*parts: str) -> str:
    """Returns a label of LaTeX, of letters, digits and dashes: ``tab:herlev-accuracy``."""
    return "tab:" + "-".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") for part in parts)


def _plain(setting: Setting | None, metric: Metric, *, intervals: bool = True) -> str:
    spread = None if setting is None else setting.test(metric)
    if setting is None or spread is None:
        return "–"
    limits = f" ({words.interval(setting.intervals[metric])})" if intervals else ""
    return f"{plus_minus(spread)}{limits}{suffix(setting)}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def bar(values: Iterable[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(values) + " |"
