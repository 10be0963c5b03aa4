"""Distributes the units of a plan over processes of this machine; needs no package besides this one.

A worker is a new Python process with two pipes. It does not import the program that called: a script needs no guard,
and a notebook works. A process that ends closes its pipe, which is how its death is seen; a worker whose driver is gone
ends at once. The store on disk records what is done.
"""

import os
import pickle
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any

import torch

from cytolora.core.child_process import child_command
from cytolora.core.machine import num_cpus
from cytolora.core.progress import Progress
from cytolora.core.text import counted
from cytolora.errors import ConfigError, CytoloraError, EngineError
from cytolora.experiments.engines.driver import open_units, worker_setup
from cytolora.experiments.engines.notices import Notices
from cytolora.experiments.engines.pool import Pool, WorkerDiedError, WorkerStoppedError
from cytolora.experiments.engines.process_worker import DONE, FAILED, NOTICE, RUNS, STOP, STOPPED, TAKEN
from cytolora.experiments.engines.queue import Queue
from cytolora.experiments.engines.workers import SetUp, Workers
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

_END_SECONDS = 10
"""For a process to end that was told to."""
_STARTS = (
    "import sys; sys.path[:] = {path!r}; from cytolora.experiments.engines.process_worker import main; main({worker!r})"
)
_VISIBLE = "CUDA_VISIBLE_DEVICES"


def run_jobs(
    jobs: Sequence[Job],
    inputs: Inputs,
    store: Store,
    *,
    device: torch.device,
    progress: Progress,
    workers: Workers,
) -> None:
    """Executes every job in processes of this machine; what is finished is stored at once.

    A worker that dies is replaced and its unit given out again, three times at most. Each computes with as many threads
    as this process is set to, and fewer where that were more than the machine has: then its numbers are those of the
    engine ``inline`` with so many threads.

    Raises:
        EngineError: If workers cannot be started, or die at one unit again and again.
    """
    units = open_units(jobs, inputs, store, progress)

    def setup(threads: int, device: torch.device) -> Any:
        return worker_setup(jobs, inputs, store, device=device, threads=threads)

    processes = store.division.processes
    run_units(units, setup, device=device, progress=progress, workers=workers, processes=processes)


def run_units(
    units: Queue[Any],
    setup: SetUp,
    *,
    device: torch.device,
    progress: Progress,
    workers: Workers,
    worker: str = RUNS,
    processes: int = 1,
) -> None:
    """Has processes do all that a queue holds.

    Args:
        processes: Of one worker, which trains one run with them; each has a GPU where there are any.
        worker: Module of the ``Worker`` that it is told to.

    Raises:
        EngineError: If workers cannot be started, or die at one unit again and again.
    """
    if not units.waiting:
        return
    gpus = grouped(gpus_of(device), processes)
    num_workers, threads = sized(workers, device, torch.get_num_threads(), processes)
    num_workers = min(num_workers, len(units.waiting))
    progress.say(f"{counted(num_workers, 'process', 'processes')}, {counted(threads, 'thread')} each")
    own = torch.device(device.type)  # a worker sees one GPU, which is its first
    crew = ProcessCrew(setup=pickled(setup(threads, own)), gpus=gpus, worker=worker)
    try:
        Pool(crew=crew, units=units, progress=progress).run(num_workers)
    finally:
        crew.end()


def pickled(setup: Any) -> bytes:
    """Returns what child processes are told at their start.

    Raises:
        ConfigError: If it cannot be sent.
    """
    try:
        return pickle.dumps(setup)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"What workers need cannot be sent to another process: {error}. A function or class of a backbone has to "
            "stand in a module that they can import, not inside a function; or leave out --workers and --gpus-per-run."
        ) from error


def sized(workers: Workers, device: torch.device, threads: int, per_run: int = 1) -> tuple[int, int]:
    """Returns the number of workers, and the threads of each: one worker a GPU, or as many as the CPUs hold.

    Args:
        per_run: GPUs of one worker.
    """
    cpus = num_cpus()
    count = workers.count or len(grouped(gpus_of(device), per_run)) or max(1, cpus // threads)
    return count, max(1, min(threads, cpus // count))


def grouped(gpus: Sequence[str], per_run: int) -> list[str]:
    """Returns the names of GPUs that one worker sees, for each worker that there is room for.

    Raises:
        ConfigError: If there are some, and not enough for one worker.
    """
    if gpus and len(gpus) < per_run:
        raise ConfigError(
            f"--gpus-per-run {per_run}: {counted(len(gpus), 'GPU')} to be had here. Choose at most {len(gpus)}."
        )
    return [",".join(gpus[first : first + per_run]) for first in range(0, len(gpus) - per_run + 1, per_run)]


def gpus_of(device: torch.device) -> list[str]:
    """Returns the names of the GPUs that workers may use, as this process's environment has them; none on a CPU.

    CUDA reads CUDA_VISIBLE_DEVICES up to the first name that is no GPU of the machine, and torch counts what it has
    read: the names after those are nobody's.
    """
    if device.type != "cuda":
        return []
    count, visible = torch.cuda.device_count(), os.environ.get(_VISIBLE)
    names = map(str, range(count)) if visible is None else map(str.strip, visible.split(","))
    usable = list(islice(names, count))
    return usable if device.index is None else usable[device.index : device.index + 1]


@dataclass(eq=False, kw_only=True)
class _Process:
    """One child; it is also the promise of the one thing that it was told to do last."""

    popen: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    """File of what it writes to standard error."""
    listening: Thread = field(default_factory=Thread)
    """Reads its answers."""
    message: Any = None
    """Its last answer: a word and a value; None if it is gone."""
    is_gone: bool = False
    has_taken: bool = True
    """Whether it has begun with what it was told last."""

    def tell(self, what: bytes) -> None:
        assert self.popen.stdin is not None
        with suppress(OSError):  # it is gone, which its other pipe tells
            self.popen.stdin.write(what)
            self.popen.stdin.flush()

    def ended(self) -> int | None:
        """Returns the exit code; None of a process that does not end and had to be killed."""
        with suppress(subprocess.TimeoutExpired):
            return self.popen.wait(_END_SECONDS)
        self.popen.kill()
        return None

    def close(self) -> None:
        """Closes what leads to a process that was killed, and waits for it; one that the system holds is left."""
        assert self.popen.stdin is not None
        assert self.popen.stdout is not None
        with suppress(subprocess.TimeoutExpired):
            self.popen.wait(_END_SECONDS)
        with suppress(OSError):  # what it has not read
            self.popen.stdin.close()
        self.listening.join(_END_SECONDS)
        if not self.listening.is_alive():  # whoever still reads holds the pipe
            self.popen.stdout.close()
        self.errors.close()


@dataclass(kw_only=True)
class ProcessCrew:
    """Workers that are child processes."""

    setup: bytes
    gpus: Sequence[str]
    """One of them for each worker, in turn."""
    worker: str = RUNS
    """Module of the ``Worker``."""
    processes: list[_Process] = field(default_factory=list)
    events: "SimpleQueue[tuple[_Process, Any]]" = field(default_factory=SimpleQueue)
    notices: Notices = field(default_factory=Notices)
    num_started: int = 0

    def new(self) -> _Process:
        """Returns another process."""
        environment = dict(os.environ)
        if self.gpus:
            environment[_VISIBLE] = self.gpus[self.num_started % len(self.gpus)]
        self.num_started += 1
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the process)
        try:
            popen = subprocess.Popen(
                child_command(_STARTS, worker=self.worker),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        except OSError as error:
            errors.close()
            raise EngineError(
                f"A worker cannot be started: {error.strerror or error}. Take fewer --workers."
            ) from error
        process = _Process(popen=popen, errors=errors)
        self.processes.append(process)
        process.listening = Thread(target=self._listen, args=(process,), name="cytolora-worker", daemon=True)
        process.listening.start()
        return process

    def start(self, worker: _Process) -> _Process:
        """Has a process make ready."""
        return self._told(worker, self.setup)

    def work(self, worker: _Process, unit: Any) -> _Process:
        """Has a process do a unit, or whatever else it is told."""
        return self._told(worker, pickle.dumps(unit))

    def wait(self, promises: Sequence[_Process], seconds: float) -> list[_Process]:
        """Waits for one of the promises."""
        try:
            process, message = self.events.get(timeout=seconds)
        except Empty:
            return []
        if message is not None and message[0] == TAKEN:
            process.has_taken = True
            return []
        if message is not None and message[0] == NOTICE:
            self.notices.show(message[1])
            return []
        process.message, process.is_gone = message, message is None
        return [process] if process in promises else []  # else an idle one died

    def result(self, promise: _Process) -> int:
        """Returns what a process answered.

        Raises:
            CytoloraError: That of the process; so an OSError, and a ModuleNotFoundError.
            WorkerDiedError: If it is gone.
            WorkerStoppedError: If it ended at a boundary, as it was asked to.
            RuntimeError: If it met anything else, with its stack trace.
        """
        if promise.message is None:
            raise WorkerDiedError(self._why_gone(promise), has_taken=promise.has_taken)
        word, value = promise.message
        if word == DONE:
            return value
        if word == STOPPED:
            raise WorkerStoppedError
        if word == FAILED:
            raise RuntimeError(f"A worker failed:\n{value}")
        error, text = value
        if not isinstance(error, CytoloraError):  # where the command has no line for it, its place helps
            error.add_note(f"In a worker:\n{text}")
        raise error

    def is_gone(self, worker: _Process) -> bool:
        """Whether a process has ended."""
        return worker.is_gone or worker.popen.poll() is not None

    def has_room(self) -> bool:
        """Always: processes are started at once, or not at all."""
        return True

    def ask_to_stop(self) -> None:
        """Has all processes end their work at its next boundary."""
        for process in self.processes:
            process.tell(pickle.dumps(STOP))

    def end(self) -> None:
        """Ends all processes; what they have not stored is lost, and computed by the next command."""
        for process in self.processes:
            process.popen.kill()
        for process in self.processes:
            process.close()

    def _told(self, process: _Process, what: bytes) -> _Process:
        process.has_taken = False
        process.tell(what)
        if process.is_gone:  # while it was idle, and nobody hears of it twice
            self.events.put((process, None))
        return process

    def _listen(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        while True:
            try:
                message = pickle.load(process.popen.stdout)
            except Exception:  # of a half-written answer: whatever pickle makes of it
                message = None
            self.events.put((process, message))
            if message is None:
                return

    def _why_gone(self, process: _Process) -> str:
        code = process.ended()
        if code is None:
            return f"its pipe was closed, and it did not end within {_END_SECONDS} s"
        with suppress(ValueError):  # a number that is no signal's
            if code < 0:
                return f"ended by {signal.Signals(-code).name}"
        process.errors.seek(0)
        lines = process.errors.read().decode(errors="replace").strip().splitlines()
        return f"exit code {code}" + (f", {lines[-1].strip()}" if lines else "")
