"""Liveness of a Ray cluster: work on it ends when its control process or this machine's node is lost.

Ray's own calls may wait for a part that is gone, or end this process; so the work runs in a thread that can be left.
"""

import atexit
import ctypes
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from types import ModuleType
from typing import TypeVar

from cytolora.errors import CytoloraError, EngineError

Result = TypeVar("Result")

_LOG = logging.getLogger("cytolora")

_LOOK_SECONDS = 3.0
"""Between two looks."""
_ANSWER_SECONDS = 5
"""For the answer to one look."""
SILENT_SECONDS = 25.0
"""Longest time without an answer; Ray ends the process that asks after 60 (gcs_rpc_server_reconnect_timeout_s)."""
_LEAVE_SECONDS = 15.0
"""For Ray to end its processes; without its control process it takes about 8."""

START_SECONDS = 300.0
"""For a cluster of this machine to start, which takes up to a minute where other programs take the CPUs."""
_STEP_SECONDS = 0.5
_RAYLET = "raylet"
_VITAL = ("gcs_server", _RAYLET)
"""Programs without which no cluster starts; Ray waits for them without an end, or ends without a word."""

ProcessKey = tuple[int, str]
"""Number of a process, and when it began."""

Look = Callable[[], bool | None]
"""Returns whether this machine's node is alive; None if the control process does not answer."""


@contextmanager
def _left_on_error() -> Iterator[None]:
    """Keeps this process's exit code where a block is left by an error, and threads of Ray perhaps with it."""
    try:
        yield
    except BaseException:
        atexit.register(_end_before_destructors)
        raise


def _end_before_destructors() -> None:
    """Has the C library end this process with its exit code before it destroys the objects of C++.

    Threads of Ray that are left go on to the end, and abort the process (SIGABRT, code -6) once their token is
    destroyed. Python has done all that it does at the end by then. Other systems than Linux have no ``on_exit``.
    """
    with suppress(AttributeError, OSError, TypeError):
        library = ctypes.CDLL(None)
        library.on_exit(library._exit, None)


@_left_on_error()
def started(start: Callable[[], Result], *, safe: str, until: Event | None = None) -> Result:
    """Returns what ``start`` returns, unless a process that it started dies first, or it takes too long.

    Args:
        safe: Sentence of the error on what is kept.
        until: The thread lives until it is set: Linux ends what a thread started when the thread ends.

    Raises:
        EngineError: If the cluster does not start; else whatever ``start`` raises.
    """
    results, raised, has_ended = list[Result](), list[BaseException](), Event()
    others = vital_children()

    def run() -> None:
        try:
            results.append(start())
        except BaseException as error:
            raised.append(error)
        has_ended.set()
        if until is not None:
            until.wait()  # no deadline: a thread that does nothing and holds nobody up

    Thread(target=run, name="cytolora-ray-start", daemon=True).start()
    latest = monotonic() + START_SECONDS
    while not has_ended.wait(_STEP_SECONDS):
        if (name := dead_child(others)) is not None:
            raise EngineError(f"The Ray cluster did not start: its process {name} has died. {safe}")
        if monotonic() > latest:
            raise EngineError(f"The Ray cluster did not start within {START_SECONDS:.0f} s. {safe}")
    if raised:
        if isinstance(raised[0], Exception) and not isinstance(raised[0], CytoloraError):
            why = (str(raised[0]).strip().splitlines() or [type(raised[0]).__name__])[0].rstrip(".")
            raise EngineError(f"The Ray cluster did not start: {why}. {safe}") from raised[0]
        raise raised[0]
    return results[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    number: int
    name: str
    """Of the program, cut after 15 letters."""
    state: str
    """Z: dead, and not yet looked after by its parent."""
    parent: int
    began: str
    """In ticks since the machine started: numbers are used again."""

    @property
    def key(self) -> ProcessKey:
        return self.number, self.began


def _processes() -> Iterator[_Process]:
    """Yields the processes of this machine; none where /proc is missing."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):  # gone meanwhile
            number, _, rest = stat.read_text(encoding="utf-8", errors="replace").partition(" (")
            name, _, text = rest.rpartition(") ")
            fields = text.split()
            yield _Process(number=int(number), name=name, state=fields[0], parent=int(fields[1]), began=fields[19])


def vital_children() -> frozenset[ProcessKey]:
    """Returns the vital processes of clusters that this process has started; empty where /proc is missing."""
    own = os.getpid()
    return frozenset(one.key for one in _processes() if one.name in _VITAL and one.parent == own)


def dead_child(others: frozenset[ProcessKey] = frozenset()) -> str | None:
    """Returns the name of a vital process that this one started and that has died; None where /proc is missing.

    Args:
        others: Those of other clusters, not looked at.
    """
    own = os.getpid()
    dead = (
        one.name
        for one in _processes()
        if one.name in _VITAL and one.state == "Z" and one.parent == own and one.key not in others
    )
    return next(dead, None)


def _below(vital: frozenset[ProcessKey]) -> set[ProcessKey]:
    """Returns the processes that the raylets among ``vital`` have started, and that these have."""
    processes = list(_processes())
    below = {one.number for one in processes if one.key in vital and one.name == _RAYLET}
    while more := {one.number for one in processes if one.parent in below} - below:
        below |= more
    return {one.key for one in processes if one.number in below} - vital


@_left_on_error()
def run_watched(work: Callable[[Event], None], look: Look, *, safe: str) -> None:
    """Runs work in a thread until it ends or the cluster is lost; then its event is set, and it is left alone.

    Args:
        safe: Sentence of the error on what is kept.

    Raises:
        EngineError: If the cluster is lost; else whatever the work raises.
    """
    is_left, has_ended, raised = Event(), Event(), list[BaseException]()

    def run() -> None:
        try:
            work(is_left)
        except BaseException as error:
            raised.append(error)
        finally:
            has_ended.set()

    Thread(target=run, name="cytolora-ray", daemon=True).start()
    last_answer = monotonic()
    try:
        while not has_ended.wait(_LOOK_SECONDS):
            is_alive = look()
            if is_alive:
                last_answer = monotonic()
            elif is_alive is False and not has_ended.is_set():
                raise _node_died(safe)
            elif monotonic() - last_answer > SILENT_SECONDS and not has_ended.is_set():
                seconds = round(monotonic() - last_answer)
                raise EngineError(
                    f"The Ray cluster is lost: its control process (GCS) has not answered for {seconds} s. {safe}"
                )
    finally:
        is_left.set()
    if raised:
        raise raised[0]


def raise_if_dead(look: Look, *, safe: str) -> None:
    """Raises an EngineError if this machine's node is dead."""
    if look() is False:
        raise _node_died(safe)


def _node_died(safe: str) -> EngineError:
    return EngineError(f"The Ray cluster is lost: its process on this machine (raylet) has died. {safe}")


def look_at(ray: ModuleType) -> Look:
    """Returns what asks, with deadlines, for the node that this process is at: first itself, then the control process.

    The control process learns of a node's sudden death some 13 s later.
    """
    from ray import NodeID
    from ray._raylet import GcsClient  # pyright: ignore[reportAttributeAccessIssue]

    context = ray.get_runtime_context()
    name = context.get_node_id()
    client, node = GcsClient(address=context.gcs_address), NodeID.from_hex(name)
    (own,) = (entry for entry in ray.nodes() if entry["NodeID"] == name)
    door = (str(own["NodeManagerAddress"]), int(own["NodeManagerPort"]))

    def look() -> bool | None:
        if _is_closed(door):
            return False
        try:
            return bool(client.check_alive([node], timeout=_ANSWER_SECONDS)[0])
        except ray.exceptions.RayError:
            return None

    return look


def _is_closed(door: tuple[str, int]) -> bool:
    """Whether nobody listens at an address; no answer in time says nothing."""
    try:
        socket.create_connection(door, timeout=_ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False


def leave(ray: ModuleType, *, started: frozenset[ProcessKey] = frozenset()) -> None:
    """Ends the connection, and a cluster that was started here; never waits for a dead part of it for long.

    Args:
        started: Vital processes of the cluster, where it was started here. What its raylet has started is ended too:
            agents would look for a dead control process for a minute more. Of another cluster nothing is.
    """
    below = _below(started)
    ending = Thread(target=ray.shutdown, name="cytolora-ray-end", daemon=True)
    ending.start()
    ending.join(_LEAVE_SECONDS)
    if ending.is_alive():
        _LOG.warning("Ray does not end in %.0f s; its processes end after this one.", _LEAVE_SECONDS)
        atexit.unregister(ray.shutdown)  # it would be called again when this process ends, and wait there
        atexit.register(_end_before_destructors)
    for process in _processes():
        if process.key in below:
            with suppress(OSError):  # gone meanwhile
                os.kill(process.number, signal.SIGKILL)
