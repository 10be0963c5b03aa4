"""Settings on several divisions: mean, spread over divisions and over seeds apart, approximate interval."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from cytolora.display import format as words
from cytolora.metrics.divisions import OverDivisions
from cytolora.reporting.results.divided import Divided
from cytolora.reporting.results.flags import joined
from cytolora.reporting.results.settings import ALL_METRICS

COLUMNS = (
    *("dataset", "model", "method", "shots", "fraction", "n_divisions", "split_seeds", "test_over_train"),
    *(f"{metric}_{part}" for metric in ALL_METRICS for part in ("mean", "std_divisions", "std_seeds", "low", "high")),
    *("flags", "setting_ids"),
)
"""Of divisions.csv; shares in [0, 1]."""

LEGEND = (
    "Mean over the divisions; standard deviation of their means (divisions) and, within a division, over seeds. In "
    "brackets an approximate 95 % interval of the accuracy to expect of new data divided anew (Nadeau & Bengio 2003), "
    "counted in groups; none with few shots, where the draw of the few images is the larger part, and none where the "
    "values of a column were left out, which are no random divisions. One more division of the same data falls outside "
    "more often."
)


def division_rows(families: Iterable[Divided]) -> list[dict[str, Any]]:
    """Returns a row per setting that was run on several divisions."""
    return [_row(family) for family in families]


def _row(family: Divided) -> dict[str, Any]:
    first, ratio = family.first, family.test_over_train
    row: dict[str, Any] = {
        "dataset": first.dataset,
        "model": first.model,
        "method": first.label,
        "shots": "all" if first.shots is None and first.fraction is None else first.shots,
        "fraction": first.fraction,
        "n_divisions": len(family.settings),
        "split_seeds": (" " if first.spec.split.leave_out is None else "; ").join(family.divisions),
        "test_over_train": _rounded(ratio),
    }
    for metric in ALL_METRICS:
        found = family.over(metric)
        row |= {
            f"{metric}_mean": _rounded(found.mean),
            f"{metric}_std_divisions": _rounded(found.std_divisions),
            f"{metric}_std_seeds": _rounded(found.std_seeds),
            f"{metric}_low": _rounded(found.low),
            f"{metric}_high": _rounded(found.high),
        }
    row["flags"] = joined(family.flags)
    row["setting_ids"] = " ".join(setting.setting_id for setting in family.settings)
    return row


def in_words(found: OverDivisions) -> str:
    """``71.2 ± 3.0 (divisions) ± 1.4 (seeds) [65.0–77.1]``, in percent."""
    return words.over_divisions_in_words(asdict(found))


def division_pivot(families: Sequence[Divided]) -> dict[tuple[str, str], dict[str, Divided]]:
    """Arranges the families of one dataset: (model, method) to amount to family."""
    table: dict[tuple[str, str], dict[str, Divided]] = {}
    for family in families:
        first = family.first
        table.setdefault((first.model, first.label), {})[words.amount(first.shots, first.fraction)] = family
    return table


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
