"""The end of work on a cluster that is lost, without a cluster."""

import atexit
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest

from cytolora.errors import EngineError
from cytolora.experiments.engines import ray_driver, ray_watch
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
    pool = ray_driver._Pool(
        ray=SimpleNamespace(get=get, exceptions=exceptions),  # type: ignore[arg-type]
        new=lambda: asked.append("another worker"),
        has_room=lambda: True,
        check=lambda: raise_if_dead(lambda: False, safe=SAFE),
        units=Units(waiting=[]),
        progress=ray_driver.Progress(),
    )
    with pytest.raises(EngineError, match=f"raylet.*{SAFE}"):
        pool._result(object(), None)
    assert not asked


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

    monkeypatch.setattr(ray_driver, "monotonic", lambda: now[0])
    actor = SimpleNamespace(start=SimpleNamespace(remote=object))
    pool = ray_driver._Pool(
        ray=SimpleNamespace(wait=wait),  # type: ignore[arg-type]
        new=lambda: actor,
        has_room=lambda: has_room,
        check=lambda: None,
        units=Units(waiting=[None]),  # type: ignore[list-item]
        progress=ray_driver.Progress(),
    )
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
