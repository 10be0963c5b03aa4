"""Forecast of the labels that a balanced accuracy takes, from a measured learning curve, with an interval."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.learning_curve.measure import Curve, rounded_up
from cytolora.classifier.learning_curve.power_law import PowerLaw, fit_power_law
from cytolora.errors import ConfigError
from cytolora.metrics.intervals import MIN_GROUPS_APPROXIMATE

RESAMPLES = 1000
FARTHEST = 8
"""Times the largest number of labels measured; beyond it a forecast is an order of magnitude, and is marked."""
_LEVEL = 0.95

Verdict = Literal["reached", "within reach", "far", "out of reach"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A curve, its fit, and what follows for one target."""

    curve: Curve
    target: float
    """Balanced accuracy, in (0, 1)."""
    law: PowerLaw
    """Fitted to the means over the draws."""
    laws: PowerLaw
    """Fitted to every resample of groups and draws."""
    means: NDArray[np.float64]
    """Balanced accuracy at each number of shots."""
    resampled: NDArray[np.float64]
    """[resamples, shots]"""

    @property
    def needed(self) -> float:
        """Labels per class to train on that reach the target; infinity if none do."""
        return float(self.law.needed(self.target))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the resamples need a number in it; its upper end may be infinity."""
        return _interval(self.laws.needed(self.target))

    @property
    def share_reaching(self) -> float:
        """Share of the resamples whose curve reaches the target at all."""
        return float(np.isfinite(self.laws.needed(self.target)).mean())

    @property
    def verdict(self) -> Verdict:
        """How much of the answer is measured."""
        most = self.curve.shots[-1]
        if not np.isfinite(self.needed):
            return "out of reach"
        if self.needed <= most:
            return "reached"
        return "within reach" if self.needed <= FARTHEST * most else "far"

    def more(self) -> dict[str, int | None]:
        """Returns how many more images of each class are to be trained on; None if no number would do."""
        needed = rounded_up(self.needed)
        available = self.curve.available
        return {label: None if needed is None else max(0, needed - available[label]) for label in available}


def forecast(curve: Curve, target: float, *, seed: int = 0) -> Forecast:
    """Fits the curve, and once more for each of ``RESAMPLES`` resamples of the groups and of the draws.

    Groups (images, where those are not known) are drawn with replacement once for all draws: the same patient may be
    tested in several of them.

    Raises:
        ConfigError: If the target is no balanced accuracy.
    """
    check_target(target)
    random = np.random.default_rng(seed)
    units = sorted({unit for draw in curve.draws for unit in draw.test_units})
    drawn = random.multinomial(len(units), np.full(len(units), 1 / len(units)), size=RESAMPLES).astype(np.float32)
    accuracies = curve.balanced_accuracies({unit: drawn[:, place] for place, unit in enumerate(units)})
    num_draws = len(curve.draws)
    weights = random.multinomial(num_draws, np.full(num_draws, 1 / num_draws), size=RESAMPLES) / num_draws
    resampled = np.einsum("rd,rds->rs", weights, accuracies)
    means = curve.balanced_accuracies()[0].mean(axis=0)
    return Forecast(
        curve=curve,
        target=target,
        law=fit_power_law(curve.shots, means),
        laws=fit_power_law(curve.shots, resampled),
        means=means,
        resampled=resampled,
    )


def check_target(target: float) -> None:
    """Raises a ConfigError if the target is no balanced accuracy."""
    if not 0 < target < 1:
        raise ConfigError(f"--target is a balanced accuracy in (0, 1), got {target}. For 80 % write 0.8.")


def in_words(found: Forecast) -> str:
    """Says what the forecast is in one or two sentences, and no more than it knows."""
    most, (low, high) = found.curve.shots[-1], found.interval
    number = f"about {_number(found.needed)} labelled images per class to train on (95 % interval {_range(low, high)})"
    ceiling = _interval(found.laws.asymptote)
    match found.verdict:
        case "reached":
            return f"Balanced accuracy {found.target:g} is reached with {number}; the data measured up to {most}."
        case "within reach":
            short = min(found.curve.available, key=lambda label: found.curve.available[label])
            return (
                f"Balanced accuracy {found.target:g} would take {number}: {found.more()[short]} more of {short!r}, the "
                f"rarest class. Measured up to {most}."
            )
        case "far":
            return (
                f"Balanced accuracy {found.target:g} lies more than {FARTHEST} times beyond the {most} labels measured "
                f"(the curve says {_number(found.needed)}, interval {_range(low, high)}): an order of magnitude, not a "
                "number to plan with. Label some more and ask again."
            )
        case "out of reach":
            return (
                f"Balanced accuracy {found.target:g} is beyond this curve, which levels off at "
                f"{float(found.law.asymptote):.2f} (95 % interval {ceiling[0]:.2f} to {ceiling[1]:.2f}); "
                f"{found.share_reaching:.0%} of the resamples reach it. No number of labels is given: try another "
                "model, or one that is adapted (`lora`)."
            )


def warnings(found: Forecast) -> list[str]:
    """Lists what a reader must know before trusting the numbers."""
    curve, texts = found.curve, []
    num_units = len({unit for draw in curve.draws for unit in draw.test_units})
    if not curve.by_group:
        texts.append("Groups are not known: images of one patient may stand on both sides, and the curve be too good.")
    if num_units < MIN_GROUPS_APPROXIMATE:
        texts.append(f"Only {num_units} groups are tested on; intervals come out too narrow.")
    if len(curve.draws) < 3:
        texts.append(f"Only {len(curve.draws)} draws; take at least 3 seeds.")
    if float(found.law.scale) == 0:
        texts.append("The curve does not rise with labels; what it says of more of them is a mean, not a trend.")
    return texts


def plain(found: Forecast) -> dict[str, Any]:
    """Returns all of it for JSON; null stands for no number."""
    low, high = found.interval
    bands = [_interval(found.resampled[:, place]) for place in range(len(found.curve.shots))]
    per_draw = found.curve.balanced_accuracies()[0].T
    per_draw_rates = zip(*(draw.learning_rates for draw in found.curve.draws), strict=True)
    return {
        "target": found.target,
        "verdict": found.verdict,
        "summary": in_words(found),
        "labels_per_class": rounded_up(found.needed),
        "interval": [rounded_up(low), rounded_up(high)],
        "share_of_resamples_reaching": found.share_reaching,
        "more_per_class": found.more(),
        "available_per_class": found.curve.available,
        "curve": {
            "asymptote": float(found.law.asymptote),
            "asymptote_interval": list(_interval(found.laws.asymptote)),
            "scale": float(found.law.scale),
            "exponent": float(found.law.exponent),
        },
        "points": [
            {
                "shots": shots,
                "balanced_accuracy": float(mean),
                "interval": list(band),
                "draws": [float(value) for value in values],
                "learning_rates": list(rates),
            }
            for shots, mean, band, values, rates in zip(
                found.curve.shots, found.means, bands, per_draw, per_draw_rates, strict=True
            )
        ],
        "split_rule": found.curve.split_rule,
        "warnings": warnings(found),
    }


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 %; values of the sample itself, so that infinity may be one."""
    ends = np.quantile(values, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], method="inverted_cdf")
    return float(ends[0]), float(ends[1])


def _number(labels: float) -> str:
    """Two digits: a forecast has no more."""
    return f"{float(f'{labels:.2g}'):,.0f}" if labels >= 10 else str(rounded_up(labels))


def _range(low: float, high: float) -> str:
    lower = _number(low) if np.isfinite(low) else "none reaches it"
    return f"{lower} to {_number(high)}" if np.isfinite(high) else f"from {lower}, without an upper end"
