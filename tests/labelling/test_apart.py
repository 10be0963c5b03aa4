"""Calls in a process of their own: the same answers, errors that are told, no child that outlives its parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from labelling_projects import label_next, make_project

from cytolora.errors import DataError, EngineError
from cytolora.labelling.apart import Apart
from cytolora.labelling.features import open_features
from cytolora.labelling.session import Labelling

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    opened = Apart()
    yield opened
    opened.close()


def test_a_classifier_that_is_fitted_apart_is_the_same(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=24)
    with_child, without = Labelling(project, refits_apart=True), Labelling(project)
    label_next(without, 60)
    assert with_child.refit()["labels"] == without.refit()["labels"] > 30
    one, other = with_child._fitted, without._fitted
    assert one is not None
    assert other is not None
    assert np.array_equal(one.probabilities, other.probabilities)
    assert np.array_equal(one.doubt, other.doubt)
    assert one.held_out.keys() == other.held_out.keys()
    assert with_child._classifier.apart is not None
    child = with_child._classifier.apart.start()
    with_child.close()
    assert child.returncode is not None
    with pytest.raises(EngineError, match="is closed"):
        with_child.prepare()


def test_a_child_that_was_killed_is_told_of_and_the_next_call_starts_another(apart: Apart) -> None:
    assert apart.call(os.getpid) != os.getpid()
    first = apart.start()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert apart.call(os.getpid) != first.pid
    with pytest.raises(EngineError, match=r"ended \(exit code -9\).*Every stored label is still there"):
        apart.call(os.kill, apart.start().pid, signal.SIGKILL)
    assert apart.call(os.getpid) > 0


def test_what_a_user_can_change_comes_back_as_it_was(apart: Apart, tmp_path: Path) -> None:
    (tmp_path / "features.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"features.npy is damaged"):
        apart.call(open_features, tmp_path / "features.npy")
    assert apart.call(os.getpid) == apart.start().pid


def test_the_call_after_an_interrupted_one_gets_its_own_answer(apart: Apart) -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    apart.call(os.getpid)  # it has started
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        threading.Timer(0.2, interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            apart.call(time.sleep, 5)
    finally:
        signal.signal(signal.SIGINT, before)
    assert apart.call(abs, -7) == 7


def test_a_fault_of_the_program_is_told_as_one_and_what_a_library_prints_is_no_answer(apart: Apart) -> None:
    child = apart.call(os.getpid)
    with pytest.raises(RuntimeError, match="invalid literal for int"):
        apart.call(int, "x")
    apart.call(print, "printed", flush=True)
    apart.call(os.write, 1, b"printed by C")
    assert apart.call(os.getpid) == child


def test_a_child_ends_when_its_parent_is_killed() -> None:
    program = "import os, signal; from cytolora.labelling.apart import Apart; a = Apart(); print(a.call(os.getpid),"
    program += " flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    pid = int(subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False).stdout)
    ends = time.monotonic() + 60
    while Path(f"/proc/{pid}/stat").exists():
        assert time.monotonic() < ends
        time.sleep(0.05)
