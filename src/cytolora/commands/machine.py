"""What `run` needs before it starts: the device, and how much there is to do."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from rich.console import Console

from cytolora.arguments import as_device
from cytolora.commands.bars import bar
from cytolora.commands.options import MachineOptions
from cytolora.errors import ConfigError
from cytolora.grid import Plan
from cytolora.inputs import Inputs
from cytolora.models.cpu import keep_freed_memory
from cytolora.specs import RunSpec
from cytolora.store import Store
from cytolora.timing import describe
from cytolora.trial import costs_here, features_here
from cytolora.workbench import Progress


def watch(
    *, quiet: bool, device: torch.device, store: Store
) -> Callable[[Plan, Inputs], AbstractContextManager[Progress]]:
    """Returns what shows progress: how long it will take, and a bar over the training images of all adapter runs."""

    @contextmanager
    def shown(plan: Plan, inputs: Inputs) -> Iterator[Progress]:
        if not quiet:
            _announce(plan, inputs, store, device)
        total = sum(_num_images(run, inputs) for run in plan.to_do if run.adapter is not None)
        with bar("starting", total=total, unit="training images", quiet=quiet) as (say, done):
            yield Progress(say=say, done=done, status=say)

    return shown


def resolve_device(machine: MachineOptions) -> torch.device:
    """Chooses the device and sets the number of CPU threads.

    Raises:
        ConfigError: If the device is not there.
    """
    if machine.threads is not None:
        if machine.threads < 1:
            raise ConfigError(f"--threads is at least 1, got {machine.threads}.")
        torch.set_num_threads(machine.threads)
    keep_freed_memory()
    return as_device(machine.device)


def _announce(plan: Plan, inputs: Inputs, store: Store, device: torch.device) -> None:
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    progress = Progress(say=console.print)
    costs = costs_here(plan, inputs, store, device=device, progress=progress)
    features = features_here(plan, inputs, store, device=device, progress=progress)
    if expected := "; ".join(filter(None, (features, describe(plan, inputs, costs)))):
        console.print(f"{expected} on this machine, one at a time.")


def _num_images(run: RunSpec, inputs: Inputs) -> int:
    num_train = len(inputs.split(run).train)
    batch_size = run.train.batch_size
    steps = run.train.budget.num_steps(num_train=num_train, batch_size=batch_size, shots=run.sampling.shots)
    return steps * num_train // -(-num_train // batch_size)
