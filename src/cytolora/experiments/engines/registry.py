"""Registry of engines; importing it loads neither torch nor Ray."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cytolora.core.registry import Registry
from cytolora.display.format import listed
from cytolora.errors import ConfigError
from cytolora.experiments.batch_division import BatchDivision
from cytolora.experiments.engines.workers import THIS_PROCESS, SetUp, Workers

if TYPE_CHECKING:
    import torch

    from cytolora.core.progress import Progress
    from cytolora.experiments.engines.queue import Queue
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


class CheckReady(Protocol):
    """Raises an error if work cannot begin: now, not after checkpoints were fetched and plans written."""

    def __call__(self, workers: Workers) -> None:
        """Looks at what was asked for, and at this machine."""
        ...


class RunUnits(Protocol):
    """Does all that a queue holds; for work that is no plan of runs."""

    def __call__(
        self,
        units: "Queue[Any]",
        setup: SetUp,
        *,
        device: "torch.device",
        progress: "Progress",
        workers: Workers,
        safe: str,
        worker: str,
    ) -> None:
        """Does it by the ``Worker`` of a module; ``safe``: sentence on what is kept where workers are lost."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Executes jobs: same plan, same store, same numbers."""

    name: str
    description: str
    run_jobs: RunJobs
    run_units: RunUnits | None = None
    """None: it does runs alone."""
    check_ready: CheckReady = lambda workers: None
    """Of runs."""
    has_workers: bool = False
    """Whether it distributes runs over ``Workers``."""
    has_cluster: bool = False
    """Whether these may be those of a cluster that runs already."""
    has_ranks: bool = False
    """Whether several processes may train one run."""
    has_batch: bool = False
    """Whether these are jobs of a batch system."""

    def check_division(self, division: BatchDivision) -> None:
        """Raises a ConfigError if several processes are asked for a run, and this engine does not start them."""
        if division.processes > 1 and not self.has_ranks:
            raise ConfigError(f"--gpus-per-run is for --engine {_able('has_ranks')}, not {self.name}.")

    def check(self, workers: Workers) -> None:
        """Raises a ConfigError if something is asked for that this engine does not do."""
        if workers.address is not None and not self.has_cluster:
            raise ConfigError(f"--address is for --engine {_able('has_cluster')}, not {self.name}.")
        if workers.batch and not self.has_batch:
            raise ConfigError(f"--slurm is for --engine {_able('has_batch')}, not {self.name}.")
        if workers != THIS_PROCESS and not self.has_workers:
            raise ConfigError(f"--workers is for --engine {_able('has_workers')}; {self.name} is this process alone.")


ENGINES: Registry[Engine] = Registry("engine")


def chosen_engine(name: str | None, workers: Workers) -> Engine:
    """Returns the engine of a name, or without one that which the workers ask for: none, some, a cluster's, jobs.

    Raises:
        ConfigError: If it does not do what is asked for.
    """
    if name is None:
        name = "inline" if workers == THIS_PROCESS else "processes"
        name = "ray" if workers.address is not None else "slurm" if workers.batch else name
    engine = ENGINES.get(name)
    engine.check(workers)
    return engine


def _able(what: str) -> str:
    return listed([engine.name for engine in ENGINES if getattr(engine, what)], "or")


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


def _processes(
    jobs: "Sequence[Job]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    rates: "Rates | None" = None,
) -> None:
    from cytolora.experiments.engines.processes import run_jobs

    run_jobs(jobs, inputs, store, device=device, progress=progress, workers=workers)


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


def _slurm(
    jobs: "Sequence[Job]",
    inputs: "Inputs",
    store: "Store",
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    rates: "Rates | None" = None,
) -> None:
    from cytolora.experiments.engines.slurm import run_jobs

    run_jobs(jobs, store, progress=progress, workers=workers)


def _ray_ready(workers: Workers) -> None:
    from cytolora.experiments.engines.ray_driver import check_cluster

    check_cluster(workers)


def _slurm_ready(workers: Workers) -> None:
    from cytolora.experiments.engines.slurm import check_cluster

    check_cluster(workers)


def _inline_units(
    units: "Queue[Any]",
    setup: SetUp,
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    safe: str,
    worker: str,
) -> None:
    from cytolora.experiments.engines.inline import run_units

    run_units(units, setup, device=device, progress=progress, worker=worker)


def _process_units(
    units: "Queue[Any]",
    setup: SetUp,
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    safe: str,
    worker: str,
) -> None:
    from cytolora.experiments.engines.processes import run_units

    run_units(units, setup, device=device, progress=progress, workers=workers, worker=worker)


def _ray_units(
    units: "Queue[Any]",
    setup: SetUp,
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    safe: str,
    worker: str,
) -> None:
    from cytolora.experiments.engines.ray_driver import run_units

    _ray_ready(workers)
    run_units(units, setup, device=device, progress=progress, workers=workers, safe=safe, worker=worker)


def _slurm_units(
    units: "Queue[Any]",
    setup: SetUp,
    *,
    device: "torch.device",
    progress: "Progress",
    workers: Workers,
    safe: str,
    worker: str,
) -> None:
    from cytolora.experiments.engines.slurm import run_units

    _slurm_ready(workers)
    root = setup(1, device).root  # each job makes a worker of its own, by the command that it is
    run_units(units, root, progress=progress, workers=workers, safe=safe)


ENGINES.add(
    Engine(
        name="inline",
        description="One run after the other, in this process.",
        run_jobs=_inline,
        run_units=_inline_units,
        has_ranks=True,
    )
)
ENGINES.add(
    Engine(
        name="processes",
        description="Several processes of this machine: one a GPU, or as many as its CPUs hold.",
        run_jobs=_processes,
        run_units=_process_units,
        has_workers=True,
        has_ranks=True,
    )
)
ENGINES.add(
    Engine(
        name="ray",
        description="Many workers of a Ray cluster, on this machine or others; needs cytolora[ray].",
        run_jobs=_ray,
        run_units=_ray_units,
        check_ready=_ray_ready,
        has_workers=True,
        has_cluster=True,
    )
)
ENGINES.add(
    Engine(
        name="slurm",
        description="Jobs of a SLURM cluster, which share the work through its folder; needs its sbatch command.",
        run_jobs=_slurm,
        run_units=_slurm_units,
        check_ready=_slurm_ready,
        has_workers=True,
        has_ranks=True,
        has_batch=True,
    )
)
