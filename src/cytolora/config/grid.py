"""Specification of a grid: its axes, its methods and their budgets, checked when it is made."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite, prod
from typing import Any, Literal

from cytolora.config.components import (
    CLOSED,
    AdapterSpec,
    AugmentSpec,
    Budget,
    PreprocessChange,
    SplitSpec,
    trains_text_tower,
)
from cytolora.config.heads import HeadSpec
from cytolora.config.method_kinds import (
    FITTED_HEADS,
    PROMPT_METHODS,
    MethodKind,
    method_kind,
)
from cytolora.config.prompts import PromptSpec
from cytolora.config.run import PAPER, HeadStart
from cytolora.core.schema import COUNT, FILE_NAME, Check, between, check_fields, list_of, whole
from cytolora.errors import ConfigError

_SPLIT, _AUGMENT = SplitSpec(), AugmentSpec()

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,39}")

_SHOTS = Check("all or at most 1,000,000 images", lambda value: value == "all" or value <= 1_000_000)
_MAX_RUNS = 1_000_000
"""Product of the axes: a grid of more is a slip of the pen, and fills the memory before anything runs."""
_END_OF_SEEDS = 2**63
"""Upper limit of seeds that PyTorch's and NumPy's generators both take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """One method of a grid, with its own budget."""

    method: str | None = None
    """The registered method of a named variant: ``lora-r2: {method: lora, ...}``; None: the name is the method."""
    budget: Budget | None = None
    """None for methods without steps, ``zero-shot`` and fitted heads, and for them alone."""
    adapter: AdapterSpec | None = None
    learning_rates: tuple[float, ...] | None = None
    """Replaces the grid's for this method."""
    head_start: HeadStart = "random"
    cosine_steps: int | None = None
    """See TrainSpec."""
    head: HeadSpec | None = None
    """Hyper-parameters of a fitted head; None: its defaults, and all other methods."""
    prompt: PromptSpec | None = None
    """Hyper-parameters of prompt learning; None: its defaults, and all other methods."""
    transductive: bool = False
    """Classifies the images of a subset together, for heads on frozen features; a named variant of its method stands
    beside it: ``gda-together: {method: gda, transductive: true}``."""

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
    split_seeds: tuple[int, ...] = ()
    """Replace ``split.seed``, a division each; empty: the one of ``split``. Official subsets are one division."""
    leave_out: tuple[str, ...] = ()
    """``COLUMN=VALUE`` each: a division for each metadata value, whose images are the test set (SplitSpec)."""
    max_val_shots: int | None = 4
    on_small_class: Literal["error", "repeat"] = "error"
    val_shots: int | Literal["none"] | None = None
    """Validation images per class whatever the amount; ``none`` or 0: no validation, so that every choice that needs it
    is given as one value. None: ``max_val_shots``."""
    sampling: Literal["per_class", "natural"] = "per_class"
    """natural: as many labels as ``shots`` of every class make, in the data's own prevalence (Sampling)."""
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup_steps: int = 50
    warmup_epochs: int | None = None
    """Replaces ``warmup_steps`` by passes over the training images."""
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
        check_fields(self, {"name": FILE_NAME, "preset": FILE_NAME})
        for name, method in self.methods.items():
            _check_name(name, method)
            kind = self.kind_of(name)
            if kind == "zero_shot" and method != MethodSpec():
                raise ConfigError("zero-shot trains nothing and has no settings; write `zero-shot: {}`.")
            if kind == "head" and method != _of_head(method):
                raise ConfigError(
                    f"{name} is trained without steps: it has no budget, learning rates, adapter or head_start. Write "
                    f"`{name}: {{}}`, or its own settings below `head`."
                )
            if kind != "head" and method.head is not None:
                raise ConfigError(f"methods.{name}.head: only {', '.join(FITTED_HEADS)} have head settings.")
            if kind != "prompt" and method.prompt is not None:
                raise ConfigError(f"methods.{name}.prompt: only {', '.join(PROMPT_METHODS)} have prompt settings.")
            if kind == "prompt" and method.head_start != "random":
                raise ConfigError(f"methods.{name}: {name} has no head, and so no head_start. Leave it out.")
            if trains_text_tower(self.method_of(name), method.adapter) and method.head_start != "random":
                raise ConfigError(f"methods.{name}: in both towers it has no head, and so no head_start. Leave it out.")
            if kind in ("linear", "adapter", "prompt") and method.budget is None:
                raise ConfigError(f"methods.{name}.budget is missing.")
        if not self.shots and not self.fractions and any(self.kind_of(name) != "zero_shot" for name in self.methods):
            raise ConfigError(
                f"Grid {self.name!r} has neither shots nor fractions; give at least one (`shots: [all]`)."
            )
        _check_sampling(self)
        _check_axes(self)
        check_fields(self, {"batch_size": whole(1, 1_000_000), "warmup_steps": COUNT, "weight_decay": between(0, 1e6)})
        check_fields(self, {"shots": list_of(_SHOTS)})
        _check_divisions(self)

    def method_of(self, name: str) -> str:
        """Returns the registered method behind a name of ``methods``."""
        return self.methods[name].method or name

    def kind_of(self, name: str) -> MethodKind:
        """Returns what the method behind a name of ``methods`` trains."""
        return method_kind(self.method_of(name))

    @property
    def splits(self) -> tuple[SplitSpec, ...]:
        """The divisions of a dataset without official subsets: each value left out, with each split seed."""
        seeds, left_out = self.split_seeds or (self.split.seed,), self.leave_out or (self.split.leave_out,)
        return tuple(replace(self.split, seed=seed, leave_out=value) for value in left_out for seed in seeds)


def _of_head(method: MethodSpec) -> MethodSpec:
    """Keeps what a head without steps may set."""
    return MethodSpec(method=method.method, head=method.head, transductive=method.transductive)


def _check_name(name: str, method: MethodSpec) -> None:
    """Checks the name of a variant: it stands in tables and on the command line."""
    if method.method is None:
        return
    if method_kind(method.method) == "zero_shot":
        raise ConfigError(f"methods.{name}: zero-shot has nothing to vary and no variants; write `zero-shot: {{}}`.")
    if not _NAME.fullmatch(name) or name.isdigit():
        raise ConfigError(
            f"methods: a variant's name is up to 40 letters, digits and any of . _ + - after the first, no number, "
            f"got {name!r}."
        )


def _check_sampling(grid: GridSpec) -> None:
    """Raises a ConfigError where the draw cannot be made, or nothing could choose what is left to validation."""
    name, whole_shots = f"Grid {grid.name!r}", [shots for shots in grid.shots if shots != "all"]
    if grid.sampling == "natural" and (grid.fractions or len(whole_shots) < len(grid.shots)):
        raise ConfigError(f"{name}: sampling: natural needs shots; fractions and all images have their prevalence.")
    check_fields(grid, {"warmup_epochs": COUNT})
    if grid.val_shots is None:
        return
    if grid.val_shots == "none":
        object.__setattr__(grid, "val_shots", 0)  # the same grid, however it is written
    check_fields(grid, {"val_shots": whole(0, 1_000_000)})
    for method, spec in grid.methods.items() if grid.val_shots == 0 else ():
        rates = grid.learning_rates if spec.learning_rates is None else spec.learning_rates
        if spec.budget is not None and spec.budget.early_stopping is not None:
            raise ConfigError(f"{name}, {method}: early_stopping needs validation images, and val_shots is none.")
        if spec.budget is not None and len(rates) != 1:
            raise ConfigError(
                f"{name}, {method}: without validation images (val_shots: none) nothing chooses among {len(rates)} "
                "learning rates; give one (`--learning-rates 0.001`)."
            )


def _check_divisions(grid: GridSpec) -> None:
    """Raises a ConfigError where the divisions are not what ``split`` says."""
    name = f"Grid {grid.name!r}"
    if grid.leave_out and (grid.split.file_sha256 or grid.split.leave_out):
        raise ConfigError(f"{name}: leave_out says what is tested on; leave out split.leave_out and the split file.")
    if not grid.split_seeds:
        return
    if grid.split.file_sha256 is not None:
        raise ConfigError(f"{name}: a split file is one division; leave out split_seeds, or the file.")
    if grid.split.seed != 0:
        raise ConfigError(f"{name}: split.seed and split_seeds exclude each other; give one of them.")


def _check_axes(grid: GridSpec) -> None:
    """Raises a ConfigError for the first wrong value of an axis, or of any number in the grid."""
    name = f"Grid {grid.name!r}"
    for axis in ("datasets", "models", "methods", "seeds", "learning_rates"):
        if not getattr(grid, axis):
            raise ConfigError(f"{name} has no {axis}; name at least one.")
    lengths = (len(getattr(grid, axis)) for axis in ("datasets", "models", "methods", "seeds", "learning_rates"))
    amounts, divisions = (
        len(grid.shots) + len(grid.fractions),
        len(grid.split_seeds or (0,)) * len(grid.leave_out or (0,)),
    )
    if (runs := prod(lengths) * max(1, amounts) * divisions) > _MAX_RUNS:
        raise ConfigError(f"{name} has {runs:,} runs, expected {_MAX_RUNS:,} at most; take values out of its axes.")
    for where, value in _numbers(asdict(grid)):
        if not isfinite(value):
            raise ConfigError(f"{name}: {where} is a finite number, got {value}.")
    for axis in ("datasets", "models", "shots", "fractions", "seeds", "split_seeds", "leave_out", "learning_rates"):
        _refuse_doubles(f"{name}: {axis}", getattr(grid, axis))
    for method, spec in grid.methods.items():
        if spec.learning_rates == ():
            raise ConfigError(f"{name}: methods.{method}.learning_rates is empty; name at least one, or leave it out.")
        _refuse_doubles(f"{name}: methods.{method}.learning_rates", spec.learning_rates or ())
    for seed in (*grid.seeds, *grid.split_seeds):
        if not 0 <= seed < _END_OF_SEEDS:
            raise ConfigError(f"{name}: a seed is a whole number from 0 to 2^63 - 1, got {seed}.")


def _refuse_doubles(axis: str, values: Sequence[Any]) -> None:
    """A run that is listed twice is stored once: its job would never be finished."""
    doubled = [value for index, value in enumerate(values) if value in values[:index]]
    if doubled:
        raise ConfigError(f"{axis} name {doubled[0]!r} twice; name each value once.")


def _numbers(plain: Any, where: str = "") -> Iterator[tuple[str, float]]:
    """Yields the fractional numbers in plain data, each with the keys that lead to it."""
    if isinstance(plain, float):
        yield where, plain
    elif isinstance(plain, dict):
        for key, inner in plain.items():
            yield from _numbers(inner, f"{where}.{key}" if where else str(key))
    elif isinstance(plain, list | tuple):
        for inner in plain:
            yield from _numbers(inner, where)
