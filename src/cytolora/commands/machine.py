"""What `run` needs before it starts: the device, and how much there is to do."""

from collections.abc import Callable

import torch

from cytolora.arguments import as_device
from cytolora.commands.options import MachineOptions
from cytolora.errors import ConfigError
from cytolora.grid import Plan
from cytolora.inputs import Inputs
from cytolora.models.cpu import keep_freed_memory
from cytolora.progress import Progress
from cytolora.specs import RunSpec
from cytolora.store import Store
from cytolora.timing import describe
from cytolora.trial import costs_here, features_here


def announcer(progress: Progress, *, device: torch.device, store: Store) -> Callable[[Plan, Inputs], None]:
    """Returns what says how long a plan will take, and begins the count of the training images of all adapter runs."""

    def announce(plan: Plan, inputs: Inputs) -> None:
        costs = costs_here(plan, inputs, store, device=device, progress=progress)
        features = features_here(plan, inputs, store, device=device, progress=progress)
        if expected := "; ".join(filter(None, (features, describe(plan, inputs, costs)))):
            progress.say(f"On this machine, one at a time: {expected}.")
        total = sum(_num_images(run, inputs) for run in plan.to_do if run.adapter is not None)
        progress.begin(f"{len(set(plan.to_do))} runs", total, "training images")

    return announce


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


def _num_images(run: RunSpec, inputs: Inputs) -> int:
    num_train = len(inputs.split(run).train)
    batch_size = run.train.batch_size
    steps = run.train.budget.num_steps(num_train=num_train, batch_size=batch_size, shots=run.sampling.shots)
    return steps * num_train // -(-num_train // batch_size)
