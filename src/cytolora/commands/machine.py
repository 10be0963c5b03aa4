"""What `run` needs before it starts: the device, and how much there is to do."""

import torch

from cytolora.commands.options import Device
from cytolora.errors import ConfigError
from cytolora.grid import Plan
from cytolora.inputs import Inputs
from cytolora.specs import RunSpec


def num_training_images(plan: Plan, inputs: Inputs) -> int:
    """Counts the images that the adapter runs still to do will train on, each as often as it is seen."""
    return sum(_num_images(run, inputs) for run in plan.to_do if run.adapter is not None)


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
