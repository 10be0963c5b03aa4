"""Rows of ensembles beside their members: for CSV and JSON, for the console, and as a page."""

from collections.abc import Sequence
from html import escape
from importlib.resources import files
from statistics import fmean
from typing import Any

from cytolora.core.tables import html_table
from cytolora.display import format as words
from cytolora.metrics.intervals import Interval
from cytolora.metrics.scores import score
from cytolora.reporting.comparison.ensembles import Ensemble, Member, Weighting
from cytolora.reporting.results.settings import Metric

COLUMNS = (
    *("dataset", "setting", "row", "name", "weight", "num_seeds", "metric", "mean", "low", "high"),
    *("accuracy", "balanced_accuracy", "macro_f1", "loss"),
    *("difference", "difference_low", "difference_high", "p", "p_holm", "p_cluster", "num_units", "unit"),
)
"""Of ensemble.csv; the difference is that of the ensemble minus the member."""
HEADER = (
    *("dataset", "setting", "name", "weight", "mean", "95 % interval"),
    *("ensemble minus it", "95 % interval of that", "p (Holm)"),
)
_SCORES = ("accuracy", "balanced_accuracy", "macro_f1", "loss")


def to_rows(ensembles: Sequence[Ensemble]) -> list[dict[str, Any]]:
    """Returns a row per ensemble and member, with shares in [0, 1]; for JSON and CSV."""
    rows = []
    for one in ensembles:
        common = {"dataset": one.dataset, "setting": one.setting, "metric": one.metric}
        rows.append(common | {"row": "ensemble", "weight": 1.0} | _of_member(one.own, one.interval, one.metric))
        for row in one.rows:
            apart = row.difference
            rows.append(
                common
                | {"row": "member", "weight": round(row.weight, 6)}
                | _of_member(row.member, row.interval, one.metric)
                | {
                    "difference": round(apart.value, 6),
                    "difference_low": round(apart.interval.low, 6),
                    "difference_high": round(apart.interval.high, 6),
                    "p": apart.p,
                    "p_holm": row.p_holm,
                    "p_cluster": apart.p_cluster,
                }
            )
    return [dict.fromkeys(COLUMNS) | row for row in rows]


def _of_member(member: Member, interval: Interval, metric: Metric) -> dict[str, Any]:
    scores = [score(rows.labels, rows.probabilities) for rows in member.test]
    means = {name: round(fmean(one[name] for one in scores), 6) for name in _SCORES}
    return means | {
        "name": member.name,
        "num_seeds": len(member.test),
        "mean": means[metric],
        "low": round(interval.low, 6),
        "high": round(interval.high, 6),
        "num_units": interval.num_units,
        "unit": interval.unit,
    }


def to_lines(ensembles: Sequence[Ensemble]) -> list[tuple[str, ...]]:
    """Returns a printed row per ensemble and member, under ``HEADER``."""
    lines = []
    for row in to_rows(ensembles):
        is_member = row["row"] == "member"
        interval = f"{words.percent(row['low'])} to {words.percent(row['high'])}"
        apart = ["–"] * 3
        if is_member:
            limits = [words.difference(row[name], 0) for name in ("difference_low", "difference_high")]
            p = "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
            apart = [words.difference(row["difference"], 0), " to ".join(limits), p]
        weight = f"{row['weight']:.3f}" if is_member else ""
        of_row = (row["dataset"], row["setting"], row["name"], weight, words.percent(row["mean"]), interval)
        lines.append((*of_row, *apart))
    return lines


def notes(ensembles: Sequence[Ensemble], weights: Weighting) -> list[str]:
    """Says how the numbers came about."""
    count = sum(len(one.rows) for one in ensembles)
    chosen = (
        "Weights are those under which the true classes of the validation images are most probable, seed by seed; "
        "these images chose the learning rates, too. Test images take no part."
        if weights == "validation"
        else "All members have the same weight."
    )
    return [
        f"Means of class probabilities. {chosen}",
        f"Mean {ensembles[0].metric.replace('_', ' ')} over the seeds, ensemble minus member; intervals and p from "
        "bootstrap draws of the same groups or images for both, which say nothing of other seeds.",
        f"p is corrected by Holm for the {words.count(count, 'pair')} listed.",
        *(one.note for one in ensembles if one.note),
    ]


def prediction_rows(ensembles: Sequence[Ensemble]) -> tuple[list[str], list[dict[str, Any]]]:
    """Returns columns and rows of what the ensembles say of each test image, seed by seed; classes of all in turn."""
    columns = ["dataset", "setting", "seed_index", "path", "group", "label", "predicted"]
    classes = list(dict.fromkeys(f"p_{name}" for one in ensembles for name in one.own.test[0].classes))
    rows: list[dict[str, Any]] = []
    for one in ensembles:
        for index, test in enumerate(one.own.test):
            for place, path in enumerate(test.paths):
                shares = test.probabilities[place]
                rows.append(
                    {"dataset": one.dataset, "setting": one.setting, "seed_index": index, "path": path}
                    | {"group": test.groups[place], "label": test.classes[test.labels[place]]}
                    | {"predicted": test.classes[int(shares.argmax())]}
                    | {f"p_{name}": round(float(p), 6) for name, p in zip(test.classes, shares, strict=True)}
                )
    return [*columns, *classes], rows


def to_page(ensembles: Sequence[Ensemble], weights: Weighting) -> str:
    """Returns one HTML page, which needs nothing else."""
    css = (files("cytolora.display") / "templates" / "page.css").read_text(encoding="utf-8")
    header, lines = HEADER[2:], to_lines(ensembles)
    parts, start = [], 0
    for one in ensembles:
        count = 1 + len(one.rows)
        of_one = [line[2:] for line in lines[start : start + count]]
        caption = f"{one.dataset}, {one.setting}, {one.metric.replace('_', ' ')}"
        parts.append(html_table(header, of_one, caption=caption, max_rows=count))
        start += count
    listed = "".join(f"<li>{escape(note)}</li>" for note in notes(ensembles, weights))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Ensembles</title>'
        f"<style>{css}</style></head><body><main><h1>Ensembles</h1>{''.join(parts)}<ul>{listed}</ul></main></body></html>\n"
    )
