"""Decision rules: temperature, operating point, prediction sets and out-of-distribution threshold of a classifier."""

from dataclasses import dataclass

from cytolora.config.components import CLOSED
from cytolora.errors import BundleError


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """Summed probability of the positive classes at or above which an image counts as positive."""

    positive: tuple[str, ...]
    asked: float
    """Target sensitivity, in (0, 1]."""
    threshold: float
    """Images at or above it are positive."""
    sensitivity: float
    """On the calibration images, with the 95 % interval over their groups."""
    sensitivity_low: float
    sensitivity_high: float
    specificity: float
    specificity_low: float
    specificity_high: float
    num_positive: int
    """Calibration images of the positive classes."""
    promised: float | None = None
    """Sensitivity for images of a new group, on average over groups and calibrations: ``asked``, or what so few groups
    can promise. None in older bundles, whose threshold gives every image the same weight, not every group."""
    num_groups: int | None = None
    """Calibration groups that hold a positive image; an image whose group is not known is one of its own."""

    __pydantic_config__ = CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class Conformal:
    """Prediction sets: every class with a probability of at least 1 - ``quantile`` (decision/conformal.py)."""

    coverage: float
    """Nominal, in (0, 1), for an image of a new group."""
    quantile: float
    """Of the scores 1 - p(true class) on the calibration images, and a little more; 1: every class is in every set."""
    num_groups: int
    """Calibration groups; an image whose group is not known is one of its own."""
    is_folded: bool = False
    """Whether predictions of cross-validation on training groups were added: held-out groups alone were too few."""

    __pydantic_config__ = CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfDistribution:
    """Distance to the nearest training images above which an image is flagged (classifier/decision/ood.py)."""

    neighbours: int
    """k: the distance is that to the k-th nearest."""
    threshold: float
    quantile: float
    """Share of the calibration images below the threshold."""

    __pydantic_config__ = CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRules:
    """All that turns logits and features into a prediction; a rule that is None decides nothing."""

    classes: tuple[str, ...]
    """In the order of the logits."""
    temperature: float
    """Logits are divided by it before the softmax; above 0."""
    operating_point: OperatingPoint | None = None
    conformal: Conformal | None = None
    out_of_distribution: OutOfDistribution | None = None

    def __post_init__(self) -> None:
        if len(self.classes) < 2 or len(set(self.classes)) != len(self.classes):
            raise BundleError(f"classes are two or more different names, got {list(self.classes)}.")
        if self.temperature <= 0:
            raise BundleError(f"temperature is above 0, got {self.temperature}.")
        positive = self.operating_point.positive if self.operating_point else ()
        unknown = sorted(set(positive) - set(self.classes))
        if unknown:
            raise BundleError(f"the operating point names {unknown[0]!r}, which is none of the classes.")
