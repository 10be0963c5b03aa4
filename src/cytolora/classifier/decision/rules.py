"""Decision rules: temperature, operating point, prediction sets and out-of-distribution threshold of a classifier."""

from dataclasses import dataclass

from cytolora.config.components import CLOSED
from cytolora.core.schema import COUNT, NAME, SHARE, Check, between, check_fields, list_of, whole
from cytolora.errors import ConfigError

_ASKED = between(0, 1, noun="a share", opens="low")
_INSIDE = between(0, 1, noun="a share", opens="both")
_GROUPS = whole(1, 2**31)
_ROUNDED_SHARE = between(0, 1 + 1e-6)
"""Sums of probabilities are 1 up to rounding."""

MAX_CLASSES = 10_000
TEMPERATURE: Check = between(1e-3, 1e3)
"""Fitted ones are in [0.05, 20] (metrics/calibration.py)."""


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

    def __post_init__(self) -> None:
        shares = ("sensitivity", "sensitivity_low", "sensitivity_high")
        shares += tuple(name.replace("sensitivity", "specificity") for name in shares)
        check_fields(
            self,
            {
                **{"positive": list_of(NAME, at_least=1), "asked": _ASKED, "promised": _ASKED},
                **{"threshold": _ROUNDED_SHARE, "num_positive": COUNT, "num_groups": _GROUPS},
                **dict.fromkeys(shares, SHARE),
            },
        )
        if len(set(self.positive)) != len(self.positive):
            raise ConfigError(f"positive names each class once, got {list(self.positive)}.")
        for name in ("sensitivity", "specificity"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if low > high:
                raise ConfigError(f"{name}_low is at most {name}_high, got {low} and {high}.")


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

    def __post_init__(self) -> None:
        check_fields(self, {"coverage": _INSIDE, "quantile": _ROUNDED_SHARE, "num_groups": _GROUPS})


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfDistribution:
    """Distance to the nearest training images above which an image is flagged (classifier/decision/ood.py)."""

    neighbours: int
    """k: the distance is that to the k-th nearest."""
    threshold: float
    quantile: float
    """Share of the calibration images below the threshold."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        farthest = 2 + 1e-3  # of two features of length one, and the margin of a threshold
        check_fields(
            self,
            {"neighbours": whole(1, 1_000_000), "threshold": between(0, farthest), "quantile": _ASKED},
        )


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
        if not 2 <= len(self.classes) <= MAX_CLASSES or len(set(self.classes)) != len(self.classes):
            raise ConfigError(
                f"classes are two or more different names, {MAX_CLASSES:,} at most, got {_shortened(self.classes)}."
            )
        check_fields(self, {"classes": list_of(NAME), "temperature": TEMPERATURE})
        positive = self.operating_point.positive if self.operating_point else ()
        unknown = sorted(set(positive) - set(self.classes))
        if unknown:
            raise ConfigError(f"the operating point names {unknown[0]!r}, which is none of the classes.")
        if len(positive) == len(self.classes):
            raise ConfigError("the operating point names every class, and at least one is negative.")


def _shortened(names: tuple[str, ...]) -> str:
    return f"{list(names[:5])}" if len(names) <= 5 else f"{list(names[:5])} and {len(names) - 5:,} more"
