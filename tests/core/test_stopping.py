"""Stop requests by signal."""

import os
import signal
import time

import pytest

from cytolora.core.stopping import STOPPED_EARLY, StoppedError, heeding_signals, is_asked, stop_if_asked


def _signal_and_wait(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(30)


def test_sigusr1_ends_work_at_its_next_boundary_and_is_forgotten_after_the_block():
    before = signal.getsignal(signal.SIGUSR1)
    with heeding_signals():
        stop_if_asked()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert is_asked()
        with pytest.raises(StoppedError) as stopped:
            stop_if_asked()
    assert stopped.value.exit_code == STOPPED_EARLY
    assert not is_asked()
    assert signal.getsignal(signal.SIGUSR1) is before
    stop_if_asked()


def test_work_without_a_boundary_is_interrupted_after_the_grace():
    with pytest.raises(StoppedError), heeding_signals(grace_seconds=0.05):
        _signal_and_wait(signal.SIGUSR1)


def test_sigterm_interrupts_at_once():
    with pytest.raises(StoppedError) as stopped, heeding_signals():
        _signal_and_wait(signal.SIGTERM)
    assert stopped.value.exit_code == 143
