"""Preparation of `run`: the device, and the forecast of the work to do."""

from collections.abc import Callable

import torch

from cytolora.cli.options import MachineOptions
from cytolora.core.arguments import as_device
from cytolora.core.progress import Progress
from cytolora.experiments.cost import describe
from cytolora.experiments.plan import Plan
from cytolora.experiments.probe import costs_here, features_here
from cytolora.experiments.store import Store
from cytolora.models.kernels.cpu import keep_freed_memory
from cytolora.training.resources import Inputs


def announcer(progress: Progress, *, store: Store) -> Callable[[Plan, Inputs, torch.device], None]:
    """Returns what says how long a plan will take."""

    def announce(plan: Plan, inputs: Inputs, device: torch.device) -> None:
        costs = costs_here(plan, inputs, store, device=device, progress=progress)
        features = features_here(plan, inputs, store, device=device, progress=progress)
        if expected := "; ".join(filter(None, (features, describe(plan, inputs, costs)))):
            progress.say(f"On this machine, one at a time: {expected}.")

    return announce


def resolve_device(machine: MachineOptions) -> torch.device:
    """Chooses the device and sets the number of CPU threads.

    Raises:
        ConfigError: If the device is not there.
    """
    machine.check()
    if machine.threads is not None:
        torch.set_num_threads(machine.threads)
    keep_freed_memory()
    return as_device(machine.device)
