"""Rows of line figures: of settings on several divisions one row, so that each method has one line."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cytolora.display.lines import in_text
from cytolora.reporting.results.divided import Divided, divided
from cytolora.reporting.results.flags import in_file, joined
from cytolora.reporting.results.settings import Metric, Setting

MEASURED = ("mean", "std", "low", "high", "n_seeds", "n_divisions", "by_seed", "flags")
"""Columns of every line figure."""


def measured(setting: Setting, metric: Metric = "accuracy") -> dict[str, Any]:
    """Returns what is drawn of one setting: ``MEASURED`` but for the number of divisions, of which it has one."""
    spread, interval = setting.test(metric), setting.intervals[metric]
    return {
        "mean": spread and spread.mean,
        "std": spread and spread.std,
        "low": interval.low,
        "high": interval.high,
        "n_seeds": len(setting.tested),
        "by_seed": in_text(run.metrics["test"][metric] for run in setting.tested),
        "flags": in_file(setting),
    }


def one_row_each(
    settings: Sequence[Setting], row_of: Callable[[Setting], dict[str, Any]], metric: Metric = "accuracy"
) -> list[dict[str, Any]]:
    """Returns a row for each method and amount: of several divisions their mean, with all seeds of all of them.

    ``n_divisions`` counts them; ``std`` is then over the divisions, and the interval the approximate one for a new
    division, which few shots do not have.

    Args:
        row_of: Makes the row of one setting.
        metric: What its ``mean`` is of.
    """
    family_of = {one.setting_id: family for family in divided(settings) for one in family.settings}
    gathered = {one.setting_id for family in family_of.values() for one in family.settings[1:]}
    names = Counter(_key(setting) for setting in settings if setting.setting_id not in gathered)
    rows = []
    for setting in settings:
        family = family_of.get(setting.setting_id)
        if family is None:
            alone = {} if names[_key(setting)] > 1 else {"method": setting.label}
            rows.append({**row_of(setting), "n_divisions": 1, **alone})
        elif setting is family.first:
            rows.append({**row_of(setting), **_over(family, metric)})
    return rows


def what_divisions(rows: Iterable[dict[str, Any]], *, bands: bool = True) -> str:
    """Says how points of several divisions are to be read; empty where there are none.

    Args:
        bands: Whether spread and interval are drawn.
    """
    numbers = sorted({row["n_divisions"] for row in rows} - {1})
    if not numbers:
        return ""
    over = " or ".join(map(str, numbers))
    text = f" Points over {over} divisions: mean over the divisions"
    if not bands:
        return f"{text}."
    return (
        f"{text}; dots: every seed of every division; band: standard deviation over divisions; bar: approximate "
        "interval for a new division, none with few shots or where sites (values of a column) were left out."
    )


def _key(setting: Setting) -> tuple[Any, ...]:
    return setting.dataset, setting.model, setting.label, setting.amount_key


def _over(family: Divided, metric: Metric) -> dict[str, Any]:
    found = family.over(metric)
    runs = [run for setting in family.settings for run in setting.tested]
    return {
        "method": family.first.label,
        "mean": found.mean,
        "std": found.std_divisions,
        "low": found.low,
        "high": found.high,
        "n_seeds": len(runs),
        "n_divisions": found.num_divisions,
        "by_seed": in_text(run.metrics["test"][metric] for run in runs),
        "flags": joined(family.flags),
    }
