"""Table 1 of the paper: linear classifiers on all images, datasets by models, beside the published values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cytolora.display import format as words
from cytolora.display.format import escape_latex, escape_markdown
from cytolora.reporting.results.divided import Divided, divided
from cytolora.reporting.results.flags import bracketed, flags, in_caption, joined
from cytolora.reporting.results.published import printed_order
from cytolora.reporting.results.settings import MeanStd, Setting
from cytolora.reporting.tables.tables import bar, label

COLUMNS = (
    *("method", "dataset", "model", "accuracy_mean", "accuracy_std", "accuracy_low", "accuracy_high", "n_seeds"),
    *("published_accuracy", "published_std", "difference", "flags", "setting_id", "n_divisions"),
)
"""Of table1.csv."""

AVERAGE = "average"
BELOW = (INTERVAL, PUBLISHED, DIFFERENCE) = ("95 % interval", "published", "difference")
"""Names of the lines below one of ours."""
_NONE = "–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One field of the table, as shares in [0, 1]; the average has neither setting nor spread."""

    spread: MeanStd | None
    """None while it was not run or tested."""
    published: float | None = None
    published_std: float | None = None
    setting: Setting | None = None
    """Of several divisions the first."""
    family: Divided | None = None
    """None for one division."""

    @property
    def settings(self) -> tuple[Setting, ...]:
        """All that the number is of."""
        if self.family is not None:
            return self.family.settings
        return () if self.setting is None else (self.setting,)

    @property
    def flags(self) -> tuple[str, ...]:
        """Grave tags of all that the number is of; none of an average."""
        if self.family is not None:
            return self.family.flags
        return () if self.setting is None else flags(self.setting)

    @property
    def limits(self) -> tuple[float, float] | None:
        """The 95 % interval of the mean: for other test images or groups, or approximate for a new division."""
        if self.family is not None:
            found = self.family.over("accuracy")
            return None if found.low is None or found.high is None else (found.low, found.high)
        interval = self.setting.intervals.get("accuracy") if self.setting else None
        return None if interval is None else (interval.low, interval.high)

    @property
    def difference(self) -> float | None:
        """Ours minus the published one; None where one of them is missing."""
        return None if self.spread is None or self.published is None else self.spread.mean - self.published


@dataclass(frozen=True, kw_only=True)
class Table1:
    """Datasets by models for one linear method; the last row averages over the datasets."""

    method: str
    datasets: tuple[str, ...]
    """In the paper's order, then those that the paper lacks."""
    models: tuple[str, ...]
    averaged: tuple[str, ...]
    """The paper's datasets where all of them are there, else every dataset: the first of ``datasets``."""
    entries: Mapping[tuple[str, str], Entry]
    """By dataset and model; ``AVERAGE`` only for models that have every averaged dataset."""

    @property
    def note(self) -> str:
        """Says how numbers of several divisions are to be read; empty where there are none."""
        families = [(name, entry.family) for (name, _), entry in self.entries.items() if entry.family]
        found = sorted({(len(family.settings), name) for name, family in families})
        if not found:
            return ""
        numbers = ", ".join(f"{number} divisions of {name}" for number, name in found)
        has_interval = any(family.test_over_train is not None for _, family in families)
        interval = ", and an approximate interval for new data divided anew" if has_interval else ""
        return f" Over {numbers}: their mean ± their standard deviation{interval}."


def tables1(settings: Sequence[Setting]) -> list[Table1]:
    """Gathers the tested linear settings on all images, a table for each variant of the method; none without any."""
    tested = [one for one in settings if one.spec.kind == "linear" and not (one.shots or one.fraction) and one.tested]
    family_of = {one.setting_id: family for family in divided(settings) for one in family.settings}
    gathered = {one.setting_id for family in family_of.values() for one in family.settings[1:]}
    number = Counter((one.dataset, one.model, one.label) for one in tested if one.setting_id not in gathered)
    found: dict[str, dict[tuple[str, str], Entry]] = {}
    for setting in tested:
        family = family_of.get(setting.setting_id)
        is_one = family is not None or number[setting.dataset, setting.model, setting.label] == 1
        members = found.setdefault(setting.label if is_one else setting.method, {})
        members[setting.dataset, setting.model] = _entry(setting, family)
    return [_table(method, members) for method, members in found.items()]


def _table(method: str, entries: dict[tuple[str, str], Entry]) -> Table1:
    known_datasets, known_models = printed_order()
    datasets = _in_order([dataset for dataset, _ in entries], known_datasets)
    models = _in_order([model for _, model in entries], known_models)
    averaged = known_datasets if set(known_datasets) <= set(datasets) else datasets
    for model in models:
        column = [entries.get((dataset, model), Entry(spread=None)) for dataset in averaged]
        entries[AVERAGE, model] = _average(column) if len(column) > 1 else Entry(spread=None)
    return Table1(method=method, datasets=datasets, models=models, averaged=averaged, entries=entries)


def _entry(setting: Setting, family: Divided | None) -> Entry:
    published, spread = setting.published, setting.test("accuracy")
    if family is not None:
        over = family.over("accuracy")
        spread = MeanStd(mean=over.mean, std=over.std_divisions)
    return Entry(
        spread=spread,
        published=published and published.accuracy,
        published_std=published and published.std,
        setting=setting if family is None else family.first,
        family=family,
    )


def _average(column: Sequence[Entry]) -> Entry:
    means = [entry.spread.mean for entry in column if entry.spread]
    printed = [entry.published for entry in column if entry.published is not None]
    return Entry(
        spread=MeanStd(mean=fmean(means), std=None) if len(means) == len(column) else None,
        published=fmean(printed) if len(printed) == len(column) else None,
    )


def _in_order(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    place = {name: index for index, name in enumerate(known)}
    return tuple(sorted(set(names), key=lambda name: (place.get(name, len(place)), name)))


def settings_of(table: Table1) -> list[Setting]:
    """Returns the settings that the table's numbers and averages are of."""
    return [setting for entry in table.entries.values() for setting in entry.settings]


def to_rows(table: Table1) -> list[dict[str, Any]]:
    """Returns a row per field, for CSV; shares in [0, 1]."""
    rows = []
    for (dataset, model), entry in table.entries.items():
        low, high = entry.limits or (None, None)
        rows.append(
            {
                "method": table.method,
                "dataset": dataset,
                "model": model,
                "accuracy_mean": _rounded(entry.spread and entry.spread.mean),
                "accuracy_std": _rounded(entry.spread and entry.spread.std),
                "accuracy_low": _rounded(low),
                "accuracy_high": _rounded(high),
                "n_seeds": sum(len(setting.tested) for setting in entry.settings) or None,
                "published_accuracy": _rounded(entry.published),
                "published_std": entry.published_std,
                "difference": _rounded(entry.difference),
                "flags": joined(entry.flags),
                "setting_id": " ".join(setting.setting_id for setting in entry.settings) or None,
                "n_divisions": len(entry.settings) or None,
            }
        )
    return rows


def lines_of(table: Table1) -> list[tuple[str, list[str]]]:
    """Returns the printed lines: of each dataset and the average ours, interval, published and difference, in percent.

    The average stands below the datasets that it is of, and above others.
    """
    lines = []
    others = [name for name in table.datasets if name not in table.averaged]
    for dataset in (*table.averaged, AVERAGE, *others):
        row = [table.entries.get((dataset, model), Entry(spread=None)) for model in table.models]
        lines.append((dataset, [_ours(entry) for entry in row]))
        if any(entry.setting is not None for entry in row):
            lines.append((INTERVAL, [_interval(entry) for entry in row]))
        if any(entry.published is not None for entry in row):
            lines.append((PUBLISHED, [_printed(entry) for entry in row]))
            lines.append((DIFFERENCE, [_differing(entry) for entry in row]))
    return lines


def to_markdown(tables: Sequence[Table1]) -> str:
    """Prints the tables for Markdown."""
    blocks = []
    for table in tables:
        lines = [f"### {escape_markdown(table.method)} on all images: accuracy on test, %", ""]
        lines += [bar(["dataset", *map(escape_markdown, table.models)]), bar(["---", *["--:"] * len(table.models)])]
        lines += [bar(map(escape_markdown, (name, *values))) for name, values in lines_of(table)]
        if care := (table.note + in_caption(settings_of(table))).strip():
            lines += ["", escape_markdown(care)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def to_latex(tables: Sequence[Table1]) -> str:
    """Prints the tables for LaTeX; needs the package booktabs."""
    blocks = [
        "% Needs \\usepackage{booktabs}. Accuracy on test, %: mean, standard deviation over seeds, 95 % interval."
    ]
    for table in tables:
        care = escape_latex(table.note + in_caption(settings_of(table)))
        lines = [
            "\\begin{table}",
            "\\centering",
            f"\\caption{{Accuracy of {escape_latex(table.method)} classifiers on all images (\\%).{care}}}",
            f"\\label{{{label('all-images', table.method)}}}",
            f"\\begin{{tabular}}{{l{'r' * len(table.models)}}}",
            "\\toprule",
            " & ".join(["Dataset", *map(escape_latex, table.models)]) + " \\\\",
        ]
        for name, values in lines_of(table):
            is_ours = name not in BELOW
            lines += ["\\midrule"] if is_ours else []
            printed = [escape_latex(value).replace("±", "$\\pm$").replace("–", "--") for value in values]
            lines.append(" & ".join([("" if is_ours else "\\quad ") + escape_latex(name), *printed]) + " \\\\")
        blocks.append("\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]))
    return "\n\n".join(blocks) + "\n"


def _ours(entry: Entry) -> str:
    if entry.spread is None:
        return _NONE
    return _say(entry.spread.mean, entry.spread.std) + bracketed(entry.flags)


def _interval(entry: Entry) -> str:
    """Of the mean, for other test images or groups: another thing than the spread beside it."""
    if entry.family is None:
        return words.interval(entry.setting.intervals.get("accuracy") if entry.setting else None, digits=2) or _NONE
    return _NONE if entry.limits is None else "–".join(words.percent(end, 2) for end in entry.limits) + " approximate"


def _printed(entry: Entry) -> str:
    if entry.published is None:
        return _NONE
    return _say(entry.published, entry.published_std)


def _say(mean: float, std: float | None) -> str:
    """In percent, with two digits as the paper prints."""
    return words.percent(mean, 2) + ("" if std is None else f" ± {words.percent(std, 2)}")


def _differing(entry: Entry) -> str:
    return _NONE if entry.difference is None else f"{100 * entry.difference:+.2f}".replace("-", "−")


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
