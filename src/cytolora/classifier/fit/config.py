"""Options and configuration of `fit`: backbone, method, training protocol, and the time training will take."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from cytolora.config.method_kinds import ENSEMBLE, TWO_TOWERS, ReaderLabels, Weighting
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import (
    LINEAR,
    AdapterSpec,
    FeaturePrecision,
    RunSpec,
    Sampling,
    SplitSpec,
    method_kind,
    needs_text,
)
from cytolora.core.arguments import (
    AnyPath,
    Converted,
    OneOrMany,
    as_names,
    as_numbers,
    as_path,
    as_path_or_none,
)
from cytolora.core.cache_folder import default_cache
from cytolora.errors import ConfigError, unknown_name
from cytolora.models.adapters.methods import METHODS, Method
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.models.checkpoints.hub import find
from cytolora.training.protocol import FIT_ADAPTER, FIT_ADAPTER_FEW_SHOT, FIT_LINEAR, FIT_PROMPT, Protocol, fitted
from cytolora.training.resources import Inputs

_BEST_LINEAR = ("uni", "quiltnet-b16", "vit-b16", "clip-vit-b16", "biomedclip")
"""By mean accuracy of linear classifiers over four cytology datasets: Dausort et al. 2025, Table 1."""
_BEST_ADAPTED = ("clip-vit-b16", "vit-b16", "uni", "quiltnet-b16", "biomedclip")
"""CLIP generalises best from few labels with LoRA: Dausort et al. 2025, Sec. 4.2."""
_BUILT_IN, _BUILT_IN_WITH_TEXT = "nano", "nano-clip"

_TRAINING_COST = 3.0
"""A step against a forward pass of the same images: the backward pass costs about twice the forward."""
_NUM_SEEDS = 2**32
_MAX_REPEATS = 100
DEFAULT_CACHE = default_cache()
"""Of the Python interface: a library writes nothing into the folder that it is called from."""

_Names = Converted[OneOrMany[str], tuple[str, ...]]
_Numbers = Converted[OneOrMany[float], tuple[float, ...]]
_Path = Converted[AnyPath, Path]
_MaybePath = Converted[AnyPath | None, Path | None]


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Everything that ``fit`` can be asked for; None leaves the choice to ``choose_config``."""

    model: str | None = None
    """Backbone; the best one on this machine if None."""
    method: str | None = None
    """``linear``, a fitted head such as ``gda``, prompts such as ``coop``, ``lora`` or another adapter; None: linear
    on a CPU, LoRA on a GPU."""
    ensemble: _Names = Converted(as_names, ())
    """Heads on frozen features, two or more, whose calibrated probabilities are averaged, in the place of ``method``;
    ``linear`` or fitted ones such as ``gda``."""
    ensemble_weights: Weighting = "equal"
    """Of the mean: ``equal``, or ``validation``: those under which the true classes of the images that temperatures are
    fitted on are most probable."""
    shots: int | None = None
    """Training images per class; None: all."""
    seed: int = 0
    """Of the draw, the folds and the start of training, in [0, 2^32)."""
    positive: _Names = Converted(as_names, ())
    """Classes that must not be missed; empty: no operating point."""
    sensitivity: float = 0.95
    """Target share of positive images found, for new groups."""
    lower_sensitivity: bool = False
    """Takes the sensitivity that the calibration groups can promise where they are too few for ``sensitivity``."""
    coverage: float = 0.9
    """Nominal, of the prediction sets, in (0, 1)."""
    learning_rates: _Numbers = Converted(as_numbers, ())
    """To choose from, above 0; empty: those of the recipe."""
    max_steps: int | None = None
    """Truncates training, for a dry run."""
    repeats: int = 0
    """Divisions, from 2 to 100, that a head is trained and tested on besides: the accuracy to expect; 0: none."""
    precision: Literal["fp32", "bf16", "int8"] = "fp32"
    """bf16: of adapter training; int8: of frozen features, on a CPU. Heads are trained in fp32 in any case."""
    reader_labels: ReaderLabels = "agreed"
    """Of a project of ``cytolora label``: ``agreed``, cells on which readers differ and nobody decided left out; or
    ``soft``, such cells trained on with the share of readers who gave each class."""
    label_map: _MaybePath = Converted(as_path_or_none, None)
    """CSV with columns from,to[,order] that renames or joins classes."""
    pool: _MaybePath = Converted(as_path_or_none, None)
    """Label map (a shipped name or a YAML file) that makes the datasets that ``fit`` is given one."""
    split: _MaybePath = Converted(as_path_or_none, None)
    """File written by ``split``; the dataset's own subsets or a division by group if None."""
    leave_out: str | None = None
    """Metadata column and value, ``site=B``, whose images are the test set; excludes ``split`` and ``repeats``."""
    weights_dir: _MaybePath = Converted(as_path_or_none, None)
    """Folder written by ``cytolora weights fetch``; looked into before the hub's cache."""
    trust_weights: bool = False
    """Goes on by the backbone's entry where a configuration beside its weights says otherwise."""
    reading: ReadOptions = AS_IT_STANDS
    """What the files of the dataset leave to choose."""
    cache: _Path = Converted(as_path, DEFAULT_CACHE)
    """Folder of decoded images, features and trained adapters; the same call resumes from there."""
    own_backbones: _Names = Converted(as_names, ())
    """Names of registered backbones of one's own, one of which is meant where ``model`` is None."""

    def __post_init__(self) -> None:
        if min(self.learning_rates, default=1.0) <= 0:
            raise ConfigError(f"Learning rates are above 0, got {min(self.learning_rates)}.")
        self._check_ensemble()
        self._check_reader_labels()
        if self.shots is not None and self.shots < 1:
            raise ConfigError(f"shots is a number of training images per class, at least 1, got {self.shots}.")
        check_seed(self.seed)
        if self.leave_out is not None and (self.split is not None or self.repeats):
            other = "split" if self.split is not None else "repeats"
            raise ConfigError(f"leave_out and {other} exclude each other; give one of them.")
        if self.max_steps is not None and self.max_steps < 1:
            raise ConfigError(f"The number of steps (--steps, max_steps) is at least 1, got {self.max_steps}.")
        if self.repeats and not 2 <= self.repeats <= _MAX_REPEATS:
            raise ConfigError(f"repeats is a number of divisions, from 2 to {_MAX_REPEATS}, or 0, got {self.repeats}.")
        if not 0 < self.coverage < 1:
            raise ConfigError(f"coverage is a share in (0, 1), got {self.coverage}. For 90 % write 0.9.")

    def _check_reader_labels(self) -> None:
        if self.reader_labels not in get_args(ReaderLabels):
            raise unknown_name("kind of reader labels", self.reader_labels, get_args(ReaderLabels))
        if self.reader_labels == "soft" and self.label_map is not None:
            raise ConfigError(
                "Soft labels are shares of the project's classes, and a label map makes others. Leave one out."
            )

    def _check_ensemble(self) -> None:
        if self.ensemble_weights not in get_args(Weighting):
            raise unknown_name("kind of ensemble weights", self.ensemble_weights, get_args(Weighting))
        if not self.ensemble:
            if self.ensemble_weights != "equal":
                raise ConfigError("ensemble_weights are those of an ensemble; name its members, as in linear gda.")
            return
        if self.method is not None:
            raise ConfigError("method and ensemble exclude each other; give one of them.")
        twice = next((name for name in self.ensemble if self.ensemble.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f"ensemble names {twice} twice; every member counts once. Name it once.")
        if len(self.ensemble) == 1:
            raise ConfigError(
                f"An ensemble has two members or more, got {self.ensemble[0]!r} alone. Name another head, as in linear "
                "gda, with a blank between them, or give method."
            )


def check_seed(seed: int) -> None:
    """Raises a ConfigError if a seed is none that every generator takes, of folds, of draws and of heads."""
    if not 0 <= seed < _NUM_SEEDS:
        raise ConfigError(f"A seed is a whole number from 0 to {_NUM_SEEDS - 1}, got {seed}.")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """All that decides how a classifier is trained."""

    backbone: BackboneSpec
    method: str
    adapter: AdapterSpec | None
    sampling: Sampling
    protocol: Protocol
    seed: int
    members: "tuple[FitConfig, ...]" = ()
    """Of an ensemble, heads on frozen features; empty: one classifier."""
    weighting: Weighting = "equal"
    """Of the members."""
    precision: FeaturePrecision = "fp32"
    """Of frozen features."""
    notes: tuple[str, ...] = ()
    """What the user should know of the choice."""

    def run(self, dataset: str, learning_rate: float) -> RunSpec:
        """Returns the training at one learning rate as a value."""
        return RunSpec(
            dataset=dataset,
            backbone=self.backbone.name,
            method=self.method,
            sampling=self.sampling,
            split=SplitSpec(),
            train=self.protocol.train,
            adapter=self.adapter,
            learning_rate=learning_rate,
            seed=self.seed,
        )

    def num_steps(self, num_train: int) -> int:
        """Optimiser steps of one training."""
        return self.protocol.num_steps(num_train, self.sampling.shots)

    def num_seen(self, num_train: int) -> int:
        """Images that one training looks at, each as often as it comes up."""
        return self.protocol.train.num_images_seen(num_train=num_train, num_steps=self.num_steps(num_train))


def choose_config(options: FitOptions, inputs: Inputs, device: str, own: Sequence[str] = ()) -> FitConfig:
    """Fills in what the user left open.

    Args:
        own: Names of backbones that the user described in a file: the first is used if no model is named.

    Raises:
        ConfigError: If the method trains nothing, or is unknown, or the precision cannot be computed here.
    """
    if options.ensemble:
        return _choose_ensemble(options, inputs, device, own)
    method = options.method or (LINEAR if device == "cpu" or options.reader_labels == "soft" else "lora")
    entry = _checked(method)
    if options.reader_labels == "soft" and method != LINEAR:
        raise ConfigError(
            f"Soft labels (--reader-labels) are trained on by the method {LINEAR}, and {method} takes one class a "
            f"cell. Choose --method {LINEAR}, or leave --reader-labels out."
        )
    if options.precision == "int8":
        _check_int8(method, device)
    name, notes = _model(options, inputs, method, own)
    if entry.kind == "prompt" and BACKBONES.get(name).text is None:
        raise ConfigError(f"{method} trains through a text encoder, and {name} has none. Choose --model clip-vit-b16.")
    if options.max_steps is not None and entry.kind != "head":
        notes.append(f"Training was truncated to {options.max_steps} steps: a dry run, not a result.")
    return FitConfig(
        backbone=BACKBONES.get(name),
        method=method,
        adapter=entry.fit_adapter if entry.kind == "adapter" else None,
        sampling=Sampling(shots=options.shots, max_val_shots=None),
        protocol=_protocol(options, method),
        seed=options.seed,
        precision="int8" if options.precision == "int8" else "fp32",
        notes=tuple(notes),
    )


def _checked(method: str) -> Method:
    """Returns the facts of a method that `fit` can train."""
    entry = METHODS.get(method)
    if entry.prompt is not None and entry.prompt.is_affine:
        return entry
    if entry.prompt is not None:
        raise ConfigError(
            f"{method} gives every image prompts of its own, so that classes have no embeddings that a bundle could "
            f"hold: it would need the text encoder for every cell. Fit {_fitting_prompts()}, whose classes do."
        )
    if method in TWO_TOWERS:
        raise ConfigError(
            f"{method} trains inside both encoders, so that neither features nor classes are those of a frozen one, "
            f"and fits into no bundle. Compare it in `cytolora run`, and fit lora, or {_fitting_prompts()}."
        )
    if entry.kind == "zero_shot":
        raise ConfigError(
            f"{method} trains nothing, so there is nothing to fit. Choose linear, lora, or another method."
        )
    if needs_text(method, "random"):
        raise ConfigError(
            f"{method} reads the text embeddings of a registered dataset's classes, which a folder of cells does not "
            f"have. Compare it in `cytolora run`, and fit {_fitting_heads()}, or an adapter."
        )
    if entry.head is not None and entry.head.needs_tree:
        raise ConfigError(
            f"{method} reads the tree of a registered dataset's classes, which `fit` does not. Compare it in `cytolora "
            f"run`, and fit {_fitting_heads()}, or an adapter."
        )
    if entry.head is not None and not entry.head.is_affine:
        raise ConfigError(
            f"{method} is no affine map of features, so it fits into no bundle. Choose {_fitting_heads()}, or an "
            "adapter such as lora."
        )
    return entry


def _choose_ensemble(options: FitOptions, inputs: Inputs, device: str, own: Sequence[str]) -> FitConfig:
    """Returns the configuration of every member, on one backbone, and that of their mean."""
    for name in options.ensemble:
        if _checked(name).kind not in ("linear", "head"):
            raise ConfigError(
                f"An ensemble averages linear and fitted heads on one frozen backbone, and {name} is none of them. "
                f"Choose among {_fitting_heads()}; `cytolora ensemble` averages stored runs of any method."
            )
    if options.learning_rates and LINEAR not in options.ensemble:
        raise ConfigError(
            f"{', '.join(options.ensemble)} are fitted without steps and have no learning rates. Leave them out."
        )
    alone = replace(options, ensemble=(), ensemble_weights="equal")
    members = tuple(
        choose_config(
            replace(alone, method=name, learning_rates=options.learning_rates if name == LINEAR else ()),
            inputs,
            device,
            own,
        )
        for name in options.ensemble
    )
    return replace(
        members[0],
        method=ENSEMBLE,
        protocol=fitted(ENSEMBLE),
        members=members,
        weighting=options.ensemble_weights,
        notes=tuple(dict.fromkeys(note for one in members for note in one.notes)),
    )


def _fitting_prompts() -> str:
    """Names the methods whose learned prompts a bundle can hold."""
    return ", ".join(sorted(one.name for one in METHODS if one.prompt is not None and one.prompt.is_affine))


def _fitting_heads() -> str:
    """Names the heads that a bundle can hold."""
    heads = [(one.name, one.head) for one in METHODS if one.head is not None]
    able = [name for name, head in heads if head.is_affine and not (head.needs_text or head.needs_tree)]
    return ", ".join([LINEAR, *sorted(name for name in able if name != LINEAR)])


def _protocol(options: FitOptions, method: str) -> Protocol:
    """Returns the protocol of the method with what the options change of it."""
    if method_kind(method) == "head":
        if options.learning_rates:
            raise ConfigError(f"{method} is fitted without steps and has no learning rates. Leave them out.")
        return fitted(method)
    if method_kind(method) == "linear":
        protocol = FIT_LINEAR
    elif method_kind(method) == "prompt":
        protocol = FIT_PROMPT
    else:
        protocol = _adapter_protocol(options.shots)
        if options.precision != "int8":  # which was refused
            protocol = replace(protocol, train=replace(protocol.train, precision=options.precision))
    budget = replace(protocol.train.budget, max_steps=options.max_steps)
    return replace(
        protocol,
        train=replace(protocol.train, budget=budget),
        learning_rates=tuple(sorted(set(options.learning_rates))) or protocol.learning_rates,
    )


def _check_int8(method: str, device: str) -> None:
    if method_kind(method) == "adapter":
        raise ConfigError(
            f"int8 is for frozen encoders, and {method} trains one. Choose precision fp32 or bf16, or method linear."
        )
    from cytolora.models.kernels.int8 import check_int8  # torch, which the options of other precisions do without

    check_int8(device)


def _adapter_protocol(shots: int | None) -> Protocol:
    return FIT_ADAPTER if shots is None else FIT_ADAPTER_FEW_SHOT


def as_lora(config: FitConfig) -> FitConfig:
    """Returns what ``--method lora`` would do instead, to say how long it would take."""
    protocol = _adapter_protocol(config.sampling.shots)
    return replace(config, method="lora", adapter=AdapterSpec(), protocol=protocol, members=())


def estimate_seconds(config: FitConfig, *, num_images: int, num_train: int, seconds_per_image: float) -> float:
    """Estimates how long features and training take, from the time of one image through the frozen encoder."""
    num_forward = float(num_images)
    if config.adapter is not None:
        num_forward += _TRAINING_COST * config.num_seen(num_train) * len(config.protocol.learning_rates)
    return num_forward * seconds_per_image


def _model(options: FitOptions, inputs: Inputs, method: str, own: Sequence[str]) -> tuple[str, list[str]]:
    if options.model is not None:
        return BACKBONES.get(options.model).name, []
    named = [*own, *inputs.weights]
    if named:
        return named[0], []
    preferred = _BEST_ADAPTED if method_kind(method) == "adapter" else _BEST_LINEAR
    if method_kind(method) == "prompt":
        preferred = [name for name in preferred if BACKBONES.get(name).text is not None]
    best = next((name for name in preferred if find(BACKBONES.get(name), None, inputs.weights_dir) is not None), None)
    if best is not None:
        return best, [f"{best} was chosen among the backbones on this machine."]
    built_in = _BUILT_IN_WITH_TEXT if method_kind(method) == "prompt" else _BUILT_IN
    return built_in, [
        f"No published backbone is on this machine: {built_in} was used, which was trained on drawn cells and is weak "
        "on real ones. Fetch one with cytolora weights fetch uni (or quiltnet-b16, which is not gated), or name a "
        "checkpoint with --model and --weights."
    ]
