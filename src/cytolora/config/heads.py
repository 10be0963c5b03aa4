"""Hyper-parameters of heads on frozen features; imported from config/run.py."""

from dataclasses import dataclass
from math import inf

from cytolora.config.budget import CLOSED, MAX_COUNT
from cytolora.core.schema import between, check_fields, list_of, whole
from cytolora.errors import ConfigError

MAX_SHOTS = 1_000_000
"""Images of a class; a larger number is a slip of the pen."""
_MAX_HIDDEN = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadSpec:
    """Hyper-parameters of a fitted head on frozen features; each method reads some of them."""

    shrinkage: float | None = None
    """Of the covariance of gda towards a multiple of the identity, in [0, 1]; None: d / (N - 1 + d), d features of
    N images."""
    penalty: float | None = None
    """Factor of the squared weights of logistic and ridge, above 0; None: chosen by cross-validation over groups."""
    neighbours: int | None = None
    """Of knn, at least 1; None: chosen on the validation images."""
    centre: bool = False
    """Whether nearest-mean takes the mean of the training features away before it scales them to length 1."""
    alpha: float | None = None
    """Weight of the training images beside the text in tip-adapter and tip-adapter-f, above 0; None: chosen on the
    validation images. In hxe, how fast the levels of the tree lose weight from the coarsest down; None: 0.5."""
    beta: float | None = None
    """How fast the likeness of images falls with their distance in tip-adapter, tip-adapter-f and proker, above 0;
    None: chosen on the validation images, or the authors' for the number of shots."""
    lam: float | None = None
    """Of proker, above 0: the smaller, the nearer to zero-shot; None: the authors' for the number of shots."""
    rates: tuple[float, ...] | None = None
    """Peak learning rates of a head that is trained by steps, each above 0; of several, validation chooses one; None:
    the method's own."""
    epochs: int | None = None
    """Passes over the training images of such a head, at least 0: 0 leaves it at its start; None: the method's own."""
    scale: float | None = None
    """Weight of the trained residual in task-residual, above 0; None: the authors'."""
    ratio: float | None = None
    """Share of the adapted feature beside the frozen one in clip-adapter, in (0, 1]; None: the authors'."""
    hidden: int | None = None
    """Width of the hidden layer of mlp, at least 1; None: 256."""
    step_limit: int | None = None
    """Truncates the training of a head that is trained by steps, at least 1, as ``max_steps`` does a budget: for dry
    runs, which the report marks; None: trains to its end."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise ConfigError(f"shrinkage is a share in [0, 1], got {self.shrinkage}.")
        if self.penalty is not None and not 0 < self.penalty < inf:
            raise ConfigError(f"penalty is a finite number above 0, got {self.penalty}.")
        if self.neighbours is not None and self.neighbours < 1:
            raise ConfigError(f"neighbours is a number of images, at least 1, got {self.neighbours}.")
        if self.ratio is not None and not 0 < self.ratio <= 1:
            raise ConfigError(f"ratio is a share in (0, 1], got {self.ratio}.")
        if self.hidden is not None and self.hidden < 1:
            raise ConfigError(f"hidden is a number of units, at least 1, got {self.hidden}.")
        if self.epochs is not None and self.epochs < 0:
            raise ConfigError(f"epochs is a number of passes over the training images, at least 0, got {self.epochs}.")
        if self.rates is not None and not (self.rates and all(0 < rate < inf for rate in self.rates)):
            raise ConfigError(f"rates is one or more finite learning rates above 0, got {list(self.rates)}.")
        for name in ("alpha", "beta", "lam", "scale"):
            value = getattr(self, name)
            if value is not None and not 0 < value < inf:
                raise ConfigError(f"{name} is a finite number above 0, got {value}.")
        factors = dict.fromkeys(("penalty", "alpha", "beta", "lam", "scale"), between(1e-30, 1e30))
        counts = {"neighbours": whole(1, MAX_SHOTS), "epochs": whole(0, MAX_COUNT), "hidden": whole(1, _MAX_HIDDEN)}
        check_fields(self, {**counts, **factors, "step_limit": whole(1, MAX_COUNT)})
        if self.rates is not None:
            check_fields(self, {"rates": list_of(between(1e-30, 1e30))})
