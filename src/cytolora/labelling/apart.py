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
from typing import ParamSpec, TypeVar

from cytolora.core.child_process import child_command, own_answers
from cytolora.errors import CytoloraError, EngineError
from cytolora.labelling.refit import prepare

_STARTS = (
    "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); "  # Ctrl-C is for the parent, from the first second
    "import sys; sys.path[:] = {path!r}; from cytolora.labelling.apart import main; main()"
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


class Apart:
    """A child process that ``start`` or the first call starts, and the next call where it died."""

    def __init__(self) -> None:
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
                raise EngineError("The project is closed; its classifier is not fitted again.")
            if self._child is None or self._child.poll() is not None:
                try:
                    self._child = subprocess.Popen(
                        child_command(_STARTS),
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        env={**os.environ, **_ONE_THREAD},
                    )
                except OSError as error:
                    raise EngineError(
                        f"The process that fits the classifier cannot be started: {error.strerror or error}. Free "
                        "memory; it is tried again after the next label."
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
                answer = pickle.load(child.stdout)
            except (OSError, EOFError, pickle.UnpicklingError) as error:
                _end(child)
                raise EngineError(
                    f"The process that fits the classifier ended (exit code {child.returncode}). Free memory if it is "
                    "short; a new one is started after the next label. Every stored label is still there."
                ) from error
            except BaseException:  # interrupted: the next call would read this one's answer
                _end(child)
                raise
        if isinstance(answer, _FaultError):
            raise RuntimeError(str(answer))
        if isinstance(answer, CytoloraError):
            raise answer
        return answer

    def close(self) -> None:
        """Ends the child, in the middle of a call if need be."""
        with self._starting:
            self._is_closed = True
            child = self._child
        if child is not None:
            child.kill()  # a call that waits for it ends
            with self._calling:
                _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    child.kill()
    with suppress(subprocess.TimeoutExpired):  # it waits for a disk, and ends later
        child.wait(_END_SECONDS)
    for pipe in (child.stdin, child.stdout):
        with suppress(OSError):  # what it has not read
            if pipe is not None:
                pipe.close()


def main() -> None:
    """Answers the calls of standard input until its other end is gone."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    calls, answers = sys.stdin.buffer, own_answers()
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
            pickle.dump(answer, answers, protocol=5)
            answers.flush()
