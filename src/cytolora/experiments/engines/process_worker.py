"""Child process of the engine ``processes``: does what comes in on standard input, answers on standard output."""

import logging
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, BinaryIO

from cytolora.core import stopping
from cytolora.core.child_process import own_answers
from cytolora.errors import CytoloraError
from cytolora.experiments.engines.notices import Notice

TAKEN = "taken"
"""Word of the message that what was told last is begun with."""
DONE = "done"
"""Word of an answer: with the number of images gone through."""
REFUSED = "refused"
"""Word of an answer: with the error for the driver to raise, and its stack trace."""
NOTICE = "notice"
"""Word of a message besides: with a log record, or a warning, for the driver to show."""
FAILED = "failed"
"""Word of an answer: with the stack trace of a fault of the program."""
STOPPED = "stopped"
"""Word of an answer: that work ended at a boundary, as it was asked to."""
STOP = "stop"
"""What is told in place of work: to end at the next boundary."""


RUNS = "cytolora.experiments.engines.worker"
"""Module of the worker that does the units of a plan."""


def main(module: str = RUNS) -> None:
    """Works until the process that started it closes the pipe; whatever else ends it stands on standard error.

    Args:
        module: Holds the ``Worker`` that is made of what comes in first.
    """
    try:
        _work(module)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # Python's own end aborts where a thread waits for standard input


def _work(module: str) -> None:
    """Makes ready by the first thing that comes in, and does all others."""
    for name in ("SIGINT", "SIGUSR1"):  # they may reach all processes of a terminal or a job; the first one decides
        if hasattr(signal, name):  # not all are on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    answers = Answers(own_answers())
    _send_notices(answers)
    told: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(sys.stdin.buffer, told), name="cytolora-driver", daemon=True).start()

    worker = import_module(module).Worker(setup=told.get())
    _answer(answers, lambda: worker.start() or 0)
    while True:
        unit = told.get()
        answers.send(TAKEN, None)
        _answer(answers, lambda unit=unit: worker.work(unit))


def _listen(told: BinaryIO, queue: "SimpleQueue[Any]") -> None:
    code = 0
    try:
        while True:
            if (what := pickle.load(told)) == STOP:
                stopping.ask()
            else:
                queue.put(what)
    except EOFError:
        pass  # the pipe is closed: nobody waits for what this process is at
    except BaseException:  # what was told cannot be read here
        traceback.print_exc()
        sys.stderr.flush()
        code = 1
    finally:
        os._exit(code)


class Answers:
    """The pipe to the driver, into which any thread may write."""

    def __init__(self, pipe: BinaryIO) -> None:
        """Takes the open pipe."""
        self._pipe, self._lock = pipe, Lock()

    def send(self, word: str, value: Any) -> None:
        """Sends a message whole."""
        message = pickle.dumps((word, value))
        with self._lock:
            self._pipe.write(message)
            self._pipe.flush()


class _Notices(logging.Handler):
    """Sends what is logged or warned of where nobody else handles it, as it comes to the terminal in one process."""

    def __init__(self, answers: Answers) -> None:
        super().__init__(logging.WARNING)
        self._answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Notice(name=record.name, level=record.levelno, text=record.getMessage()))

    def warn(self, message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any) -> None:
        """Takes the place of ``warnings.showwarning``."""
        known = next(kind.__name__ for kind in category.__mro__ if kind.__module__ == "builtins")
        self._send(Notice(name=known, text=str(message), filename=filename, line=lineno))

    def _send(self, notice: Notice) -> None:
        with suppress(OSError):  # the driver is gone, and this process ends
            self._answers.send(NOTICE, notice)


def _send_notices(answers: Answers) -> None:
    notices: Any = _Notices(answers)
    logging.lastResort, warnings.showwarning = notices, notices.warn


def _answer(answers: Answers, work: Callable[[], int]) -> None:
    try:
        answer = DONE, work()
    except stopping.StoppedError:
        answer = STOPPED, None
    except (CytoloraError, OSError, ModuleNotFoundError) as error:
        text = traceback.format_exc()
        answer = (REFUSED, (error, text)) if _is_sendable(error) else (FAILED, text)
    except Exception:
        answer = FAILED, traceback.format_exc()
    answers.send(*answer)


def _is_sendable(error: Exception) -> bool:
    """Whether the driver can raise it as its own; a pipe that is broken here is not the driver's output."""
    if isinstance(error, ConnectionError):
        return False
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # whatever the class makes of its own arguments
        return False
