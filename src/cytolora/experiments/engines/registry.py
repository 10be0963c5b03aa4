"""Registry of engines; importing it loads neither torch nor Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cytolora.core.registry import Registry
from cytolora.errors import ConfigError
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers

if TYPE_CHECKING:
    import torch

    from cytolora.core.progress import Progress
    from cytolora.experiments.plan import Job
    from cytolora.experiments.store import Store
    from cytolora.experiments.workload import Rates
    from cytolora.training.resources import Inputs


class RunJobs(Protocol):
    """Executes every job; what is finished is stored at once, so that whoever starts again goes on."""

    def __call__(
        self,
        jobs: "Sequence[Job]",
        inputs: "Inputs",
        store: "Store",
        *,
        device: "torch.device",
        progress: "Progress",
        workers: Workers,
        rates: "Rates | None" = None,
    ) -> None:
        """Does it, on ``device``, telling ``progress``; ``rates``: of the work, as far as they are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Executes jobs: same plan, same store, same numbers."""

    name: str
    description: str
    run_jobs: RunJobs
    has_workers: bool = False
    """Whether it distributes runs over ``Workers``."""

    def check(self, workers: Workers) -> None:
        """Raises a ConfigError if something is asked for that this engine does not do."""
        if workers != THIS_PROCESS and not self.has_workers:
            able = ", ".join(engine.name for engine in ENGINES if engine.has_workers)
            raise ConfigError(f"--address and --workers are for --engine {able}; {self.name} is this process alone.")


ENGINES: Registry[Engine] = Registry("engine")


def _inline(
    jobs: "Sequence[Job]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    rates: "Rates | None" = None,
) -> None:
    from cytolora.experiments.engines.inline import run_jobs

    run_jobs(jobs, inputs, store, device=device, progress=progress, rates=rates)


def _ray(
    jobs: "Sequence[Job]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    rates: "Rates | None" = None,
) -> None:
    from cytolora.experiments.engines.ray_driver import run_jobs

    run_jobs(jobs, inputs, store, device=device, progress=progress, workers=workers)


ENGINES.add(Engine(name="inline", description="One run after the other, in this process.", run_jobs=_inline))
ENGINES.add(
    Engine(
        name="ray",
        description="Many workers of a Ray cluster, on this machine or others; needs cytolora[ray].",
        run_jobs=_ray,
        has_workers=True,
    )
)
