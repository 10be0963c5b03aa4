"""Learning rates of a setting on validation: accuracy at each, and how sure the choice is."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

from cytolora.reporting.results.settings import MeanStd, Setting, SettingRuns


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
