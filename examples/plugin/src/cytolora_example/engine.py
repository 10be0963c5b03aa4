"""Engine: the jobs of a plan one after the other, in this process, with a line for each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cytolora.experiments.engines.registry import Engine
from cytolora.experiments.engines.workers import Workers

if TYPE_CHECKING:
    import torch

    from cytolora.core.progress import Progress
    from cytolora.experiments.plan import Job
    from cytolora.experiments.store import Store
    from cytolora.experiments.workload import Rates
    from cytolora.training.resources import Inputs


def run_jobs(
    jobs: "Sequence[Job]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    rates: "Rates | None" = None,
) -> None:
    """Executes every job; what is finished is stored at once."""
    from cytolora.experiments.engines.inline import run_jobs as run_here  # loads torch

    for number, job in enumerate(jobs, start=1):
        progress.say(f"job {number} of {len(jobs)}: {job.title}")
        run_here([job], inputs, store, device=device, progress=progress, rates=rates)


ONE_BY_ONE = Engine(
    name="one-by-one", description="One job after the other in this process, a line for each.", run_jobs=run_jobs
)
