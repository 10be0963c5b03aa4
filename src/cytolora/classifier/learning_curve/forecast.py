"""Forecast of the labels that a balanced accuracy takes, from a measured learning curve, with an interval."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cytolora.classifier.learning_curve.checks import MIN_FIT, MIN_POINTS, BackTest, back_test, lack_of_fit
from cytolora.classifier.learning_curve.curve import Curve, rounded_up
from cytolora.classifier.learning_curve.power_law import PowerLaw, fit_power_law
from cytolora.errors import ConfigError
from cytolora.metrics.intervals import MIN_GROUPS_APPROXIMATE

RESAMPLES = 1000
FARTHEST = 8
"""Times the largest number of labels measured; beyond it a forecast is an order of magnitude, and is marked."""
_LEVEL = 0.95

Verdict = Literal["reached", "within reach", "far", "out of reach", "withheld"]


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
    fit_p_value: float
    """Of lack of fit: small where the curve is no power law."""
    back_test: BackTest | None
    """None where too few numbers of shots were measured for one."""

    @property
    def needed(self) -> float:
        """Labels per class to train on that reach the target; infinity if none do."""
        return float(self.law.needed(self.target))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % of the resamples need a number in it; its upper end may be infinity.

        It also holds the numbers at which the curve meets the target with the back-test's error added and taken away:
        resamples know nothing of a curve of another form.
        """
        low, high = _interval(self.laws.needed(self.target))
        error = 0.0 if self.back_test is None else self.back_test.bound
        return (
            min(low, float(self.law.needed(self.target - error))),
            max(high, float(self.law.needed(self.target + error))),
        )

    def at(self, labels: float) -> tuple[float, float, float]:
        """Returns the balanced accuracy expected with so many labels, and its interval, in [0, 1].

        The interval is that of 95 % of the resamples with the back-test's error added and taken away.
        """
        error = 0.0 if self.back_test is None else self.back_test.bound
        low, high = _interval(self.laws.at([labels])[:, 0])
        value = float(self.law.at([labels])[0])
        return min(max(value, 0.0), 1.0), max(min(low, value - error), 0.0), min(max(high, value + error), 1.0)

    @property
    def share_reaching(self) -> float:
        """Share of the resamples whose curve reaches the target at all."""
        return float(np.isfinite(self.laws.needed(self.target)).mean())

    @property
    def doubts(self) -> list[str]:
        """Reasons to give no number, in words."""
        texts = []
        if self.fit_p_value < MIN_FIT:
            texts.append(f"the measured points do not lie on a power law (lack of fit, p = {self.fit_p_value:.2g})")
        if self.back_test is None:
            texts.append(
                f"a back-test takes at least {MIN_POINTS} numbers of shots, of which {len(self.means)} are measured"
            )
        elif not self.back_test.is_passed:
            texts.append("a power law through the points before does not predict the last two (back-test)")
        return texts

    @property
    def verdict(self) -> Verdict:
        """How much of the answer is measured."""
        most = self.curve.shots[-1]
        if self.doubts:
            return "withheld"
        if not np.isfinite(self.needed):
            return "out of reach"
        if self.needed <= most:
            return "reached"
        return "within reach" if self.needed <= FARTHEST * most else "far"

    def more(self) -> dict[str, int | None]:
        """Returns how many more images of each class are to be trained on; None if no number would do, or is given."""
        needed = None if self.verdict == "withheld" else rounded_up(self.needed)
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
    law = fit_power_law(curve.shots, means)
    return Forecast(
        curve=curve,
        target=target,
        law=law,
        laws=fit_power_law(curve.shots, resampled),
        means=means,
        resampled=resampled,
        fit_p_value=lack_of_fit(curve.shots, law, means, resampled),
        back_test=back_test(curve.shots, means, resampled),
    )


def check_target(target: float) -> None:
    """Raises a ConfigError if the target is no balanced accuracy."""
    if not 0 < target < 1:
        raise ConfigError(f"--target is a balanced accuracy in (0, 1), got {target}. For 80 % write 0.8.")


def in_words(found: Forecast) -> str:
    """Says what the forecast is in one or two sentences, and no more than it knows."""
    most, (low, high) = found.curve.shots[-1], found.interval
    number = (
        f"about {_number(found.needed)} labelled images per class to train on (95 % interval "
        f"{_range(low, high, most)}), if the curve is an inverse power law"
    )
    ceiling = _interval(found.laws.asymptote)
    match found.verdict:
        case "withheld":
            return (
                f"No forecast for balanced accuracy {found.target:g}: {'; '.join(found.doubts)}. {_measured(found)} "
                "Label some more and ask again."
            )
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
                f"(the curve says {_number(found.needed)}, interval {_range(low, high, most)}): an order of magnitude, "
                "not a number to plan with. Label some more and ask again."
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
    is_given = found.verdict != "withheld"
    low, high = found.interval
    bands = [_interval(found.resampled[:, place]) for place in range(len(found.curve.shots))]
    per_draw = found.curve.balanced_accuracies()[0].T
    per_draw_rates = zip(*(draw.learning_rates for draw in found.curve.draws), strict=True)
    return {
        "target": found.target,
        "verdict": found.verdict,
        "summary": in_words(found),
        "labels_per_class": rounded_up(found.needed) if is_given else None,
        "interval": [rounded_up(low), rounded_up(high)] if is_given else None,
        "share_of_resamples_reaching": found.share_reaching,
        "more_per_class": found.more(),
        "available_per_class": found.curve.available,
        "curve": {
            "asymptote": float(found.law.asymptote),
            "asymptote_interval": list(_interval(found.laws.asymptote)),
            "scale": float(found.law.scale),
            "exponent": float(found.law.exponent),
        },
        "lack_of_fit": {"p_value": found.fit_p_value, "passed": found.fit_p_value >= MIN_FIT},
        "back_test": None if found.back_test is None else found.back_test.plain(),
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


def _measured(found: Forecast) -> str:
    """Says which measured points reach the target, or how near the last comes."""
    reaching = [shots for shots, mean in zip(found.curve.shots, found.means, strict=True) if mean >= found.target]
    if reaching:
        return f"It was measured at {reaching[0]} labels."
    return f"At {found.curve.shots[-1]} labels {found.means[-1]:.3f} was measured."


def _number(labels: float) -> str:
    """Two digits: a forecast has no more."""
    return f"{float(f'{labels:.2g}'):,.0f}" if labels >= 10 else str(rounded_up(labels))


def _range(low: float, high: float, most: int) -> str:
    """Names an end beyond ``FARTHEST`` times the data only as that: it would be no number to plan with."""
    lower, farthest = _number(low) if np.isfinite(low) else "none reaches it", FARTHEST * most
    if not np.isfinite(high):
        return f"from {lower}, without an upper end"
    return f"{lower} to {_number(high)}" if high <= farthest or low > farthest else f"{lower} to more than {farthest:,}"
