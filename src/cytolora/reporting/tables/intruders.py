"""Intruder dimensions of adapted runs: their number in each setting, and one line for all settings of a dataset."""

from collections import defaultdict
from collections.abc import Iterable
from statistics import fmean

from cytolora.reporting.results.settings import Setting


def mean_intruders(setting: Setting) -> float | None:
    """Returns the mean over the tested runs, or over all while none is; None where some did not count them."""
    runs = setting.tested or setting.runs
    found = [run.metrics["intruders"]["total"] for run in runs if run.metrics.get("intruders")]
    return fmean(found) if found and len(found) == len(runs) else None


def intruder_line(settings: Iterable[Setting]) -> str:
    """Names the intruder dimensions of each method, from its lowest to its highest setting; empty where none counts."""
    by_method: dict[str, list[float]] = defaultdict(list)
    for setting in settings:
        if (number := mean_intruders(setting)) is not None:
            by_method[setting.method].append(number)
    return "; ".join(f"{method} {_span(min(found), max(found))}" for method, found in by_method.items())


def _span(low: float, high: float) -> str:
    return " to ".join(dict.fromkeys(f"{value:.1f}".removesuffix(".0") for value in (low, high)))
