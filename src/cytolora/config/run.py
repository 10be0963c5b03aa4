"""The vocabulary: every choice that makes up a run, as frozen plain data; all of it is imported from here.

A run is a value: equal specs have equal ids, draw equal images and start from equal weights on any machine. What a run
is made of stands in config/components.py.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from math import inf
from typing import Any, Literal

from cytolora.config.components import (
    CLOSED,
    LINEAR,
    SUBSETS,
    ZERO_SHOT,
    AdapterSpec,
    AugmentSpec,
    Budget,
    Preprocess,
    PreprocessChange,
    Sampling,
    SplitSpec,
    Subset,
    Target,
    TrainSpec,
)
from cytolora.config.grid_checks import check_axes
from cytolora.core.files import canonical_json, sha256_text
from cytolora.errors import ConfigError

__all__ = [
    "LINEAR",
    "PAPER",
    "SUBSETS",
    "ZERO_SHOT",
    "AdapterSpec",
    "AugmentSpec",
    "Budget",
    "GridSpec",
    "HeadStart",
    "MethodSpec",
    "Preprocess",
    "PreprocessChange",
    "RunSpec",
    "Sampling",
    "SplitSpec",
    "Subset",
    "Target",
    "TrainSpec",
    "to_plain",
]

_SPLIT, _AUGMENT = SplitSpec(), AugmentSpec()

_LATER = frozenset({"resize_px", "local_file"})

PAPER = "paper"
"""The preset that changes nothing: the paper's text, and each backbone's own preprocessing."""

HeadStart = Literal["random", "text"]
"""text: the rows of the head start as the embeddings of the class names, the option of the paper's public code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One training run, complete: nothing else decides its result but the data and the checkpoint themselves."""

    dataset: str
    """Registered name, with its label set where it has several: ``hicervix:25``."""
    backbone: str
    method: str
    """``linear``, or the name of an adapter method: ``lora``."""
    sampling: Sampling
    split: SplitSpec
    train: TrainSpec
    adapter: AdapterSpec | None = None
    """None for ``linear`` and ``zero-shot``."""
    learning_rate: float
    """The peak of the cosine; 0 for ``zero-shot``."""
    seed: int
    """Decides the draw, the start of the head and adapter, the order of batches, augmentation and dropout."""
    label_map_sha256: str | None = None
    """Hash of the file that gave the dataset's classes other names or joined some; None leaves them as they are."""
    head_start: HeadStart = "random"
    preset: str = PAPER
    """Name of the differences that were applied to the grid; what they are, the other fields say."""
    preprocess: Preprocess | None = None
    """None: the backbone's own."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if (self.adapter is None) != (self.method in (LINEAR, ZERO_SHOT)):
            raise ConfigError(
                f"method {self.method!r} and adapter {self.adapter} do not fit: only linear has none, and zero-shot."
            )
        if (self.sampling.shots == 0) != (self.method == ZERO_SHOT):
            raise ConfigError(
                f"method {self.method!r} does not fit {self.sampling.amount}: only zero-shot has 0 shots."
            )
        if self.method == ZERO_SHOT:
            if self.learning_rate != 0 or self.head_start != "random":
                raise ConfigError("zero-shot trains nothing: it has learning_rate 0 and no head_start.")
        elif not 0 < self.learning_rate < inf:
            raise ConfigError(f"learning_rate must be a finite number above 0, got {self.learning_rate}.")

    @property
    def needs_text(self) -> bool:
        """Whether the class names are asked of a text encoder."""
        return self.method == ZERO_SHOT or self.head_start == "text"

    @property
    def run_id(self) -> str:
        """A readable prefix and the first 8 hexadecimal digits of SHA-256 over the spec's canonical JSON."""
        prefix = [self.dataset.replace(":", "-"), self.backbone, self.method, self.sampling.amount]
        return "_".join([*prefix, f"lr{self.learning_rate:g}", f"s{self.seed}", _digest(_essence(self))])

    @property
    def setting_id(self) -> str:
        """Names the setting (a row of the results) that this run belongs to: everything but learning rate and seed."""
        plain = _essence(self)
        del plain["learning_rate"], plain["seed"]
        return "_".join(
            [self.dataset.replace(":", "-"), self.backbone, self.method, self.sampling.amount, _digest(plain)]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """One method of a grid, with its own budget."""

    budget: Budget | None = None
    """None for ``zero-shot``, and for it alone."""
    adapter: AdapterSpec | None = None
    learning_rates: tuple[float, ...] | None = None
    """Replaces the grid's for this method."""
    head_start: HeadStart = "random"
    cosine_steps: int | None = None
    """See TrainSpec."""

    __pydantic_config__ = CLOSED


@dataclass(frozen=True, slots=True, kw_only=True)
class GridSpec:
    """A sweep: every combination of its axes is a run."""

    name: str
    description: str = ""
    datasets: tuple[str, ...]
    models: tuple[str, ...]
    methods: Mapping[str, MethodSpec]
    shots: tuple[int | Literal["all"], ...] = ()
    """Images per class; ``all`` uses the whole training set."""
    fractions: tuple[float, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    learning_rates: tuple[float, ...] = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
    split: SplitSpec = _SPLIT
    max_val_shots: int | None = 4
    on_small_class: Literal["error", "repeat"] = "error"
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_steps: int = 50
    augment: AugmentSpec | None = _AUGMENT
    augment_frozen: bool = False
    """Whether the linear classifier too trains on augmented images, one view of each (the paper's public code)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    preprocess: PreprocessChange | None = None
    """For all backbones; None: each one's own."""
    reference_attention_bug: bool = False
    """Gives adapters the wrong attention of the paper's public code, on the backbones that had it and no others."""
    label_map_sha256: str | None = None
    """Set by ``--map``."""
    preset: str = PAPER
    """Set by ``--preset``."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        for name, method in self.methods.items():
            if name == ZERO_SHOT and method != MethodSpec():
                raise ConfigError("zero-shot trains nothing and has no settings; write `zero-shot: {}`.")
            if name != ZERO_SHOT and method.budget is None:
                raise ConfigError(f"methods.{name}.budget is missing.")
        if not self.shots and not self.fractions and set(self.methods) != {ZERO_SHOT}:
            raise ConfigError(
                f"Grid {self.name!r} has neither shots nor fractions; give at least one (`shots: [all]`)."
            )
        check_axes(self)


def to_plain(spec: Any) -> dict[str, Any]:
    """Turns a spec into dicts, lists, numbers and strings, ready for JSON.

    A field that came later is left out while it is as before: features and bundles are named by what they had.
    """
    return _plain(asdict(spec, dict_factory=_without_later))


def _without_later(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if name not in _LATER or value is not None}


def _essence(spec: Any) -> dict[str, Any]:
    """Returns what identifies a spec: fields that hold their default are left out, so a new field renames no old run.

    The price: a default is for ever. tests/config/test_specs.py pins ids, so that changing one does not go unseen.
    """
    essence = {}
    for name, default in _defaults(type(spec)):
        value = getattr(spec, name)
        if value != default:
            essence[name] = _essence(value) if is_dataclass(value) else _plain(value)
    return essence


@cache
def _defaults(kind: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((entry.name, entry.default) for entry in fields(kind))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _digest(plain: Any) -> str:
    return sha256_text(canonical_json(plain))[:8]
