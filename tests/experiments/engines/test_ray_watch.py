"""The end of work on a cluster that is lost, without a cluster."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from cytolora.core.progress import Progress
from cytolora.errors import EngineError
from cytolora.experiments.engines import pool as pool_module
from cytolora.experiments.engines import ray_driver, ray_watch
from cytolora.experiments.engines.pool import Pool, WorkerDiedError
from cytolora.experiments.engines.ray_watch import leave, raise_if_dead, run_watched, started
from cytolora.experiments.engines.units import Units

SAFE = "What was finished is kept."


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_watch, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(ray_watch, "SILENT_SECONDS", 0.3)
    monkeypatch.setattr(ray_watch, "_LEAVE_SECONDS", 0.3)
    monkeypatch.setattr(ray_watch, "_STEP_SECONDS", 0.05)


def test_work_that_ends_is_waited_for_and_what_it_raises_is_raised():
    did = []
    run_watched(lambda is_left: did.append(is_left.wait(0.2)), lambda: True, safe=SAFE)
    assert did == [False]

    def fail(is_left: Event) -> None:
        raise ZeroDivisionError("of the work")

    with pytest.raises(ZeroDivisionError, match="of the work"):
        run_watched(fail, lambda: True, safe=SAFE)


@pytest.mark.parametrize(
    ("answer", "words"), [(False, r"\(raylet\) has died"), (None, r"\(GCS\) has not answered for")]
)
def test_work_that_is_stuck_in_a_lost_cluster_is_left_with_a_word_on_what_is_safe(answer: bool | None, words: str):
    left, stuck = [], Event()

    def work(is_left: Event) -> None:
        stuck.wait(30)  # a call that does not return
        left.append(is_left.is_set())

    start = time.monotonic()
    with pytest.raises(EngineError, match=f"The Ray cluster is lost: .*{words}.*{SAFE}"):
        run_watched(work, lambda: answer, safe=SAFE)
    assert time.monotonic() - start < 10
    stuck.set()
    while not left:
        time.sleep(0.01)
    assert left == [True]


@pytest.mark.slow
def test_silence_that_ends_in_time_is_no_loss():
    answers = iter([None, True] * 30)
    with pytest.raises(StopIteration):
        run_watched(lambda is_left: Event().wait(30), lambda: (time.sleep(0.02), next(answers))[1], safe=SAFE)  # type: ignore[func-returns-value]


def test_an_interrupt_leaves_the_work():
    left: list[Event] = []

    def look() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_watched(lambda is_left: (left.append(is_left), Event().wait(1))[0], look, safe=SAFE)  # type: ignore[func-returns-value]
    assert left[0].is_set()


def test_a_worker_that_died_with_its_node_is_not_replaced():
    """A call to a dead node may end this process without a word."""

    def get(promise: Any) -> None:
        raise died

    died = type("RayError", (Exception,), {})("The actor died.")
    exceptions = SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}), RayError=type(died))
    asked: list[str] = []
    crew = ray_driver.RayCrew(
        ray=SimpleNamespace(get=get, exceptions=exceptions),  # type: ignore[arg-type]
        setup=None,
        resources={},
        check_alive=lambda: raise_if_dead(lambda: False, safe=SAFE),
    )
    crew.new = lambda: asked.append("another worker")
    pool = Pool(crew=crew, units=Units(waiting=[]), progress=Progress())
    with pytest.raises(EngineError, match=f"raylet.*{SAFE}"):
        pool._result(object(), None)
    assert not asked


@pytest.mark.parametrize("was_alive", [True, False])
def test_a_unit_is_charged_for_an_actor_that_died_at_it_and_not_for_one_that_died_idle(was_alive: bool):
    ray_error = type("RayError", (Exception,), {})

    def get(promise: str, timeout: float | None = None) -> None:
        if promise == "work" or not was_alive:
            raise ray_error("The actor died.")

    calls: list[str] = []

    def call(name: str) -> Any:
        return SimpleNamespace(remote=lambda *_: calls.append(name) or name)

    crew = ray_driver.RayCrew(
        ray=SimpleNamespace(  # type: ignore[arg-type]
            get=get, exceptions=SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}), RayError=ray_error)
        ),
        setup=None,
        resources={},
        check_alive=lambda: None,
    )
    promise = crew.work(SimpleNamespace(begin=call("begin"), work=call("work")), None)  # type: ignore[arg-type]
    assert calls == ["begin", "work"]
    with pytest.raises(WorkerDiedError) as raised:
        crew.result(promise)
    assert raised.value.has_taken is was_alive
    assert crew.begun == {}


def test_a_closed_door_is_told_from_one_that_is_open_or_does_not_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_watch, "_ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        door = listening.getsockname()
        assert not ray_watch._is_closed(door)
    assert ray_watch._is_closed(door)
    assert not ray_watch._is_closed(("host.invalid", 1))


@pytest.mark.parametrize("seconds", [0, 20])
def test_leaving_waits_for_ray_for_a_bounded_time(seconds: float, monkeypatch: pytest.MonkeyPatch):
    ended, forgotten = [], []

    def shutdown() -> None:
        Event().wait(seconds)
        ended.append(True)

    monkeypatch.setattr(atexit, "unregister", forgotten.append)
    start = time.monotonic()
    leave(SimpleNamespace(shutdown=shutdown))  # type: ignore[arg-type]
    assert time.monotonic() - start < 10
    assert bool(ended) == (not seconds)
    assert forgotten == ([shutdown] if seconds else [])


@pytest.mark.parametrize(("has_room", "starts"), [(False, 0), (True, 600)])
def test_workers_that_cannot_start_are_waited_for_only_where_there_is_room(
    has_room: bool, starts: int, monkeypatch: pytest.MonkeyPatch
):
    now = [0.0]

    def wait(promises: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        now[0] += timeout
        return [], promises

    monkeypatch.setattr(pool_module, "monotonic", lambda: now[0])
    actor = SimpleNamespace(start=SimpleNamespace(remote=object))
    crew = ray_driver.RayCrew(
        ray=SimpleNamespace(wait=wait),  # type: ignore[arg-type]
        setup=None,
        resources={},
        check_alive=lambda: None,
    )
    crew.new, crew.has_room = lambda: actor, lambda: has_room
    pool = Pool(crew=crew, units=Units(waiting=[None]), progress=Progress())  # type: ignore[list-item]
    with pytest.raises(EngineError, match=r"no room for one. What was finished is kept"):
        pool.run(1, Event())
    assert max(starts, 30) <= now[0] <= max(starts, 30) + 4


@pytest.mark.parametrize("error", [EngineError("too small"), KeyboardInterrupt("of a user")])
def test_a_start_that_ends_gives_its_result_or_its_error(error: BaseException):
    assert started(lambda: 7, safe=SAFE) == 7

    def fail() -> None:
        raise error

    with pytest.raises(type(error), match=str(error)):
        started(fail, safe=SAFE)


def test_what_ray_raises_at_the_start_is_one_line_with_a_word_on_what_is_safe():
    def fail() -> None:
        raise RuntimeError("Timed out waiting for file gcs_port.\nTraceback of a helper")

    with pytest.raises(EngineError, match=f"^The Ray cluster did not start: Timed out .* gcs_port. {SAFE}$"):
        started(fail, safe=SAFE)


def test_a_start_that_takes_too_long_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ray_watch, "START_SECONDS", 0.3)
    start = time.monotonic()
    with pytest.raises(EngineError, match=f"did not start within 0 s. {SAFE}"):
        started(lambda: time.sleep(60), safe=SAFE)
    assert time.monotonic() - start < 10


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the names of dead processes stand in /proc alone")
@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_start_whose_process_died_is_left_at_once(name: str, tmp_path: Path):
    program = shutil.copy("/bin/sleep", tmp_path / name)
    begun: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        begun.append(subprocess.Popen([program, "300"]))
        begun[0].send_signal(signal.SIGKILL)
        Event().wait(60)

    start_seconds = time.monotonic()
    with pytest.raises(EngineError, match=f"did not start: its process {name} has died. {SAFE}"):
        started(start, safe=SAFE)
    assert time.monotonic() - start_seconds < 10
    begun[0].wait(10)
    assert ray_watch.dead_child() is None


def test_the_thread_of_a_start_lives_as_long_as_the_cluster():
    """Linux sends a process its death signal when the thread that started it ends."""
    ended = Event()
    thread = started(threading.current_thread, safe=SAFE, until=ended)
    assert thread.is_alive()
    ended.set()
    thread.join(10)
    assert not thread.is_alive()


_NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="who started whom is in /proc alone")


class _Raylet:
    """A process of that name with two below it, one of them the other's child."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        program = shutil.copy(os.path.realpath("/bin/sh"), folder / "raylet")
        numbers = folder / "numbers"
        starts = f"(sleep 300 & echo $! >> {numbers}; wait) & echo $! >> {numbers}; wait"
        self.process = subprocess.Popen([program, "-c", starts])
        until = time.monotonic() + 20
        while not numbers.exists() or len(numbers.read_text().split()) < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
        self.agents = set(map(int, numbers.read_text().split()))

    def alive(self) -> set[int]:
        return self.agents & {one.number for one in ray_watch._processes() if one.state != "Z"}

    def end(self) -> None:
        self.process.kill()
        self.process.wait(10)
        for number in self.alive():
            os.kill(number, signal.SIGKILL)


@_NEEDS_PROC
@pytest.mark.parametrize("is_own", [True, False])
def test_leaving_ends_what_the_raylet_of_its_own_cluster_has_started_and_nothing_else(is_own: bool, tmp_path: Path):
    """Agents outlive it by a minute where the control process is dead; a cluster that was joined goes on."""
    other = _Raylet(tmp_path / "other")
    others = ray_watch.vital_children()
    raylet = _Raylet(tmp_path / "own")
    own = ray_watch.vital_children() - others if is_own else frozenset()
    try:
        leave(SimpleNamespace(shutdown=raylet.process.kill), started=own)  # type: ignore[arg-type]
        until = time.monotonic() + 20
        while is_own and raylet.alive():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert raylet.alive() == (set() if is_own else raylet.agents)
        assert other.alive() == other.agents
    finally:
        raylet.end()
        other.end()


@_NEEDS_PROC
def test_a_start_is_not_ended_by_the_death_of_another_cluster(tmp_path: Path):
    program = shutil.copy("/bin/sleep", tmp_path / "raylet")
    dead = subprocess.Popen([program, "300"])
    dead.kill()
    try:
        until = time.monotonic() + 20
        while ray_watch.dead_child() is None:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert started(lambda: time.sleep(4 * ray_watch._STEP_SECONDS) or 7, safe=SAFE) == 7
    finally:
        dead.wait(10)


_ENDS = """
import ctypes, sys, threading
from cytolora.errors import EngineError
from cytolora.experiments.engines import ray_watch
ctypes.CDLL(None).__cxa_atexit(ctypes.CDLL(None).abort, None, None)  # as Ray's objects that a thread still uses
ray_watch._LOOK_SECONDS = ray_watch._STEP_SECONDS = ray_watch._LEAVE_SECONDS = 0.01
ray_watch.dead_child = lambda others: "raylet"
stuck = threading.Event().wait
try:
    {call}
except EngineError as error:
    print(error)
sys.exit({code})
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the C library has no such call")
@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("ray_watch.started(stuck, safe='Kept.')", "its process raylet has died. Kept."),
        ("ray_watch.run_watched(lambda _: stuck(), lambda: False, safe='Kept.')", "(raylet) has died. Kept."),
        ("ray_watch.leave(type('Ray', (), {'shutdown': stuck}))", ""),
    ],
)
@pytest.mark.parametrize("code", [0, 2])
def test_a_process_that_leaves_a_thread_of_ray_at_work_ends_with_its_own_exit_code(call: str, words: str, code: int):
    """Where the C library destroyed what such a thread uses, Ray would abort the process: exit code -6 for 2."""
    program = _ENDS.format(call=call, code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert words in done.stdout
