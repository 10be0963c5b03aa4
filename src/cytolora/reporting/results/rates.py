"""Learning rates of a setting on validation: accuracy at each, and how sure the choice is."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

from cytolora.reporting.results.settings import MeanStd, Setting, SettingRuns

COLUMNS = (
    *("dataset", "model", "method", "amount", "learning_rate", "chosen", "val_accuracy_mean", "val_accuracy_std"),
    *("n_seeds", "val_images", "diverged", "setting_id"),
)
"""Of rates.csv: a row per learning rate that was tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerUp:
    """The learning rate that came second on validation."""

    rate: float
    difference: float
    """How much lower its mean validation accuracy is than that of the chosen rate; at least 0."""
    standard_error: float
    """Of the validation accuracy at the chosen rate, over images."""

    @property
    def is_close(self) -> bool:
        """Whether it lies within one standard error: another validation set might have chosen it."""
        return self.difference <= self.standard_error


def edge(setting: SettingRuns) -> Literal["lowest", "highest"] | None:
    """Returns at which end of the rates tried the chosen one lies; None within, or where nothing was chosen among."""
    if len(setting.rates) < 2 or setting.rate not in (setting.rates[0], setting.rates[-1]):
        return None
    return "lowest" if setting.rate == setting.rates[0] else "highest"


def num_val(setting: SettingRuns) -> int:
    """Validation images of a run, those of the smallest where seeds differ; 0 where none was scored."""
    return min((run.metrics["val"]["n"] for run in setting.chosen or setting.runs if run.metrics["val"]), default=0)


def distinct_val(setting: Setting) -> int:
    """Validation images of all seeds together, each counted once; of one run while no test set is scored."""
    return num_val(setting) if setting.evaluation is None else setting.evaluation.num_val


def runner_up(setting: Setting) -> RunnerUp | None:
    """Returns the rate that came second; None where there is none, or nothing was chosen."""
    best = None if setting.rate is None else setting.val("accuracy", setting.rate)
    others = [(val.mean, rate) for rate in setting.rates if rate != setting.rate and (val := _complete(setting, rate))]
    number = distinct_val(setting)
    if best is None or not others or not number:
        return None
    mean, rate = max(others, key=lambda entry: (entry[0], -entry[1]))
    share = (best.mean * number + 1) / (number + 2)  # Laplace: an accuracy of 1 has an error too
    return RunnerUp(
        rate=rate,
        difference=max(0.0, best.mean - mean),
        standard_error=sqrt(share * (1 - share) / number),
    )


def _complete(setting: SettingRuns, rate: float) -> MeanStd | None:
    """Validation accuracy at a rate that was run with all seeds, as only such a rate can be chosen."""
    seeds = {run.spec["seed"] for run in setting.runs if run.spec["learning_rate"] == rate}
    return setting.val("accuracy", rate) if seeds == set(setting.seeds) else None


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
        "setting_id": setting.setting_id,
    }
