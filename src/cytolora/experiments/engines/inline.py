"""Runs the jobs of a plan one after the other, in this process."""

from collections.abc import Sequence

import torch

from cytolora.core.progress import Progress
from cytolora.experiments.execute import execute
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


def run_jobs(jobs: Sequence[Job], inputs: Inputs, store: Store, *, device: torch.device, progress: Progress) -> None:
    """Executes every job; what is finished is stored at once."""
    store.sweep()
    for job in jobs:
        execute(job, inputs, store, device=device, progress=progress)
