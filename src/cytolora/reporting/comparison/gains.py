"""Paired gain of adapters over the linear head: the same dataset, model, amount and test images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cytolora.display import format as words
from cytolora.display.lines import in_text
from cytolora.metrics.bootstrap import Replicates
from cytolora.metrics.paired import Difference, difference
from cytolora.reporting.comparison.compare import why_not
from cytolora.reporting.comparison.pairing import find_rivals
from cytolora.reporting.results.flags import in_file
from cytolora.reporting.results.predictions import draw_seeds
from cytolora.reporting.results.settings import Setting, read_predictions

COLUMNS = (
    *("dataset", "model", "method", "baseline", "amount", "adapted_mean", "linear_mean", "difference", "low", "high"),
    *("p", "num_units", "unit", "by_seed", "adapted_flags", "linear_flags"),
    *("adapted_setting_id", "linear_setting_id"),
)
"""Of gains.csv."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """How much more an adapter scores than the linear head on the same encoder and as many images."""

    adapted: Setting
    linear: Setting
    estimate: Difference
    """Adapted minus linear, of mean accuracies over the seeds."""

    @property
    def by_seed(self) -> list[float]:
        """The difference of each seed that both have."""
        scores = [_by_seed(setting) for setting in (self.adapted, self.linear)]
        return [scores[0][seed] - scores[1][seed] for seed in sorted(scores[0].keys() & scores[1].keys())]


def gains(settings: Sequence[Setting]) -> list[Gain]:
    """Compares every tested adapter with the linear heads that differ from it in the method alone."""
    found, drawn = [], dict[str, Replicates]()
    for group in find_rivals(settings, "method", "accuracy", only_best=False):
        for pair in group.pairs:
            by_kind = {setting.spec.kind: setting for setting in pair}
            if set(by_kind) != {"adapter", "linear"} or why_not(*pair):
                continue
            for setting in pair:
                if setting.setting_id not in drawn:
                    drawn[setting.setting_id] = draw_seeds(read_predictions(setting))
            adapted, linear = by_kind["adapter"], by_kind["linear"]
            estimate = difference(drawn[adapted.setting_id], drawn[linear.setting_id], "accuracy")
            found.append(Gain(adapted=adapted, linear=linear, estimate=estimate))
    return sorted(found, key=lambda one: (one.adapted.dataset, one.adapted.model, one.adapted.method, _amount(one)))


def to_rows(found: Iterable[Gain]) -> list[dict[str, Any]]:
    """Returns a row per pair, with shares in [0, 1]."""
    return [_row(one) for one in found]


def _row(one: Gain) -> dict[str, Any]:
    means = [setting.test("accuracy") for setting in (one.adapted, one.linear)]
    estimate = one.estimate
    return {
        "dataset": one.adapted.dataset,
        "model": one.adapted.model,
        "method": one.adapted.method,
        "baseline": one.linear.method,
        "amount": words.amount(one.adapted.shots, one.adapted.fraction),
        "adapted_mean": means[0] and round(means[0].mean, 6),
        "linear_mean": means[1] and round(means[1].mean, 6),
        "difference": round(estimate.value, 6),
        "low": round(estimate.interval.low, 6),
        "high": round(estimate.interval.high, 6),
        "p": estimate.p,
        "num_units": estimate.interval.num_units,
        "unit": estimate.interval.unit,
        "by_seed": in_text(one.by_seed),
        "adapted_flags": in_file(one.adapted),
        "linear_flags": in_file(one.linear),
        "adapted_setting_id": one.adapted.setting_id,
        "linear_setting_id": one.linear.setting_id,
    }


def _by_seed(setting: Setting) -> dict[int, float]:
    return {run.spec["seed"]: run.metrics["test"]["accuracy"] for run in setting.tested}


def _amount(one: Gain) -> tuple[bool, float, float]:
    return one.adapted.amount_key
