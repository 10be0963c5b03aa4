"""Pool of workers against a crew without processes: who dies when, and what it is counted against."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from stand_in_runs import run_and_its_test_set, units_of

from cytolora.core import stopping
from cytolora.core.progress import SILENT, Progress
from cytolora.errors import EngineError
from cytolora.experiments.engines.pool import Pool, WorkerDiedError, WorkerStoppedError
from cytolora.experiments.engines.units import Unit


@dataclass(eq=False)
class _Worker:
    number: int
    is_dead: bool = False
    has_taken: bool = False
    unit: Unit | None = None
    is_ready: bool = False
    num_done: int = 0


@dataclass(kw_only=True)
class _Crew:
    """Does one thing at a time: workers make ready first, then the one that began first ends."""

    before_work: Callable[["_Crew", _Worker], None] = lambda crew, worker: None
    """Called when a worker is given a unit, before it takes it."""
    before_end: Callable[["_Crew", _Worker], None] = lambda crew, worker: None
    """Called when a worker has taken its unit, before it is done."""
    workers: list[_Worker] = field(default_factory=list)
    num_asked: int = 0
    """How often it was asked to stop."""

    def new(self) -> _Worker:
        self.workers.append(_Worker(len(self.workers)))
        return self.workers[-1]

    def start(self, worker: _Worker) -> _Worker:
        return worker

    def work(self, worker: _Worker, unit: Any) -> _Worker:
        worker.unit, worker.has_taken = unit, False
        self.before_work(self, worker)
        worker.has_taken = not worker.is_dead
        return worker

    def wait(self, promises: Sequence[_Worker], seconds: float) -> list[_Worker]:
        for worker in promises:
            if not worker.is_ready or worker.is_dead:
                return [worker]
        if not promises:
            return []
        self.before_end(self, promises[0])
        return [promises[0]]

    def result(self, promise: _Worker) -> int:
        if promise.is_dead:
            raise WorkerDiedError(f"worker {promise.number} was killed", has_taken=promise.has_taken)
        if self.num_asked and promise.unit is not None:
            raise WorkerStoppedError
        promise.num_done += promise.is_ready
        promise.is_ready, promise.unit = True, None
        return 1

    def is_gone(self, worker: _Worker) -> bool:
        return worker.is_dead

    def ask_to_stop(self) -> None:
        self.num_asked += 1

    def has_room(self) -> bool:
        return True


def test_a_stop_request_has_workers_come_to_a_boundary_and_gives_nothing_out():
    crew, units = _Crew(before_work=lambda crew, worker: stopping.ask()), units_of("one", "two", "three", "four")
    pool = Pool(crew=crew, units=units, progress=SILENT)
    with pytest.raises(stopping.StoppedError), stopping.heeding_signals():
        pool.run(3)
    assert not pool.busy
    assert crew.num_asked == 1
    assert len(crew.workers) == 3
    assert len(units.waiting) + sum(worker.num_done for worker in crew.workers) == 4
    assert len(units.waiting) > 1


@pytest.mark.parametrize("num_dead", [1, 2, 3, 4, 7])
def test_idle_workers_that_die_are_replaced_and_no_unit_is_charged(num_dead: int):
    def kill_idle(crew: _Crew, busy: _Worker) -> None:
        if len(crew.workers) == num_dead + 1:
            for worker in crew.workers:
                worker.is_dead = worker is not busy

    crew, units = _Crew(before_end=kill_idle), run_and_its_test_set("cells")
    pool = Pool(crew=crew, units=units, progress=SILENT)
    pool.run(num_dead + 1)
    assert not units.waiting
    assert not units.attempts
    assert len(crew.workers) == 2 * num_dead + 1
    assert not any(worker.is_dead for worker, _ in pool.idle)
    assert len(pool.idle) + len(pool.starting) == num_dead + 1


@pytest.mark.parametrize("deaths", [1, 2, 3, 5])
def test_a_unit_that_a_worker_never_took_is_given_out_again_and_not_charged(deaths: int):
    def die_before(crew: _Crew, worker: _Worker) -> None:
        worker.is_dead = worker.number < deaths

    said: list[str] = []
    crew, units = _Crew(before_work=die_before), units_of("cells")
    Pool(crew=crew, units=units, progress=Progress(say=said.append)).run(3)
    assert not units.waiting
    assert not units.attempts
    assert not any("once more" in line for line in said)


def test_a_unit_that_was_taken_is_charged_with_its_worker():
    def die_at(crew: _Crew, worker: _Worker) -> None:
        worker.is_dead = worker.number < 2

    crew, units = _Crew(before_end=die_at), units_of("cells")
    Pool(crew=crew, units=units, progress=SILENT).run(1)
    assert list(units.attempts.values()) == [2]


def test_the_third_worker_that_dies_at_one_unit_ends_the_run():
    def die_at(crew: _Crew, worker: _Worker) -> None:
        worker.is_dead = True

    with pytest.raises(EngineError, match=r"3 workers died at run, run, the last: worker 2 was killed\."):
        Pool(crew=_Crew(before_end=die_at), units=units_of("cells"), progress=SILENT).run(1)


def test_workers_that_die_between_two_units_do_not_add_up_over_a_long_run():
    def die_after_one(crew: _Crew, worker: _Worker) -> None:
        worker.is_dead = worker.num_done > 0

    crew, units = _Crew(before_work=die_after_one), units_of(*map(str, range(20)))
    Pool(crew=crew, units=units, progress=SILENT).run(1)
    assert not units.waiting
    assert not units.attempts
    assert len(crew.workers) == 20


@pytest.mark.parametrize("num_workers", [1, 4])
def test_workers_that_always_die_before_they_begin_end_the_run_without_blaming_a_unit(num_workers: int):
    def die(crew: _Crew, worker: _Worker) -> None:
        worker.is_dead = True

    crew, units = _Crew(before_work=die), units_of(*map(str, range(2)))
    limit = num_workers + 3
    with pytest.raises(EngineError, match=rf"{limit} workers in a row died before they began .* Something ends them"):
        Pool(crew=crew, units=units, progress=SILENT).run(num_workers)
    assert not units.attempts
