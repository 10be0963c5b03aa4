"""Runs the groups of a plan one after the other, in this process."""

from collections.abc import Sequence

import torch

from cytolora.grid import Group
from cytolora.inputs import Inputs
from cytolora.progress import Progress
from cytolora.run import execute
from cytolora.store import Store


def run_groups(
    groups: Sequence[Group], inputs: Inputs, store: Store, *, device: torch.device, progress: Progress
) -> None:
    """Executes every group; what is finished is stored at once."""
    for group in groups:
        execute(group, inputs, store, device=device, progress=progress)
