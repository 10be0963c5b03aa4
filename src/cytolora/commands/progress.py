"""A progress bar with the time left, and the choice of device: what `run` needs before torch starts working."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from cytolora.commands.options import Device
from cytolora.errors import ConfigError
from cytolora.grid import Plan
from cytolora.inputs import Inputs
from cytolora.specs import RunSpec
from cytolora.workbench import Progress


@contextmanager
def progress_bar(plan: Plan, inputs: Inputs, *, quiet: bool) -> Iterator[Progress]:
    """Yields what a run reports to; counts the training images of all adapter runs to do."""
    if quiet:
        yield Progress()
        return
    total = sum(_num_images(run, inputs) for run in plan.to_do if run.adapter is not None)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("training images"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=Console(stderr=True), speed_estimate_period=600) as bar:
        task = bar.add_task("starting", total=total)
        yield Progress(
            say=lambda text: bar.update(task, description=text), done=lambda images: bar.advance(task, images)
        )


def resolve_device(device: Device, threads: int | None) -> torch.device:
    """Chooses the device and sets the number of CPU threads.

    Raises:
        ConfigError: If the device is not there.
    """
    if threads is not None:
        if threads < 1:
            raise ConfigError(f"--threads is at least 1, got {threads}.")
        torch.set_num_threads(threads)
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device("cuda" if available["cuda"] else "cpu")
    if not available[device]:
        raise ConfigError(f"No {device} device on this machine. Use --device cpu, or auto.")
    return torch.device(device)


def _num_images(run: RunSpec, inputs: Inputs) -> int:
    num_train = len(inputs.split(run).train)
    batch_size = run.train.batch_size
    steps = run.train.budget.num_steps(num_train=num_train, batch_size=batch_size, shots=run.sampling.shots)
    return steps * num_train // -(-num_train // batch_size)
