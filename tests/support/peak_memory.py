"""Peak memory of a call, measured in a forked child, so that neither what came before nor other tests count."""

import multiprocessing
import re
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(call: Callable[[], Any]) -> tuple[Any, int]:
    """Returns what a call returns, or the error that it raises, and how many bytes it took above what was there.

    Skips the test where the system tells no peak of its own (Linux does).
    """
    if not _CLEAR.exists():
        pytest.skip("peak memory of a part of a process is told on Linux only")
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_run, args=(call, sending))
    child.start()
    sending.close()
    with suppress(EOFError):
        result, num_bytes, trace = receiving.recv()
        child.join()
        if isinstance(result, Exception):
            result.add_note(trace)
        return result, num_bytes
    child.join()
    raise AssertionError(f"the child ended with {child.exitcode} and said nothing")


def _run(call: Callable[[], Any], sending: Connection) -> None:
    _CLEAR.write_text("5")  # the peak starts again
    before = _kilobytes("VmRSS")
    trace = ""
    try:
        result = call()
    except Exception as error:
        result, trace = error, traceback.format_exc()
    sending.send((result, (_kilobytes("VmHWM") - before) * 1024, trace))


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", _STATUS.read_text())
    assert found
    return int(found[1])
