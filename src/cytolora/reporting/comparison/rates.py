"""Learning rates of one setting as rivals, on validation images: test is scored for the chosen rate alone."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import combinations
from typing import Any, Literal

from cytolora.experiments.stored_run import StoredRun
from cytolora.reporting.results.settings import MeanStd, Metric, Setting


@dataclass(frozen=True, kw_only=True)
class AtRate(Setting):
    """A setting at one of its learning rates, scored on validation."""

    scored_on: Literal["test", "val"] = "val"

    @cached_property
    def tested(self) -> tuple[StoredRun, ...]:
        """The runs at this rate."""
        return self.chosen

    def test(self, metric: Metric) -> MeanStd | None:
        """The metric on the validation set over the seeds."""
        assert self.rate is not None
        return self.val(metric, self.rate)


def at_rates(setting: Setting) -> list[AtRate]:
    """Returns a setting at each of its rates, ascending; those at which training diverged are left out."""
    plain: dict[str, Any] = {entry.name: getattr(setting, entry.name) for entry in fields(Setting)}
    plain["scored_on"] = "val"
    return [
        AtRate(**{**plain, "rate": rate, "setting_id": f"{setting.setting_id}_lr{rate:g}"})
        for rate in setting.rates
        if rate not in setting.diverged
    ]


def pairs_of_rates(setting: Setting, metric: Metric, *, only_best: bool) -> tuple[tuple[AtRate, AtRate], ...]:
    """Returns the pairs of rates, the lower first; with ``only_best`` those with the best on validation alone."""
    rivals = at_rates(setting)
    if not only_best or not rivals:
        return tuple(combinations(rivals, 2))
    best = max(rivals, key=lambda one: _mean(one, metric))
    return tuple((best, one) for one in rivals if one is not best)


def seeds_of(settings: Sequence[AtRate]) -> list[tuple[int, ...]]:
    """Returns the seeds that each was run with."""
    return [tuple(sorted(run.spec["seed"] for run in one.tested)) for one in settings]


def _mean(setting: AtRate, metric: Metric) -> float:
    found = setting.test(metric)
    return -1.0 if found is None else found.mean
