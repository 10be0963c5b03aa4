"""Calls in a process of their own: what acknowledges labels shares neither Python's lock nor its priority with them.

The child takes calls from a pipe, one after the other, and ends when its parent does.
"""

import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Any, BinaryIO, ParamSpec, TypeVar

from cytolora.core.child_process import child_command, own_answers
from cytolora.errors import CytoloraError, EngineError
from cytolora.labelling.refit import prepare

_STARTS = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C is for the parent, from the first second
    "import sys; sys.path[:] = {path!r}; from cytolora.labelling.apart import main; main({niceness})"
)
_NICENESS = 10
"""Of the child: where processors are few, who waits for a label comes first."""
_POOLS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_ONE_THREAD = dict.fromkeys(_POOLS, "1")
"""Of the child's linear algebra: where other work keeps the processors busy, threads that wait for each other take
eight times the processor time of a refit by one (docs/label.md), and a processor is left to the server."""
_END_SECONDS = 10.0

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")


class _FaultError(Exception):
    """An error of the program in the child, with its traceback as text."""


class _Told(tuple[Any, ...]):
    """What a call says before it answers."""


class Apart:
    """A child process that ``start`` or the first call starts, and the next call where it died."""

    def __init__(
        self,
        does: str = "fits the classifier",
        again: str = "a new one is started after the next label",
        *,
        niceness: int = _NICENESS,
        is_one_thread: bool = True,
        on_told: Callable[..., None] = lambda *told: None,
    ) -> None:
        """Starts nothing yet.

        Args:
            does: What it is for, after *the process that*.
            again: When it is tried again where it died.
            niceness: Added to the child's, 0 to 19: the higher, the longer it waits for others (not on Windows).
            is_one_thread: Whether its linear algebra has one thread; else as many as this process says.
            on_told: Takes what calls say by ``tell``.
        """
        self._does, self._again, self._niceness = does, again, niceness
        self._is_one_thread, self._on_told = is_one_thread, on_told
        self._starting, self._calling = Lock(), Lock()
        self._is_closed = False
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> "subprocess.Popen[bytes]":
        """Starts the child unless it runs, and returns before it has loaded what it computes with.

        Raises:
            EngineError: If it cannot be started, or is not to be any more.
        """
        with self._starting:
            if self._is_closed:
                raise EngineError(f"The project is closed; the process that {self._does} is not started again.")
            if self._child is None or self._child.poll() is not None:
                try:
                    self._child = subprocess.Popen(
                        child_command(_STARTS, niceness=self._niceness),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        env={**os.environ, **_ONE_THREAD} if self._is_one_thread else None,
                    )
                except OSError as error:
                    raise EngineError(
                        f"The process that {self._does} cannot be started: {error.strerror or error}. Free memory; "
                        f"{self._again}."
                    ) from error
            return self._child

    def call(
        self, function: Callable[_Arguments, _Answer], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Answer:
        """Calls a function of a module in the child, when the calls before have ended.

        Raises:
            EngineError: If the child died.
            CytoloraError: That of the function.
            RuntimeError: If the function raised another error, which is a fault of the program.
        """
        with self._calling:
            child = self.start()
            assert child.stdin is not None
            assert child.stdout is not None
            try:
                pickle.dump((function, arguments, named), child.stdin)
                child.stdin.flush()
                while isinstance(answer := pickle.load(child.stdout), _Told):
                    self._on_told(*answer)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                _end(child)
                raise EngineError(
                    f"The process that {self._does} ended (exit code {child.returncode}). Free memory if it is short; "
                    f"{self._again}. Every stored label is still there."
                ) from error
            except BaseException:  # interrupted: the next call would read this one's answer
                _end(child)
                raise
        if isinstance(answer, _FaultError):
            raise RuntimeError(str(answer))
        if isinstance(answer, CytoloraError):
            raise answer
        return answer

    def stop(self) -> None:
        """Ends the child, in the middle of a call if need be, which raises; the next call starts another."""
        with self._starting:
            child = self._child
        if child is not None:
            child.kill()  # a call that waits for it ends
            with self._calling:
                _end(child)

    def close(self) -> None:
        """Ends the child for good."""
        with self._starting:
            self._is_closed = True
        self.stop()


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    with suppress(subprocess.TimeoutExpired):  # it waits for a disk, and ends later
        child.wait(_END_SECONDS)
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):  # what it has not read
            if pipe is not None:
                pipe.close()


class _Parent:
    """The other end of the pipe, as the child sees it."""

    answers: BinaryIO | None = None
    _one_at_a_time = Lock()

    @classmethod
    def send(cls, answer: Any) -> None:
        with cls._one_at_a_time:
            if cls.answers is not None:
                pickle.dump(answer, cls.answers, protocol=5)
                cls.answers.flush()


def tell(*values: Any) -> None:
    """Says something to the parent in the middle of a call, from any thread of the child; does nothing elsewhere."""
    _Parent.send(_Told(values))


def main(niceness: int) -> None:
    """Answers the calls of standard input until its other end is gone."""
    if hasattr(os, "nice"):
        os.nice(niceness)
    calls, _Parent.answers = sys.stdin.buffer, own_answers()
    prepare()
    with suppress(EOFError, BrokenPipeError):
        while True:
            function, arguments, named = pickle.load(calls)
            try:
                answer = function(*arguments, **named)
            except CytoloraError as error:
                answer = error
            except Exception:
                answer = _FaultError(traceback.format_exc())
            _Parent.send(answer)
