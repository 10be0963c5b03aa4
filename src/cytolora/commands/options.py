"""Options that mean the same for every command."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cytolora.config import load_grid
from cytolora.errors import ConfigError
from cytolora.grid import narrowed
from cytolora.inputs import Inputs
from cytolora.models.backbones import BACKBONES, read_backbone_file
from cytolora.specs import GridSpec

Several = Parameter(consume_multiple=True, negative="")

_DRAWN = "synthetic"


@Parameter(name="*", group="Inputs")
@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Where data and checkpoints are."""

    data: Annotated[Sequence[str], Several] = ()
    """Folder of a dataset, as NAME=PATH; several, or repeated. `synthetic` is drawn if no folder is named."""
    weights: Annotated[Sequence[str], Several] = ()
    """Official checkpoint of a backbone on disk, as NAME=PATH."""
    backbone_file: Annotated[Sequence[Path], Several] = ()
    """YAML file that describes a backbone of one's own."""


@Parameter(name="*", group="Axes of the grid")
@dataclass(frozen=True, kw_only=True)
class AxisOptions:
    """Replaces axes of a grid; each takes several values."""

    dataset: Annotated[Sequence[str], Several] = ()
    """Datasets."""
    model: Annotated[Sequence[str], Several] = ()
    """Backbones."""
    method: Annotated[Sequence[str], Several] = ()
    """Methods among those that the grid gives a budget for."""
    shots: Annotated[Sequence[str], Several] = ()
    """Labelled images per class, or `all`."""
    fractions: Annotated[Sequence[float], Several] = ()
    """Shares of the training set, in (0, 1]."""
    seeds: Annotated[Sequence[int], Several] = ()
    """Seeds of draw and training."""
    rates: Annotated[Sequence[float], Several] = ()
    """Learning rates to choose from."""
    steps: int | None = None
    """Cuts every budget to so many steps: a rehearsal, marked in the report."""


def read_grid(name: str, axes: AxisOptions) -> GridSpec:
    """Loads a grid and replaces the axes that were given."""
    return narrowed(
        load_grid(name),
        datasets=axes.dataset,
        models=axes.model,
        methods=axes.method,
        shots=axes.shots,
        fractions=axes.fractions,
        seeds=axes.seeds,
        rates=axes.rates,
        max_steps=axes.steps,
    )


def read_inputs(options: InputOptions, grid: GridSpec, out: Path) -> Inputs:
    """Reads NAME=PATH options; drawn cells have a default folder inside ``out``."""
    data = pairs(options.data, "--data")
    for name in data:
        if name not in grid.datasets:
            raise ConfigError(f"--data names {name!r}, but the grid's datasets are {', '.join(grid.datasets)}.")
    if _DRAWN in grid.datasets:
        data.setdefault(_DRAWN, out / "data" / _DRAWN)
    return Inputs(data=data, weights=pairs(options.weights, "--weights"))


def add_backbones(files: Sequence[Path]) -> None:
    """Adds the backbones of ``--backbone-file`` to the registry."""
    for path in files:
        BACKBONES.add(read_backbone_file(path))


def pairs(texts: Sequence[str], option: str) -> dict[str, Path]:
    """Reads NAME=PATH texts; ``option`` names them in errors."""
    found: dict[str, Path] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not (name and separator and path):
            raise ConfigError(f"{option} expects NAME=PATH, got {text!r}.")
        found[name] = Path(path).expanduser()
    return found


Device = Literal["auto", "cpu", "cuda", "mps"]
