"""Distributes the units of a plan over the workers of a Ray cluster; the store on disk records what is done."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from time import monotonic
from types import ModuleType
from typing import Any

import torch

from cytolora.core.machine import num_cpus
from cytolora.core.progress import Progress
from cytolora.core.provenance import software
from cytolora.core.text import counted
from cytolora.errors import CytoloraError, EngineError
from cytolora.experiments.cost import num_passes
from cytolora.experiments.engines.ray_cluster import (
    check_address,
    free_resources,
    local_cluster,
    require_ray,
    running_cluster,
    too_small,
)
from cytolora.experiments.engines.ray_watch import look_at, raise_if_dead, run_watched, started
from cytolora.experiments.engines.units import DatasetBackbone, Unit, Units, split_up
from cytolora.experiments.engines.workers import Workers
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES, BackboneSpec
from cytolora.training.protocol import PASSES
from cytolora.training.resources import Inputs

_MAX_FAILED_STARTS = 3
_START_SECONDS = 600
"""Longest time without any event while no worker has started: nodes may still be joining."""
_ROOM_SECONDS = 30
"""Longest time without any event while the nodes that are left have no room for a worker."""
_WAIT_SECONDS = 2
"""For one wait: in between, whether anybody still waits is looked at."""


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
    require_ray()
    if workers.address is not None:
        check_address(workers.address)
    units = split_up(
        jobs,
        is_stored=lambda run: store.find(run.run_id) is not None,
        num_images=lambda run: run.num_images_seen(len(inputs.split(run).train)),
    )
    if not units.waiting:
        return
    store.make_root()
    store.sweep()
    missing = [run for job in jobs for run in job.runs if store.find(run.run_id) is None]
    adapters = [run for run in missing if run.kind == "adapter"]
    progress.begin(counted(len(missing), "run"), num_passes(adapters, inputs), PASSES)
    _read_once(jobs, inputs)
    threads = torch.get_num_threads()
    safe = f"What was finished is kept in {store.root}; the same command goes on from there."
    with _cluster(workers, threads, device, safe) as ray:
        (num_workers, resources), look = started(
            lambda: (_sized(ray, workers, threads, device), look_at(ray)), safe=safe
        )
        setup = _setup(jobs, inputs, store, device, int(resources["num_cpus"]) if device.type == "cuda" else threads)
        pool = _Pool(
            ray=ray,
            new=_actors(ray, setup, resources),
            has_room=lambda: free_resources(ray)[0] >= resources["num_cpus"],
            check=lambda: raise_if_dead(look, safe=safe),
            units=units,
            progress=progress,
        )
        num_workers = min(num_workers, len(units.waiting))
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


def _read_once(jobs: Sequence[Job], inputs: Inputs) -> None:
    """Reads data and hashes weights here, not in every worker; it takes a while, before there is a cluster to lose."""
    for job in jobs:
        first = job.settings[0][0]
        inputs.manifest(first.dataset, first.split)
        inputs.weights_sha256(job.backbone)


def _setup(jobs: Sequence[Job], inputs: Inputs, store: Store, device: torch.device, threads: int) -> Any:
    from cytolora.experiments.engines.ray_worker import WorkerSetup

    return WorkerSetup(
        inputs=inputs.absolute(),
        root=store.root.resolve(),
        device=device,
        threads=threads,
        backbones=[_absolute(BACKBONES.get(name)) for name in sorted({job.backbone for job in jobs})],
        versions=software()["versions"],
    )


def _absolute(spec: BackboneSpec) -> BackboneSpec:
    return replace(spec, weights=spec.weights.absolute()) if isinstance(spec.weights, Path) else spec


def _actors(ray: ModuleType, setup: Any, resources: dict[str, float]) -> Callable[[], Any]:
    """Returns what starts a worker. Retries are ours: a new actor must load and check before it works.

    The setup travels inside the message (``ray_cluster`` raises Ray's limit for that), never through the object store:
    Ray ends this process, without a word to it, when its node dies and an object of its own is in that node's store.
    """
    from cytolora.experiments.engines.ray_worker import Worker

    actor = ray.remote(max_restarts=0, max_task_retries=0, **resources)(Worker)
    return lambda: actor.remote(setup=setup)


@dataclass(kw_only=True)
class _Pool:
    """The workers of one run of a plan."""

    ray: ModuleType
    new: Callable[[], Any]
    has_room: Callable[[], bool]
    """Whether the nodes hold a worker at all."""
    check: Callable[[], None]
    """Raises an EngineError if the cluster is lost; nothing more may be asked of it then."""
    units: Units
    progress: Progress
    starting: dict[Any, Any] = field(default_factory=dict)
    """Workers by the promise that they are ready."""
    busy: dict[Any, tuple[Any, Unit]] = field(default_factory=dict)
    """Workers and their units by the promise of the unit's result."""
    idle: list[tuple[Any, DatasetBackbone | None]] = field(default_factory=list)
    failed_starts: int = 0

    def run(self, num_workers: int, is_left: Event) -> None:
        """Works until no unit is left, or the event is set."""
        self.progress.say(f"starting {num_workers} workers")
        for _ in range(num_workers):
            self._start()
        while (self.units.waiting or self.busy) and not is_left.is_set():
            self._give_out()
            for promise in self._ready(is_left):
                self._take_in(promise)

    def _ready(self, is_left: Event) -> list[Any]:
        """Waits for the next event; returns its promise, none if the event is set.

        Raises:
            EngineError: If no worker is at work and none starts.
        """
        began = monotonic()
        while not is_left.is_set():
            ready, _ = self.ray.wait([*self.starting, *self.busy], num_returns=1, timeout=_WAIT_SECONDS)
            if ready:
                return ready
            seconds = monotonic() - began
            if self.busy or seconds < _ROOM_SECONDS:
                continue
            if seconds > _START_SECONDS or not self.has_room():
                raise EngineError(
                    f"No worker has started within {seconds:.0f} s; the cluster has no room for one. What was finished "
                    "is kept; the same command goes on from there."
                )
        return []

    def _start(self) -> None:
        actor = self.new()
        self.starting[actor.start.remote()] = actor

    def _give_out(self) -> None:
        at_work = Counter(unit.key for _, unit in self.busy.values())
        still_idle = []
        for actor, loaded in self.idle:
            unit = self.units.take(loaded, at_work)
            if unit is None:
                still_idle.append((actor, loaded))
                continue
            at_work[unit.key] += 1
            self.busy[actor.work.remote(unit)] = actor, unit
        self.idle = still_idle

    def _take_in(self, promise: Any) -> None:
        if promise in self.starting:
            actor = self.starting.pop(promise)
            if self._result(promise, None) is not None:
                self.idle.append((actor, None))
            return
        actor, unit = self.busy.pop(promise)
        images = self._result(promise, unit)
        if images is None:
            return
        self.units.done(unit)
        self.idle.append((actor, unit.key))
        self.progress.done(images)
        self.progress.status(f"{len(self.busy) + len(self.idle)} workers; finished {unit}")

    def _result(self, promise: Any, unit: Unit | None) -> int | None:
        """Returns what a worker gave, or None if it died; then another one starts in its place."""
        exceptions = self.ray.exceptions
        try:
            return self.ray.get(promise) or 0
        except exceptions.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, CytoloraError):
                raise cause from None
            raise
        except exceptions.RayError as error:
            why = reason(error)
            self.check()  # it may have died with its node
            if unit is not None:
                self.units.lost(unit, why)
                self.progress.say(f"a worker died; once more: {unit}")
            else:
                self.failed_starts += 1
                if self.failed_starts >= _MAX_FAILED_STARTS:
                    raise EngineError(
                        f"{self.failed_starts} workers died while they started, the last: {why}"
                    ) from error
        self._start()
        return None


def reason(error: Exception) -> str:
    """Picks one line out of Ray's many: the exception that ended a worker where one is named, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = [line for line in lines if re.match(r"[\w.]+Error: ", line)]
    return named[-1] if named else lines[0]
