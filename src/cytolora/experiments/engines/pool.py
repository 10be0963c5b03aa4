"""Pool of workers: gives units out, takes results in, and replaces workers that die; knows no engine."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any, Protocol

from cytolora.core.progress import Progress
from cytolora.core.stopping import is_asked, stop_if_asked
from cytolora.core.text import counted
from cytolora.errors import EngineError
from cytolora.experiments.claims import ClaimedError
from cytolora.experiments.engines.queue import Loaded, Queue, Work

_MAX_FAILED_STARTS = 3
_START_SECONDS = 600
"""Longest time without any event while no worker has started: nodes may still be joining."""
_ROOM_SECONDS = 30
"""Longest time without any event while there is no room for a worker."""
_WAIT_SECONDS = 2
"""For one wait: in between, whether anybody still waits is looked at."""


class WorkerDiedError(Exception):
    """A worker is gone, and with it what it was at; says why in a line."""

    def __init__(self, why: str, *, has_taken: bool = True) -> None:
        """Takes the line, and whether the worker had begun with what it was given."""
        super().__init__(why)
        self.has_taken = has_taken


class WorkerStoppedError(Exception):
    """A worker has ended its work at a boundary, as it was asked to."""


class Crew(Protocol):
    """Workers of an engine. A promise, which can be hashed, stands for what a worker was told to do."""

    def new(self) -> Any:
        """Returns another worker."""
        ...

    def start(self, worker: Any) -> Any:
        """Has a worker make ready; returns a promise."""
        ...

    def work(self, worker: Any, unit: Work) -> Any:
        """Has a worker do a unit; returns the promise of the number of images that it went through."""
        ...

    def wait(self, promises: Sequence[Any], seconds: float) -> list[Any]:
        """Waits for one of the promises; returns it, none if there is none in time."""
        ...

    def result(self, promise: Any) -> int:
        """Returns what a promise became.

        Raises:
            CytoloraError: That of the worker.
            WorkerDiedError: If the worker is gone, and another can take its place.
            WorkerStoppedError: If it has ended its work at a boundary, as it was asked to.
        """
        ...

    def ask_to_stop(self) -> None:
        """Has the workers end their work at its next boundary, where they can be told."""
        ...

    def is_gone(self, worker: Any) -> bool:
        """Whether a worker that has nothing to do is known to have ended; never waits."""
        ...

    def has_room(self) -> bool:
        """Whether there is room for a worker at all."""
        ...


@dataclass(kw_only=True)
class Pool:
    """The workers of one run of a plan. Retries are ours: a new worker must load and check before it works."""

    crew: Crew
    units: Queue[Any]
    progress: Progress
    starting: dict[Any, Any] = field(default_factory=dict)
    """Workers by the promise that they are ready."""
    busy: dict[Any, tuple[Any, Any]] = field(default_factory=dict)
    """Workers and their units by the promise of the unit's result."""
    idle: list[tuple[Any, Loaded | None]] = field(default_factory=list)
    failed_starts: int = 0
    num_workers: int = 0
    untaken: int = 0
    """Workers in a row that ended before they began with a unit; a unit that is done begins the count anew."""
    is_stopping: bool = False
    """Whether the workers were asked to stop."""
    awaited: set[str] = field(default_factory=set)
    """What was said of work that other commands are at."""

    def run(self, num_workers: int, is_left: Event | None = None) -> None:
        """Works until no unit is left, or the event is set.

        Raises:
            EngineError: If workers cannot be started, or die at one unit again and again.
            StoppedError: If the command was asked to stop, and no worker is at work any more.
        """
        is_left, self.num_workers = is_left or Event(), num_workers
        self.progress.say(f"starting {num_workers} workers")
        for _ in range(num_workers):
            self._start()
        while (self.units.are_left or self.busy) and not is_left.is_set():
            if not self._stops():
                self._replace_gone()
                self._give_out()
            if not self.starting and not self.busy:  # all that is left is computed by other commands
                is_left.wait(_WAIT_SECONDS / 4)
                continue
            for promise in self._ready(is_left):
                self._take_in(promise)

    def _stops(self) -> bool:
        """Whether the command was asked to stop: then workers come to a boundary, and no unit is given out any more.

        Raises:
            StoppedError: If no worker is at work any more.
        """
        if not self.busy:
            stop_if_asked()
        if is_asked() and not self.is_stopping:
            self.is_stopping = True
            self.crew.ask_to_stop()
        return self.is_stopping

    def _ready(self, is_left: Event) -> list[Any]:
        """Waits for the next event; returns its promise, none if the event is set or an idle worker has ended.

        Raises:
            EngineError: If no worker is at work and none starts.
        """
        began = monotonic()
        while not is_left.is_set():
            if ready := self.crew.wait([*self.starting, *self.busy], _WAIT_SECONDS):
                return ready
            if is_asked() and not self.is_stopping:
                return []
            if any(self.crew.is_gone(worker) for worker, _ in self.idle) or (self.units.elsewhere and self.idle):
                return []
            seconds = monotonic() - began
            if self.busy or seconds < _ROOM_SECONDS:
                continue
            if seconds > _START_SECONDS or not self.crew.has_room():
                raise EngineError(
                    f"No worker has started within {seconds:.0f} s; the cluster has no room for one. What was finished "
                    "is kept; the same command goes on from there."
                )
        return []

    def _start(self) -> None:
        worker = self.crew.new()
        self.starting[self.crew.start(worker)] = worker

    def _replace_gone(self) -> None:
        """Starts others for idle workers that have ended: whatever ended them, it was no unit."""
        gone = [worker for worker, _ in self.idle if self.crew.is_gone(worker)]
        if gone:
            self.idle = [(worker, loaded) for worker, loaded in self.idle if worker not in gone]
            self.progress.say(f"{counted(len(gone), 'idle worker')} died, and others start")
        for _ in gone:
            self._count_untaken("while it was idle")
            self._start()

    def _give_out(self) -> None:
        at_work = Counter(unit.key for _, unit in self.busy.values())
        still_idle = []
        for worker, loaded in self.idle:
            unit = self.units.take(loaded, at_work)
            if unit is None:
                still_idle.append((worker, loaded))
                continue
            at_work[unit.key] += 1
            self.busy[self.crew.work(worker, unit)] = worker, unit
        self.idle = still_idle

    def _take_in(self, promise: Any) -> None:
        if promise in self.starting:
            worker = self.starting.pop(promise)
            if self._result(promise, None) is not None:
                self.idle.append((worker, None))
            return
        worker, unit = self.busy.pop(promise)
        try:
            images = self._result(promise, unit)
        except ClaimedError as error:
            self._put_off(worker, unit, error)
            return
        except WorkerStoppedError:
            self.units.give_back(unit)
            return
        if images is None:
            return
        self.untaken = 0
        self.units.done(unit)
        self.idle.append((worker, unit.key))
        self.progress.done(images)
        self.progress.status(f"{len(self.busy) + len(self.idle)} workers; finished {unit}")

    def _put_off(self, worker: Any, unit: Work, error: ClaimedError) -> None:
        self.untaken = 0
        self.idle.append((worker, unit.key))
        self.units.put_off(unit)
        if str(error) not in self.awaited:
            self.awaited.add(str(error))
            self.progress.say(f"waiting for what other commands compute: {error}")

    def _result(self, promise: Any, unit: Work | None) -> int | None:
        """Returns what a worker gave, or None if it died; then another one starts in its place."""
        try:
            return self.crew.result(promise)
        except WorkerDiedError as error:
            if unit is None:
                self._count_failed_start(error)
            elif error.has_taken:
                self.units.lost(unit, str(error))
                self.progress.say(f"a worker died; once more: {unit}")
            else:
                self.units.give_back(unit)
                self._count_untaken(str(error))
        self._start()
        return None

    def _count_failed_start(self, error: WorkerDiedError) -> None:
        self.failed_starts += 1
        if self.failed_starts >= _MAX_FAILED_STARTS:
            raise EngineError(f"{self.failed_starts} workers died while they started, the last: {error}") from error

    def _count_untaken(self, why: str) -> None:
        """Counts a worker that ended between two units; all may at once, but not again and again."""
        self.untaken += 1
        if self.untaken >= self.num_workers + _MAX_FAILED_STARTS:
            raise EngineError(
                f"{self.untaken} workers in a row died before they began with a unit, the last: {why}. Something ends "
                "them: often memory is short, so take fewer --workers. What was finished is kept; the same command "
                "goes on from there."
            )
