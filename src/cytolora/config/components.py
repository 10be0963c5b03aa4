"""Components of a run: preprocessing, split, sampling, adapter, budget and training; imported from config/run.py."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import ceil
from typing import Literal, get_args

from cytolora.config.budget import CLOSED, MAX_COUNT, Budget
from cytolora.config.groups_from import NONE, check_groups_from
from cytolora.config.heads import MAX_SHOTS
from cytolora.config.leave_out import column_and_value
from cytolora.config.method_kinds import PROMPT_METHODS, TEXT_HEADS, TWO_TOWERS, ZERO_SHOT
from cytolora.core.schema import between, check_fields, list_of, whole
from cytolora.errors import ConfigError

Subset = Literal["train", "val", "test"]
SUBSETS: tuple[Subset, ...] = ("train", "val", "test")


def needs_text(method: str, head_start: str, adapter: "AdapterSpec | None" = None) -> bool:
    """Whether a method asks the class names of a text encoder, given how its head starts and what it adapts."""
    reads = method == ZERO_SHOT or method in (*TEXT_HEADS, *PROMPT_METHODS)
    return reads or head_start == "text" or trains_text_tower(method, adapter)


def trains_text_tower(method: str, adapter: "AdapterSpec | None") -> bool:
    """Whether an adapter trains in both encoders; it then has no head, and logits are scaled cosines."""
    return method in TWO_TOWERS or (adapter is not None and adapter.towers is not None)


Interpolation = Literal["bilinear", "bicubic"]
Resize = Literal["shortest", "squash"]
Channels = tuple[float, float, float]

_MAX_SIZE_PX = 4096
"""Far above any encoder; a larger number is a slip of the pen, and fills the memory."""
_MIN_STD = 1e-3
"""Far below that of any images; a smaller one makes every pixel a number beyond float."""
_MAX_RANK = 65_536
_MAX_BLOCKS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Preprocessing of a decoded image to a backbone's input. Owned by the backbone, never typed by a user."""

    size_px: int
    """Edge of the square input, pixels."""
    mean: Channels
    """Per channel, of values in [0, 1]."""
    std: Channels
    """Per channel, of values in [0, 1]; in (0, 1], and 1 leaves them as they are."""
    interpolation: Interpolation = "bicubic"
    resize: Resize = "shortest"
    """shortest: the shorter edge becomes ``size_px``, then a centre crop. squash: both edges do, proportions lost."""
    resize_px: int | None = None
    """What the shorter edge becomes in its stead before the crop, at least ``size_px``; None: ``size_px``."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not 1 <= self.size_px <= _MAX_SIZE_PX:
            raise ConfigError(f"size_px is an edge in pixels, from 1 to {_MAX_SIZE_PX}, got {self.size_px}.")
        _check_channels(self.mean, self.std)
        _check_names(self.interpolation, self.resize)
        high = 2 * _MAX_SIZE_PX
        if self.resize_px is not None and not (self.size_px < self.resize_px <= high and self.resize == "shortest"):
            raise ConfigError(
                f"resize_px is the shorter edge before a crop of {self.size_px} px, above it and at most {high}, and "
                f"goes with the resize `shortest`; got {self.resize_px} and `{self.resize}`. Otherwise leave it out."
            )

    @property
    def shorter_px(self) -> int:
        """What the shorter edge becomes before the centre is cut out, pixels."""
        return self.size_px if self.resize_px is None else self.resize_px


@dataclass(frozen=True, slots=True, kw_only=True)
class PreprocessChange:
    """Differences from a backbone's own preprocessing; None leaves a field as it is."""

    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Interpolation | None = None
    resize: Resize | None = None

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        _check_channels(self.mean, self.std)
        _check_names(self.interpolation, self.resize)

    def apply(self, own: Preprocess) -> Preprocess:
        """Returns a backbone's preprocessing with the changes; its size stays, for the encoder is built for it."""
        named = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        changes = {name: value for name, value in named.items() if value is not None}
        resize_px = own.resize_px if self.resize is None else None  # belongs to the backbone's own way of resizing
        return replace(own, resize_px=resize_px, **changes)


def _check_channels(mean: Channels | None, std: Channels | None) -> None:
    """Checks units: with a mean of 123.7 every image becomes nearly constant input, and no library objects."""
    for name, values in (("mean", mean), ("std", std)):
        if values is None or _of_unit_range(name, values):
            continue
        span = f"[{_MIN_STD:g}, 1]" if name == "std" else "[0, 1]"
        wrong = f"{name} is three numbers, one a channel, of pixels in 0..1: each in {span}, got {_numbers(values)}"
        given = {"mean": mean, "std": std} if name == "mean" else {"std": std}
        divided = {key: [value / 255 for value in numbers] for key, numbers in given.items() if numbers is not None}
        if not _of_unit_range(name, divided[name]):
            raise ConfigError(f"{wrong}. Write those that the encoder was trained with.")
        instead = ", ".join(f"{key}: {_numbers(numbers)}" for key, numbers in divided.items())
        raise ConfigError(f"{wrong}. If these are of pixels in 0..255, divide by 255: {instead}.")


def _of_unit_range(name: str, values: Sequence[float]) -> bool:
    lowest = _MIN_STD if name == "std" else 0
    return len(values) == 3 and all(lowest <= value <= 1 for value in values)


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _check_names(interpolation: str | None, resize: str | None) -> None:
    for name, value, kind in (("interpolation", interpolation, Interpolation), ("resize", resize, Resize)):
        if value is not None and value not in get_args(kind):
            raise ConfigError(f"{name} is one of {', '.join(get_args(kind))}, got {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSpec:
    """Division of a dataset without official subsets into train, val and test."""

    by: Literal["group", "image"] = "group"
    """group: no patient, slide or field stands in two subsets. image: they may; every report says so where one does."""
    ratios: tuple[float, float, float] = (0.6, 0.2, 0.2)
    """Shares of train, val and test; each in (0, 1), together 1."""
    seed: int = 0
    copies: Literal["apart", "together"] = "apart"
    """together: byte-equal files stand in one subset, and with them their groups. apart: they may be torn, which every
    report then says; the default, for stored runs were divided so."""
    file_sha256: str | None = None
    """Hash of the split file that decides; the other fields but ``groups_from`` are then ignored."""
    groups_from: str | None = None
    """Groups of images that have none: ``names``, or a regular expression; None takes none, whether or not that was
    asked for."""
    leave_out: str | None = None
    """``COLUMN=VALUE``: all images with this metadata value are the test set, whole groups, in place of official
    subsets; ``ratios`` divide the others into train and val."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.leave_out is not None:
            column_and_value(self.leave_out)
            if self.file_sha256 is not None:
                raise ConfigError("A split file and leave_out exclude each other; give one of them.")
        if self.groups_from == NONE:
            raise ConfigError(
                "groups_from: none is what a grid without groups_from does; leave it out, and say `--groups-from none` "
                "with `cytolora run`, which writes down that suspected groups were refused."
            )
        if self.groups_from is not None:
            check_groups_from(self.groups_from)
        if not (min(self.ratios) > 0 and abs(sum(self.ratios) - 1) <= 1e-9):
            raise ConfigError(f"ratios are the shares of train, val and test and add up to 1, got {self.ratios}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Size of the training draw; neither ``shots`` nor ``fraction`` means all images."""

    shots: int | None = None
    """Images per class, drawn without replacement; at least 1. 0, only without ``max_val_shots``, trains on none and
    validates on all: ``zero-shot``."""
    fraction: float | None = None
    """Share of every class, of train and val alike, in (0, 1]."""
    max_val_shots: int | None = 4
    """With ``shots``: validation images per class are min(shots, this); None takes all.
    4 as in the public code of Dausort et al. 2025."""
    on_small_class: Literal["error", "repeat"] = "error"
    """A class with fewer images than asked for: refuse, or draw its images again (the paper's public code)."""
    val_shots: int | None = None
    """Validation images per class whatever the amount, or as many as a class has; 0: none. None: ``max_val_shots``."""
    sampling: Literal["natural"] | None = None
    """natural: as many labels as ``shots`` of every class make, drawn from all images alike: each class comes in
    its own prevalence, a rare one perhaps not at all. None: ``shots`` of every class."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.sampling is not None and (self.sampling != "natural" or not self.shots):
            raise ConfigError(
                f"sampling is natural, with a number of shots, or per_class; got {self.sampling} and {self.amount}."
            )
        if self.shots is not None and self.fraction is not None:
            raise ConfigError("shots and fraction exclude each other; give one of them.")
        if self.shots is not None and self.shots < 1 and (self.shots, self.max_val_shots) != (0, None):
            raise ConfigError(f"shots is a number of images per class, at least 1, got {self.shots}.")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ConfigError(f"fraction is a share of each class in (0, 1], got {self.fraction}. For 10 % write 0.1.")
        if self.max_val_shots is not None and self.max_val_shots < 1:
            raise ConfigError(f"max_val_shots is a number of images per class, at least 1, got {self.max_val_shots}.")
        check_fields(self, dict.fromkeys(("shots", "max_val_shots", "val_shots"), whole(0, MAX_SHOTS)))

    @property
    def val_per_class(self) -> int | None:
        """Validation images per class, at most; None: all."""
        if self.val_shots is not None:
            return self.val_shots
        if self.shots is None or self.max_val_shots is None:
            return None
        return min(self.shots, self.max_val_shots)

    @property
    def amount(self) -> str:
        """Name of the amount in ids and tables: ``4-shot``, ``4-shot-natural``, ``10pct`` or ``all``."""
        if self.shots is not None:
            return f"{self.shots}-shot" + (f"-{self.sampling}" if self.sampling else "")
        return "all" if self.fraction is None else f"{100 * self.fraction:g}pct"


Target = Literal["q", "k", "v", "o", "fc1", "fc2"]
Tower = Literal["image", "text"]

LoraInit = Literal["eva", "olora", "pissa"]
"""Starts of LoRA's two matrices besides its own, random A and B = 0; models/adapters/starts.py says what each is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSpec:
    """Low-rank adaptation of attention projections: ``h = W x + s B A x`` (Dausort et al. 2025, eq. 2).

    s is alpha / rank, or alpha / sqrt(rank) as in the paper's public code (there: rank 2, alpha 1, dropout 0.25).
    """

    rank: int = 2
    alpha: float = 1.0
    scaling: Literal["alpha_over_rank", "alpha_over_sqrt_rank"] = "alpha_over_sqrt_rank"
    dropout: float = 0.25
    """Probability on the input of the low-rank branch, in [0, 1)."""
    targets: tuple[Target, ...] = ("q", "v")
    """Which projections of an attention block are adapted."""
    blocks: Literal["all"] | tuple[int, ...] = "all"
    """Which blocks, counted from 0."""
    last_blocks: int | None = None
    """Only the last so many blocks, at least 1; then ``blocks`` is left alone."""
    prompts: int = 8
    """Tokens per block of the methods vpt and ivlp, at least 1; of ivlp as many in each tower."""
    towers: tuple[Tower, ...] | None = None
    """[image, text]: the same in the text encoder of the checkpoint, and logits that are scaled cosines with the class
    names in place of a head (CLIP-LoRA, Zanella and Ben Ayed 2024, arXiv:2405.18541). None, or [image]: the image
    encoder alone."""
    reference_attention_bug: bool = False
    """Computes attention as the paper's public code does for UNI and BiomedCLIP, which is wrong: see
    models/adapters/reference_attention.py. Never for anything but measuring what it does."""
    init: LoraInit | None = None
    """Start of the low-rank matrices of ``lora``; None: A random, B zero (Hu et al. 2021)."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"rank must be at least 1, got {self.rank}.")
        check_fields(
            self,
            {
                "rank": whole(1, _MAX_RANK),
                "alpha": between(-1e6, 1e6),
                "prompts": whole(-_MAX_RANK, _MAX_RANK),
                "last_blocks": whole(-_MAX_BLOCKS, _MAX_BLOCKS),
            },
        )
        if self.blocks != "all" and not list_of(whole(0, _MAX_BLOCKS), at_least=1).is_right(self.blocks):
            raise ConfigError(
                f"blocks is all, or numbers of blocks from 0 to {_MAX_BLOCKS:,}, got {list(self.blocks)}."
            )
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is a probability in [0, 1), got {self.dropout}.")
        if not self.targets or len(set(self.targets)) != len(self.targets):
            raise ConfigError(f"targets names one or more of q, k, v, o, fc1, fc2, once each: {list(self.targets)}.")
        if self.last_blocks is not None and (self.last_blocks < 1 or self.blocks != "all"):
            raise ConfigError(f"last_blocks is at least 1 and excludes blocks, got {self.last_blocks}, {self.blocks}.")
        if self.prompts < 1:
            raise ConfigError(f"prompts must be at least 1, got {self.prompts}.")
        if self.init is not None and self.init not in get_args(LoraInit):
            raise ConfigError(f"init is one of {', '.join(get_args(LoraInit))}, or left out, got {self.init!r}.")
        if self.towers is not None and sorted(self.towers) not in (["image"], ["image", "text"]):
            raise ConfigError(f"towers is [image], or [image, text], got {list(self.towers)}.")
        if self.towers is not None:  # the same adapter, however it is written
            object.__setattr__(self, "towers", None if len(self.towers) == 1 else ("image", "text"))
            if self.towers is not None and self.init is not None:
                raise ConfigError(
                    f"init {self.init} is for the image encoder alone. Leave out init, or the text of towers."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSpec:
    """Random resized crop and horizontal flip of training images, as in the paper's public code (March 2025)."""

    min_scale: float = 0.7
    """Smallest share of the image's area that a crop keeps, in (0, 1]; 1 crops nothing away."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    interpolation: Literal["bilinear", "bicubic"] | None = None
    """Of the crop's resizing; None: that of the backbone's own preprocessing."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise ConfigError(f"min_scale is a share of the image's area in (0, 1], got {self.min_scale}.")
        if not 0 <= self.flip <= 1:
            raise ConfigError(f"flip is a probability in [0, 1], got {self.flip}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainSpec:
    """AdamW with linear warm-up and a cosine (values of the paper's public code; the paper gives none).

    Prompt learning: stochastic gradient descent with momentum, and the same warm-up and cosine.
    """

    budget: Budget
    batch_size: int = 32
    """Images per step (Dausort et al. 2025, Sec. 3.4)."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 50
    min_learning_rate: float = 1e-6
    """End of the cosine."""
    cosine_steps: int | None = None
    """Steps from the cosine's top to its bottom, at least 1: a longer run climbs again, and again. None: as many as
    there are after the warm-up."""
    augment: AugmentSpec | None = AugmentSpec()
    """None trains on the evaluation view. Frozen features: one random view of each image, made once for all runs."""
    precision: Literal["fp32", "bf16"] = "fp32"
    warmup_epochs: int | None = None
    """Warm-up in passes over the training images, at any number of them; replaces ``warmup_steps``."""

    __pydantic_config__ = CLOSED

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.warmup_steps < 0:
            raise ConfigError(f"batch_size is at least 1 and warmup_steps at least 0, got {self}.")
        if self.cosine_steps is not None and self.cosine_steps < 1:
            raise ConfigError(f"cosine_steps is at least 1, or none, got {self.cosine_steps}.")
        check_fields(
            self,
            {
                "batch_size": whole(1, MAX_SHOTS),
                **dict.fromkeys(("warmup_steps", "cosine_steps", "warmup_epochs"), whole(0, MAX_COUNT)),
                **dict.fromkeys(("weight_decay", "min_learning_rate"), between(0, 1e6)),
                "betas": list_of(between(0, 1, opens="high")),
            },
        )

    def num_steps(self, *, num_train: int, shots: int | None) -> int:
        """Optimiser steps with ``num_train`` training images."""
        return self.budget.num_steps(num_train=num_train, batch_size=self.batch_size, shots=shots)

    def num_warmup_steps(self, num_train: int) -> int:
        """Optimiser steps of the warm-up with ``num_train`` training images."""
        if self.warmup_epochs is None:
            return self.warmup_steps
        return self.warmup_epochs * ceil(num_train / self.batch_size)

    def in_steps(self, num_train: int) -> "TrainSpec":
        """Returns the same training of ``num_train`` images, its warm-up in steps."""
        if self.warmup_epochs is None:
            return self
        return replace(self, warmup_steps=self.num_warmup_steps(num_train), warmup_epochs=None)

    def num_images_seen(self, *, num_train: int, num_steps: int) -> int:
        """Training images that so many steps look at, each as often as it comes up."""
        epochs, steps = divmod(num_steps, max(1, ceil(num_train / self.batch_size)))
        return epochs * num_train + steps * self.batch_size  # the smaller batch is the last of an epoch
