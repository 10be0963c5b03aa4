"""Child process of the engine ``processes``: does what comes in on standard input, answers on standard output."""

import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, BinaryIO

from cytolora.errors import CytoloraError

TAKEN = "taken"
"""Word of the message that what was told last is begun with; all others are answers."""


def main() -> None:
    """Works until the process that started it closes the pipe; whatever else ends it stands on standard error."""
    try:
        _work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # Python's own end aborts where a thread waits for standard input


def _work() -> None:
    """Makes ready by the first thing that comes in, and does all others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the first one decides
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what any library prints is no answer
    told: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_listen, args=(sys.stdin.buffer, told), name="cytolora-driver", daemon=True).start()

    from cytolora.experiments.engines.worker import Worker

    worker = Worker(setup=told.get())
    _answer(answers, lambda: worker.start() or 0)
    while True:
        unit = told.get()
        _send(answers, (TAKEN, None))
        _answer(answers, lambda unit=unit: worker.work(unit))


def _listen(told: BinaryIO, queue: "SimpleQueue[Any]") -> None:
    try:
        while True:
            queue.put(pickle.load(told))
    finally:
        os._exit(0)  # the pipe is closed: nobody waits for what this process is at


def _answer(answers: BinaryIO, work: Callable[[], int]) -> None:
    try:
        answer = "done", work()
    except CytoloraError as error:
        answer = "refused", error
    except Exception:
        answer = "failed", traceback.format_exc()
    _send(answers, answer)


def _send(answers: BinaryIO, message: tuple[str, Any]) -> None:
    pickle.dump(message, answers)
    answers.flush()
