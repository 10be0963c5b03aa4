"""Lack-of-fit test and back-test of a learning curve's power law."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from cytolora.classifier.learning_curve.power_law import PowerLaw, fit_power_law

Points = Float64[np.ndarray, " points"]
Resamples = Float64[np.ndarray, "resamples points"]

MIN_FIT = 0.1
"""p-value of lack of fit below which no number is given: curves of another form are refused more often than at 0.05,
and one in ten power laws with them."""
NUM_HELD_OUT = 2
"""Points, the last ones, that the back-test predicts from the others."""
MIN_POINTS = 3 + NUM_HELD_OUT
"""Points that a back-test takes: the curve has three unknowns."""
_ENDS = (0.025, 0.975)
_BOUND = 0.95
_ROUNDING = 1e-9
_LEAST_ERROR = 1e-4
"""Of a measured point: one that is equal in all resamples, such as a balanced accuracy of 1, would weigh too much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackTest:
    """The last points of a curve, predicted by a power law that was fitted without them."""

    shots: tuple[int, ...]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    resampled_errors: NDArray[np.float64]
    """Predicted minus measured in every resample, [resamples, points held out]."""

    @property
    def errors(self) -> NDArray[np.float64]:
        """Predicted minus measured balanced accuracy, [points held out]."""
        return self.predicted - self.measured

    @property
    def intervals(self) -> list[tuple[float, float]]:
        """95 % of the resampled errors, of each point."""
        return [(float(low), float(high)) for low, high in np.quantile(self.resampled_errors, _ENDS, axis=0).T]

    @property
    def is_passed(self) -> bool:
        """Whether every interval holds 0."""
        return all(low <= _ROUNDING and high >= -_ROUNDING for low, high in self.intervals)

    @property
    def bound(self) -> float:
        """Error that the largest of a resample stays under in 95 % of the resamples."""
        return float(np.quantile(np.abs(self.resampled_errors).max(axis=1), _BOUND))

    def plain(self) -> dict[str, Any]:
        """Returns it for JSON."""
        return {
            "shots": list(self.shots),
            "predicted": self.predicted.tolist(),
            "measured": self.measured.tolist(),
            "error_intervals": [list(interval) for interval in self.intervals],
            "bound": self.bound,
            "passed": self.is_passed,
            "text": str(self),
        }

    def __str__(self) -> str:
        points = [
            f"{predicted:.3f} at {shots} labels ({measured:.3f} measured, error {error:+.3f}, 95 % interval "
            f"{low:+.3f} to {high:+.3f})"
            for shots, predicted, measured, error, (low, high) in zip(
                self.shots, self.predicted, self.measured, self.errors, self.intervals, strict=True
            )
        ]
        return f"Back-test: without the last {len(self.shots)} points the curve predicts {' and '.join(points)}."


def back_test(shots: tuple[int, ...], means: Points, resampled: Resamples) -> BackTest | None:
    """Fits the points but the last two, and predicts these; None where too few are left for a curve."""
    if len(shots) < MIN_POINTS:
        return None
    fitted, held_out = shots[:-NUM_HELD_OUT], shots[-NUM_HELD_OUT:]
    errors = fit_power_law(fitted, resampled[:, : len(fitted)]).at(held_out) - resampled[:, len(fitted) :]
    return BackTest(
        shots=held_out,
        predicted=fit_power_law(fitted, means[: len(fitted)]).at(held_out),
        measured=means[len(fitted) :],
        resampled_errors=errors,
    )


def lack_of_fit(shots: tuple[int, ...], law: PowerLaw, means: Points, resampled: Resamples) -> float:
    """Returns the p-value of residuals as large as these, were the fitted power law true.

    The residuals, weighted by the inverse covariance of the resamples, are compared with those of the law with the
    resamples' deviations added and fitted again (parametric bootstrap; Efron & Tibshirani 1993, Sec. 16.4).
    """
    precision = np.linalg.inv(np.cov(resampled.T) + _LEAST_ERROR**2 * np.eye(len(shots)))
    fitted = law.at(shots)
    drawn = fitted + (resampled - means)
    observed = _weighted(means - fitted, precision)
    return float((_weighted(drawn - fit_power_law(shots, drawn).at(shots), precision) >= observed - _ROUNDING).mean())


def _weighted(residuals: NDArray[np.float64], precision: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared length of residuals, [points] or [resamples, points]."""
    return ((residuals @ precision) * residuals).sum(axis=-1)
