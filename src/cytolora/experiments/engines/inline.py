"""Runs the groups of a plan one after the other, in this process."""

from collections.abc import Sequence

import torch

from cytolora.core.progress import Progress
from cytolora.experiments.execute import execute
from cytolora.experiments.plan import Group
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


def run_groups(
    groups: Sequence[Group], inputs: Inputs, store: Store, *, device: torch.device, progress: Progress
) -> None:
    """Executes every group; what is finished is stored at once."""
    for group in groups:
        execute(group, inputs, store, device=device, progress=progress)
