"""Specification of a training run: every choice that makes it up, as frozen plain data.

A run is a value: equal specs have equal ids, draw equal images and start from equal weights on any machine. Its parts
are defined in config/components.py and imported from here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cache
from math import inf
from typing import Any, Literal

from cytolora.config.budget import CLOSED, Budget, EarlyStopping
from cytolora.config.components import (
    SUBSETS,
    AdapterSpec,
    AugmentSpec,
    Preprocess,
    PreprocessChange,
    Sampling,
    SplitSpec,
    Subset,
    Target,
    TrainSpec,
    needs_text,
    trains_text_tower,
)
from cytolora.config.heads import HeadSpec
from cytolora.config.method_kinds import (
    FITTED_HEADS,
    LINEAR,
    PROMPT_METHODS,
    TEXT_HEADS,
    TREE_HEADS,
    ZERO_SHOT,
    MethodKind,
    method_kind,
)
from cytolora.config.prompts import PromptSpec
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.schema import FILE_NAME, NAME, WHOLE, Check, check_fields
from cytolora.errors import ConfigError

__all__ = [
    "FITTED_HEADS",
    "LINEAR",
    "PAPER",
    "PROMPT_METHODS",
    "SUBSETS",
    "TEXT_HEADS",
    "TREE_HEADS",
    "ZERO_SHOT",
    "AdapterSpec",
    "AugmentSpec",
    "Budget",
    "EarlyStopping",
    "HeadSpec",
    "HeadStart",
    "MethodKind",
    "Preprocess",
    "PreprocessChange",
    "PromptSpec",
    "RunSpec",
    "Sampling",
    "SplitSpec",
    "Subset",
    "Target",
    "TrainSpec",
    "method_kind",
    "needs_text",
    "to_plain",
    "trains_text_tower",
]

_LATER = frozenset(
    {
        *("leave_out", "resize_px", "local_file", "overrides", "head", "decoding", "precision", "alpha", "beta", "lam"),
        *("rates", "epochs", "scale", "ratio", "hidden", "step_limit"),
        *("val_shots", "sampling", "early_stopping", "warmup_epochs"),
        *("prompt", "tokens", "init", "transductive", "towers", "members"),
    }
)

PAPER = "paper"
"""The preset that changes nothing: the paper's text, and each backbone's own preprocessing."""

_DATASET = Check(
    f"{NAME.expected}, and no path",
    lambda value: NAME.is_right(value) and "/" not in value and value not in (".", ".."),
)
"""That of a grid is registered; ``fit`` takes the name of any folder, and only for what decides a run."""

FeaturePrecision = Literal["fp32", "int8"]
"""Of a frozen encoder; int8 is its linear layers, on a CPU (docs/performance.md)."""

HeadStart = Literal["random", "text"]
"""text: the rows of the head start as the embeddings of the class names, the option of the paper's public code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One training run, complete: nothing else decides its result but the data and the checkpoint themselves."""

    dataset: str
    """Registered name, with its label set where it has several: ``hicervix:25``."""
    backbone: str
    method: str
    """``linear``, a fitted head (``gda``), ``zero-shot``, or the name of an adapter method: ``lora``."""
    sampling: Sampling
    split: SplitSpec
    train: TrainSpec
    adapter: AdapterSpec | None = None
    """None for all methods that adapt nothing."""
    learning_rate: float
    """The peak of the cosine; 0 where nothing is trained by steps: ``zero-shot`` and fitted heads."""
    seed: int
    """Decides the draw, the start of the head and adapter, the order of batches, augmentation and dropout."""
    label_map_sha256: str | None = None
    """Hash of the file that gave the dataset's classes other names or joined some; None leaves them as they are."""
    head_start: HeadStart = "random"
    preset: str = PAPER
    """Name of the differences that were applied to the grid; what they are, the other fields say."""
    preprocess: Preprocess | None = None
    """None: the backbone's own."""
    head: HeadSpec | None = None
    """Hyper-parameters of a fitted head; None: its defaults, and all other methods."""
    prompt: PromptSpec | None = None
    """Hyper-parameters of prompt learning; None: its defaults, and all other methods."""
    transductive: bool | None = None
    """Whether the images of a subset are classified together (training/transduction/together.py); None: each alone."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        check_fields(self, {"dataset": _DATASET, "backbone": FILE_NAME, "method": FILE_NAME, "seed": WHOLE})
        if self.head == HeadSpec():
            object.__setattr__(self, "head", None)  # the same run has one id, however its defaults are written
        if self.prompt == PromptSpec():
            object.__setattr__(self, "prompt", None)
        if self.transductive is False:
            object.__setattr__(self, "transductive", None)
        if self.transductive and self.kind not in ("head", "linear"):
            raise ConfigError(f"transductive is for heads on frozen features, and {self.method} is none. Leave it out.")
        if (self.adapter is not None) != (self.kind == "adapter"):
            raise ConfigError(
                f"method {self.method!r} and adapter {self.adapter} do not fit: only linear has none, zero-shot, "
                f"{', '.join((*FITTED_HEADS, *PROMPT_METHODS))} and heads of plug-ins that are installed here."
            )
        if self.head is not None and self.kind != "head":
            raise ConfigError(f"method {self.method!r} has no head settings; only {', '.join(FITTED_HEADS)} have.")
        if self.trains_text_tower and self.head_start != "random":
            raise ConfigError(f"{self.method} in both towers has no head and so no head_start; leave it out.")
        if self.kind == "prompt" and self.head_start != "random":
            raise ConfigError(f"{self.method} has no head and so no head_start; it starts from its template.")
        if self.prompt is not None and self.kind != "prompt":
            raise ConfigError(f"method {self.method!r} has no prompt settings; only {', '.join(PROMPT_METHODS)} have.")
        if (self.sampling.shots == 0) != (self.kind == "zero_shot"):
            raise ConfigError(
                f"method {self.method!r} does not fit {self.sampling.amount}: only zero-shot has 0 shots."
            )
        if self.train.budget.early_stopping and self.sampling.val_shots == 0:
            raise ConfigError("early_stopping needs validation images; leave it out, or give val_shots above 0.")
        if not self.has_steps:
            if self.learning_rate != 0 or self.head_start != "random":
                why = "trains nothing" if self.kind == "zero_shot" else "is trained without steps"
                raise ConfigError(f"{self.method} {why}: it has learning_rate 0 and no head_start.")
        elif not 0 < self.learning_rate < inf:
            raise ConfigError(f"learning_rate must be a finite number above 0, got {self.learning_rate}.")

    @property
    def kind(self) -> MethodKind:
        """What its method trains."""
        return method_kind(self.method)

    @property
    def has_steps(self) -> bool:
        """Whether it is trained by gradient steps, and so has a learning rate and a budget."""
        return self.kind in ("linear", "adapter", "prompt")

    @property
    def max_steps(self) -> int | None:
        """Steps that its training is truncated to: a dry run; None: it is none."""
        limit = None if self.head is None else self.head.step_limit
        return self.train.budget.max_steps if limit is None else limit

    def num_steps(self, num_train: int) -> int:
        """Optimiser steps of the run with ``num_train`` training images."""
        if not self.has_steps:
            return 0
        return self.train.num_steps(num_train=num_train, shots=self.sampling.shots)

    def num_images_seen(self, num_train: int) -> int:
        """Training images that pass through the model, each as often as it is drawn."""
        return self.train.num_images_seen(num_train=num_train, num_steps=self.num_steps(num_train))

    @property
    def needs_text(self) -> bool:
        """Whether the class names are asked of a text encoder."""
        return needs_text(self.method, self.head_start, self.adapter)

    @property
    def trains_text_tower(self) -> bool:
        """Whether it trains in both encoders, and so has no head."""
        return trains_text_tower(self.method, self.adapter)

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
