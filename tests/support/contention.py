"""Processes forked from this one, with everything loaded, that work on one target at once and are killed at random."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], object]
LOCKS = {".lock", ".store.lock", ".unpack.lock", ".weights.lock"}
"""Lock files: they stay, for removing one that another process waits for would give it a lock of nothing."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a forked process ended."""

    code: int
    """Negative: the signal that killed it."""
    said: str
    """The end of what it wrote to standard output and error."""

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


def command(*arguments: object) -> Work:
    """A command line of cytolora."""

    def work() -> None:
        from cytolora.cli.app import main

        main([str(argument) for argument in arguments])

    return work


@dataclass(kw_only=True)
class Forked:
    """A process at work; ``end`` waits for it."""

    pid: int
    log: Path

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> Ended:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        said = self.log.read_text(errors="replace")[-2000:]
        self.log.unlink()
        return Ended(code=code, said=said)


def forked(work: Work, logs: Path) -> Forked:
    """Starts a copy of this process that does ``work`` and nothing else; its exit code is that of a command."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{os.getpid()}-{time.monotonic_ns()}.log"
    pid = os.fork()
    if pid:
        log.touch()
        return Forked(pid=pid, log=log)
    code = 70
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background hears none
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115  (to the end)
        code = _code_of(work)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _code_of(work: Work) -> int:
    try:
        work()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return 1
    return 0


def at_once(works: Sequence[Work], logs: Path, *, kills: Sequence[float | None] = ()) -> list[Ended]:
    """Runs all at once and waits for them.

    Args:
        kills: For each of the first, the seconds after which it is killed; None lets it end.
    """
    started = time.monotonic()
    processes = [forked(work, logs) for work in works]
    for seconds, process in sorted(
        ((kill, process) for kill, process in zip(kills, processes, strict=False) if kill is not None),
        key=lambda one: one[0],
    ):
        time.sleep(max(0.0, started + seconds - time.monotonic()))
        process.kill()
    return [process.end() for process in processes]


def random_kills(moment: random.Random, number: int, within: float) -> list[float | None]:
    """Moments of death for all but one of ``number`` processes, some of which are spared."""
    return [moment.uniform(0, within) if moment.random() < 0.7 else None for _ in range(number - 1)]


def contents(path: Path) -> dict[str, bytes]:
    """Every file at or below a path that is no lock and in no hidden folder, by its relative name."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    }


def leftovers(folder: Path) -> list[str]:
    """Everything below a folder that only a process that did not end can have left there."""
    return sorted(str(path.relative_to(folder)) for path in _hidden(folder))


def _hidden(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        name = path.name
        if name.startswith((".cytolora-staging-", ".cytolora-replaced-", ".together", "tmp")) and name not in LOCKS:
            yield path
