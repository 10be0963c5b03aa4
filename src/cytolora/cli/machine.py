"""Preparation of `run`: the device, and the forecast of the work to do."""

import torch

from cytolora.cli.options import MachineOptions
from cytolora.core.arguments import as_device
from cytolora.core.progress import Progress
from cytolora.experiments.cost import describe
from cytolora.experiments.plan import Plan
from cytolora.experiments.probe import adapter_rates, costs_here, feature_rates
from cytolora.experiments.store import Store
from cytolora.experiments.workload import Kind
from cytolora.models.kernels.cpu import keep_freed_memory
from cytolora.training.resources import Inputs


def speed_of(
    plan: Plan, inputs: Inputs, store: Store, *, device: torch.device, progress: Progress, is_shared: bool
) -> dict[Kind, float]:
    """Finds out how fast the work of a plan is, by stored runs and trials, before it begins.

    Args:
        is_shared: The work is divided among processes, none of which knows how long the whole takes: it is said here.
    """
    costs = costs_here(plan, inputs, store, device=device, progress=progress)
    frozen = feature_rates(plan, inputs, store, device=device, progress=progress)
    if is_shared and (expected := describe(plan, inputs, costs)):
        progress.say(f"On this machine, one at a time: {expected}.")
    return {**frozen, **adapter_rates(plan, inputs, costs)}


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
