"""Validation accuracy at every learning rate that was tried, a row each."""

from collections.abc import Iterable
from typing import Any

from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.settings import Setting

COLUMNS = (
    *("dataset", "model", "method", "amount", "learning_rate", "chosen", "val_accuracy_mean", "val_accuracy_std"),
    *("n_seeds", "val_images", "diverged", "flags", "setting_id"),
)
"""Of rates.csv: a row per learning rate that was tried."""


def to_rows(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    """Returns a row per setting and learning rate, with shares in [0, 1]; none for what has no learning rate."""
    return [_row(setting, rate) for setting in settings for rate in setting.rates if rate]


def _row(setting: Setting, rate: float) -> dict[str, Any]:
    runs = [run for run in setting.runs if run.spec["learning_rate"] == rate]
    val = setting.val("accuracy", rate)
    return {
        "dataset": setting.dataset,
        "model": setting.model,
        "method": setting.method,
        "amount": setting.spec.sampling.amount,
        "learning_rate": rate,
        "chosen": rate == setting.rate,
        "val_accuracy_mean": None if val is None else round(val.mean, 6),
        "val_accuracy_std": None if val is None or val.std is None else round(val.std, 6),
        "n_seeds": len(runs),
        "val_images": min((run.metrics["val"]["n"] for run in runs if run.metrics["val"]), default=None),
        "diverged": val is None,
        "flags": in_file(setting),
        "setting_id": setting.setting_id,
    }
