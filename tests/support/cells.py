"""A few drawn cells and a grid small enough for tests: what several test files run."""

from pathlib import Path
from typing import TYPE_CHECKING

from cytolora.config.grid import GridSpec
from cytolora.config.run import RunSpec
from cytolora.config.yaml import load_grid
from cytolora.core.progress import Progress
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.expand import narrowed
from cytolora.experiments.plan import Plan, make_plan
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

if TYPE_CHECKING:
    from cytolora.training.session import Session


def tiny_grid(**axes: object) -> GridSpec:
    """The smoke grid with 2 shots, 2 seeds, 2 rates and 3 steps a run: 8 runs."""
    chosen = {"shots": [2], "seeds": [1, 2], "learning_rates": [1e-3, 1e-2], "max_steps": 3, **axes}
    return narrowed(load_grid("smoke"), **chosen)  # pyright: ignore[reportArgumentType]


def run_all(grid: GridSpec, cells: Path, runs: Path) -> Plan:
    """Runs a grid on drawn cells; returns the plan as it was before."""
    import torch

    inputs, store = Inputs(data={"synthetic": cells}), Store(runs)
    plan = make_plan(grid, store, inputs)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=Progress())
    return plan


def session_of(run: RunSpec, inputs: Inputs, runs: Path) -> "Session":
    """The session of a run on the cache of its store."""
    from cytolora.models.backbones.registry import BACKBONES
    from cytolora.training.session import Session

    return Session(
        manifest=inputs.manifest(run.dataset, run.split),
        dataset=run.dataset,
        backbone=BACKBONES.get(run.backbone),
        inputs=inputs,
        cache=runs / ".cache",
    )


def contents(runs: Path, name: str = "metrics.json") -> dict[str, str]:
    """One file of every run, by run id."""
    return {path.parent.name: path.read_text() for path in sorted(runs.glob(f"[!.]*/{name}"))}
