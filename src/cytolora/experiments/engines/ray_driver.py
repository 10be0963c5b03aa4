"""Distributes the units of a plan over the workers of a Ray cluster; the store on disk records what is done."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

from cytolora.core.machine import num_cpus
from cytolora.core.progress import Progress
from cytolora.errors import CytoloraError, EngineError
from cytolora.experiments.engines.driver import kept, open_units, worker_setup
from cytolora.experiments.engines.pool import Pool, WorkerDiedError
from cytolora.experiments.engines.process_worker import RUNS
from cytolora.experiments.engines.queue import Queue, Work
from cytolora.experiments.engines.ray_cluster import (
    check_address,
    free_resources,
    local_cluster,
    require_ray,
    running_cluster,
    too_small,
)
from cytolora.experiments.engines.ray_watch import look_at, raise_if_dead, run_watched, started
from cytolora.experiments.engines.workers import SetUp, Workers
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

_ANSWER_SECONDS = 10
"""For what a dead actor has answered: it is known by then, or never."""


def run_jobs(
    jobs: Sequence[Job],
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    progress: Progress,
    workers: Workers,
) -> None:
    """Executes every job on the workers of a cluster; what is finished is stored at once.

    A worker that dies is replaced and its unit given out again, three times at most. Every run computes with as many
    threads as this process is set to, so that its numbers are those of the engine ``inline``.

    Raises:
        EngineError: If workers cannot be started, die at one unit again and again, or the cluster is lost.
    """
    check_cluster(workers)
    units = open_units(jobs, inputs, store, progress)

    def setup(threads: int, device: torch.device) -> Any:
        return worker_setup(jobs, inputs, store, device=device, threads=threads)

    run_units(units, setup, device=device, progress=progress, workers=workers, safe=kept(store))


def check_cluster(workers: Workers) -> None:
    """Raises an error if there is no Ray here, or a cluster may not be joined: now, not after data were read."""
    require_ray()
    if workers.address is not None:
        check_address(workers.address)


def run_units(
    units: Queue[Any],
    setup: SetUp,
    *,
    device: torch.device,
    progress: Progress,
    workers: Workers,
    safe: str,
    worker: str = RUNS,
) -> None:
    """Has the workers of a cluster do all that a queue holds.

    Args:
        safe: Sentence on what is kept where the cluster is lost.
        worker: Module of the ``Worker`` that it is told to.

    Raises:
        EngineError: If workers cannot be started, die at one unit again and again, or the cluster is lost.
    """
    if not units.waiting:
        return
    threads = torch.get_num_threads()
    with _cluster(workers, threads, device, safe) as ray:
        (num_workers, resources), look = started(
            lambda: (_sized(ray, workers, threads, device), look_at(ray)), safe=safe
        )
        worker_threads = int(resources["num_cpus"]) if device.type == "cuda" else threads
        crew = RayCrew(
            ray=ray,
            setup=setup(worker_threads, device),
            resources=resources,
            check_alive=lambda: raise_if_dead(look, safe=safe),
            worker=worker,
        )
        pool, num_workers = Pool(crew=crew, units=units, progress=progress), min(num_workers, len(units.waiting))
        run_watched(lambda is_left: pool.run(num_workers, is_left), look, safe=safe)


def _cluster(workers: Workers, threads: int, device: torch.device, safe: str) -> AbstractContextManager[ModuleType]:
    if workers.address is not None:
        return running_cluster(workers.address)
    cpus = num_cpus()
    worker_cpus = (workers.count or max(1, cpus // threads)) * threads
    return local_cluster(
        num_cpus=cpus if device.type == "cuda" else worker_cpus,
        num_gpus=torch.cuda.device_count() if device.type == "cuda" else 0,
        safe=safe,
    )


def _sized(ray: ModuleType, workers: Workers, threads: int, device: torch.device) -> tuple[int, dict[str, float]]:
    """Returns the number of workers and what each takes of a node."""
    cpus, gpus = free_resources(ray)
    if device.type != "cuda":
        if cpus < threads:
            raise too_small(cpus, threads)
        return workers.count or cpus // threads, {"num_cpus": threads}
    if not gpus:
        raise EngineError("The cluster has no GPU. Use --device cpu.")
    num_workers = workers.count or gpus
    return num_workers, {"num_cpus": max(1, min(threads, cpus // num_workers)), "num_gpus": min(1, gpus / num_workers)}


@dataclass(kw_only=True)
class RayCrew:
    """Workers that are actors of Ray.

    The setup travels inside the message (``ray_cluster`` raises Ray's limit for that), never through the object store:
    Ray ends this process, without a word to it, when its node dies and an object of its own is in that node's store.
    """

    ray: ModuleType
    setup: Any
    resources: dict[str, float]
    """Of a worker."""
    check_alive: Callable[[], None]
    """Raises an EngineError if the cluster is lost; nothing more may be asked of it then."""
    worker: str = RUNS
    """Module of the ``Worker``."""
    begun: dict[Any, Any] = field(default_factory=dict)
    """By the promise of a unit, that of an answer just before the actor begins with it: one that died idle gives none.
    """

    def new(self) -> Any:
        """Returns another actor."""
        own = import_module(self.worker).Worker
        actor = self.ray.remote(max_restarts=0, max_task_retries=0, **self.resources)(own)
        return actor.remote(setup=self.setup)

    def start(self, worker: Any) -> Any:
        """Has an actor make ready."""
        return worker.start.remote()

    def work(self, worker: Any, unit: Work) -> Any:
        """Has an actor do a unit; an actor does one thing after the other."""
        begun = worker.begin.remote()
        promise = worker.work.remote(unit)
        self.begun[promise] = begun
        return promise

    def wait(self, promises: Sequence[Any], seconds: float) -> list[Any]:
        """Waits for one of the promises."""
        return self.ray.wait(list(promises), num_returns=1, timeout=seconds)[0]

    def result(self, promise: Any) -> int:
        """Returns what a promise became.

        Raises:
            CytoloraError: That of the worker, or an EngineError if the actor died with its cluster.
            WorkerDiedError: If the actor alone died.
        """
        exceptions, begun = self.ray.exceptions, self.begun.pop(promise, None)
        try:
            return self.ray.get(promise) or 0
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CytoloraError):
                raise cause from None
            raise
        except exceptions.RayError as error:
            why = reason(error)
            self.check_alive()
            raise WorkerDiedError(why, has_taken=begun is None or self._is_answered(begun)) from error

    def _is_answered(self, begun: Any) -> bool:
        try:
            self.ray.get(begun, timeout=_ANSWER_SECONDS)
        except self.ray.exceptions.RayError:
            return False
        return True

    def is_gone(self, worker: Any) -> bool:
        """Never known: Ray tells it of the next thing that an actor is given."""
        return False

    def ask_to_stop(self) -> None:
        """Does nothing: an actor does what it was told before; without its driver it ends."""

    def has_room(self) -> bool:
        """Whether the nodes hold a worker at all."""
        return free_resources(self.ray)[0] >= self.resources["num_cpus"]


def reason(error: Exception) -> str:
    """Picks one line out of Ray's many: the exception that ended a worker where one is named, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if re.match(r"[\w.]+Error: ", line)]
    return named[-1] if named else lines[0]
