"""Options shared by several commands."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolora.config.grid import GridSpec
from cytolora.config.preset import load_preset, with_preset
from cytolora.config.reading import Decoding, ReadOptions
from cytolora.config.run import PAPER
from cytolora.config.yaml import load_grid
from cytolora.data.pooling import Pool, pool_of, pooled
from cytolora.errors import ConfigError
from cytolora.experiments.expand import dataset_folders, narrowed, tied_to_files
from cytolora.models.backbones.registry import BACKBONES, read_backbone_file
from cytolora.training.resources import Inputs

Precision = Literal["auto", "fp32", "bf16"]
FitPrecision = Literal["auto", "fp32", "bf16", "int8"]
OfFeatures = Literal["auto", "fp32", "int8"]
"""Precisions of frozen features."""
Several = Parameter(consume_multiple=1, negative="")
"""Option of one value or more: without one it is refused, and never read as left out."""

Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class CheckpointFiles:
    """Files of the checkpoint of a backbone; subclasses give the section of the help."""

    weights: Annotated[Sequence[str], Several] = ()
    """Official checkpoint of a backbone on disk, file or folder, as NAME=PATH."""
    weights_dir: Path | None = None
    """Folder written by `cytolora weights fetch`; looked into before the hub's cache."""


@dataclass(frozen=True, kw_only=True)
class CheckpointOptions(CheckpointFiles):
    """Location of the checkpoint of a backbone, which may be one's own; subclasses give the section of the help."""

    trust_weights: Annotated[bool, Parameter(negative="")] = False
    """Goes on by the backbone's entry where a configuration beside the weights (config.json) says otherwise."""
    backbone_file: Annotated[Sequence[Path], Several] = ()
    """YAML file that describes a backbone of one's own."""


@Parameter(name="*", group="Checkpoints")
@dataclass(frozen=True, kw_only=True)
class WeightOptions(CheckpointOptions):
    """Location of the checkpoint of the backbone."""


@Parameter(name="*", group="Machine")
@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Device and threads of the computation."""

    device: Device = "auto"
    """auto takes CUDA where there is one, else Apple's GPU (mps, not measured), else the CPU."""
    threads: int | None = None
    """CPU threads; whatever is trained records the number: sums in another order differ in their last bits."""

    def check(self) -> None:
        """Raises a ConfigError if fewer threads than one are asked for."""
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"--threads is at least 1, got {self.threads}.")


@Parameter(name="*", group="Inputs")
@dataclass(frozen=True, kw_only=True)
class InputOptions(CheckpointOptions):
    """Location of data and checkpoints."""

    data: Annotated[Sequence[str], Several] = ()
    """Folder of a dataset, as NAME=PATH; several, or repeated. `synthetic` is drawn if no folder is named."""
    split: Path | None = None
    """File written by `cytolora split`; names the subset of each image: train, val or test."""
    map: Path | None = None
    """CSV with columns from,to[,order] that renames or joins classes."""
    pool: str | None = None
    """Label map (`cytolora ls pools`, or a YAML file) that makes the datasets of --data one, in place of the grid's:
    --data herlev=PATH sipakmed=PATH --pool bethesda."""


@Parameter(name="*", group="Several datasets as one")
@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """Datasets under one label map, in the place of one dataset."""

    data: Annotated[Sequence[str], Several] = ()
    """Folders of the datasets of --pool, as NAME=PATH."""
    pool: str | None = None
    """Label map (`cytolora ls pools`, or a YAML file) that makes the datasets of --data one."""

    def source(self, path: Path | None, dataset: str | None, label_map: Path | None) -> Path | Pool:
        """Returns what is read: one dataset or a pool.

        Raises:
            ConfigError: If neither is named, or both are.
        """
        if self.pool is None and self.data:
            raise ConfigError(
                f"--data names the datasets of a pool; name its label map, too (--pool bethesda), or the one dataset "
                f"without --data: {' '.join(self.data)}."
            )
        if self.pool is None:
            if path is None:
                raise ConfigError(
                    "Name the dataset, a folder, table or zip file; or several: --data herlev=PATH sipakmed=PATH "
                    "--pool bethesda."
                )
            return path
        if path is not None:
            raise ConfigError(f"--pool makes one dataset of those of --data; leave out {path}, or name it there.")
        pool = pool_of(self.pool, pairs(self.data, "--data"))
        pooled(pool, [] if dataset is None else [dataset], label_map)
        return pool


@Parameter(name="*", group="Axes of the grid")
@dataclass(frozen=True, kw_only=True)
class AxisOptions:
    """Replaces axes of a grid; each takes several values."""

    dataset: Annotated[Sequence[str], Several] = ()
    """Datasets."""
    model: Annotated[Sequence[str], Several] = ()
    """Backbones."""
    method: Annotated[Sequence[str], Several] = ()
    """Methods or named variants of the grid; a method that has variants alone means all of them."""
    shots: Annotated[Sequence[str], Several] = ()
    """Labelled images per class, or `all`."""
    fractions: Annotated[Sequence[float], Several] = ()
    """Shares of the training set, in (0, 1]."""
    seeds: Annotated[Sequence[int], Several] = ()
    """Seeds of draw and training."""
    split_seeds: Annotated[Sequence[int], Several] = ()
    """Seeds of the division into train, val and test, a division each; official subsets are one division."""
    leave_out: Annotated[Sequence[str], Several] = ()
    """Metadata values whose images are the test set, a division each: `site=A site=B`."""
    learning_rates: Annotated[Sequence[float], Several] = ()
    """Learning rates to choose from."""
    val_shots: str | None = None
    """Validation images per class whatever the shots, or `none`: then one value is given of all that validation would
    choose. The grid's own if not given."""
    sampling: Literal["per_class", "natural"] | None = None
    """natural: as many labels as --shots of every class make, in the data's own prevalence; per_class: --shots of each.
    The grid's own if not given."""
    steps: int | None = None
    """Truncates every training to this many steps, of heads trained by steps too: a quick dry run, marked in the
    report."""
    precision: Precision = "auto"
    """Precision of training: auto leaves the grid's own, fp32 where it names none; bf16 is twice as fast on
    processors that have it, and not yet shown to reach the same accuracy everywhere (docs/performance.md)."""
    preset: str = PAPER
    """Differences applied to the grid before its axes are replaced: `paper` (none), `paper-code-2024`,
    `paper-code-2025`, `benchmark-2026` (`cytolora ls presets`), or a YAML file."""


@Parameter(name="*", group="Reading the data")
@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Choices that the files of a dataset leave open."""

    group_column: str | None = None
    """Column of the table that names the patient, slide or field; `group` if not given."""
    subset_column: str | None = None
    """Column of the table that names train, val or test; `subset` if not given."""
    groups_from: str | None = None
    """Groups of images that have none: `names` takes what file names suggest, `none` refuses it, and a regular
    expression finds the group in the file name (its one capturing group, or the whole match)."""
    frame: str | None = None
    """Which frame of files with several (focal planes, pages) is read: its number from 0, middle, sharpest, or max
    (the maximum over all). Such files are an error if not given."""
    icc: Literal["ignore", "srgb"] = "ignore"
    """Colour profiles in the files: ignored, as encoders were trained, or converted to sRGB."""
    value_range: str = "full"
    """What becomes white in images of more than 8 bits: the highest value of the bit depth (full), that of the bits
    that the dataset uses (used), or a value such as 4095."""

    def options(self) -> ReadOptions:
        """Returns the choices as the reader takes them."""
        return ReadOptions(
            group_column=self.group_column,
            subset_column=self.subset_column,
            groups_from=self.groups_from,
            decoding=self.decoding(),
        )

    def decoding(self) -> Decoding:
        """Returns the choices of how files become pixels.

        Raises:
            ConfigError: If one is none of those that there are.
        """
        frame, value_range = self.frame, self.value_range
        return Decoding(
            frame=int(frame) if frame is not None and frame.isdecimal() else frame,  # pyright: ignore[reportArgumentType]
            icc=self.icc,
            value_range=int(value_range) if value_range.isdecimal() else value_range,  # pyright: ignore[reportArgumentType]
        )


AS_IT_STANDS = ReadingOptions()
NO_WEIGHTS = WeightOptions()
NO_INPUTS = InputOptions()
ONE_DATASET = PoolOptions()
NO_CHANGE = AxisOptions()
THIS_MACHINE = MachineOptions()


def read_grid(name: str, axes: AxisOptions, inputs: InputOptions, reading: ReadingOptions) -> GridSpec:
    """Loads a grid, replaces the axes that were given, and ties it to split file, label map and groups."""
    grid, pool = load_grid(name), _pool(inputs)
    if axes.preset != PAPER:
        grid = with_preset(grid, load_preset(axes.preset))
    grid = narrowed(
        grid,
        datasets=axes.dataset if pool is None else pooled(pool, axes.dataset, inputs.map),
        models=axes.model,
        methods=axes.method,
        shots=[_parse_shots(text) for text in axes.shots],
        fractions=axes.fractions,
        seeds=axes.seeds,
        split_seeds=axes.split_seeds,
        leave_out=axes.leave_out,
        learning_rates=axes.learning_rates,
        max_steps=axes.steps,
        precision=None if axes.precision == "auto" else axes.precision,
        val_shots=None if axes.val_shots is None else _parse_val_shots(axes.val_shots),
        sampling=axes.sampling,
    )
    return tied_to_files(grid, inputs.split, inputs.map, reading.groups_from)


def read_inputs(options: InputOptions, reading: ReadingOptions, grid: GridSpec, out: Path) -> Inputs:
    """Reads NAME=PATH options; drawn cells have a default folder inside ``out``."""
    pool = _pool(options)
    return Inputs(
        data=dataset_folders(grid, pairs(options.data, "--data"), out) if pool is None else {},
        pool=pool,
        weights=pairs(options.weights, "--weights"),
        weights_dir=options.weights_dir,
        trust_weights=options.trust_weights,
        split_file=options.split,
        label_map=options.map,
        reading=reading.options(),
    )


def _pool(options: InputOptions) -> Pool | None:
    return None if options.pool is None else pool_of(options.pool, pairs(options.data, "--data"))


def add_backbones(files: Sequence[Path]) -> None:
    """Adds the backbones of ``--backbone-file`` to the registry."""
    for path in files:
        BACKBONES.add(read_backbone_file(path))


def pairs(texts: Sequence[str], option: str) -> dict[str, Path]:
    """Reads NAME=PATH texts; ``option`` names them in errors."""
    paths: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise ConfigError(f"{option} expects NAME=PATH, got {text!r}.")
        if name in paths:
            raise ConfigError(f"{option} names {name} twice; name it once.")
        paths[name] = Path(path).expanduser()
    return paths


_SBATCH_OPTION = re.compile(r"([a-z][a-z0-9_-]*)(=.*)?", re.DOTALL)
_SET_HERE = ("array", "output", "error", "open-mode", "wrap", "parsable", "requeue", "no-requeue", "test-only", "wait")


def sbatch_options(texts: Sequence[str]) -> tuple[str, ...]:
    """Reads NAME=VALUE or NAME texts as long options of sbatch; ``cpus_per_task`` is ``cpus-per-task``.

    Raises:
        ConfigError: If one is neither, or is set by the engine.
    """
    options = []
    for text in texts:
        match = _SBATCH_OPTION.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"--slurm expects long options of sbatch as NAME=VALUE or NAME, got {text!r}. Write partition=gpu for "
                "--partition=gpu."
            )
        name = match[1].replace("_", "-")
        if name in _SET_HERE:
            raise ConfigError(f"--slurm {name} is set by cytolora itself; leave it out.")
        options.append(f"--{name}{match[2] or ''}")
    return tuple(options)


def _parse_shots(text: str) -> int | Literal["all"]:
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"shots is a number of images per class or the word all, got {text!r}.") from None


def _parse_val_shots(text: str) -> int | Literal["none"]:
    if text == "none":
        return "none"
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"val-shots is a number of images per class or the word none, got {text!r}.") from None
