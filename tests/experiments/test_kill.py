"""Killing the process at any moment costs the run in flight and changes no number."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cells import contents

GRID = (
    "run",
    "smoke",
    "--shots",
    "2",
    "--seeds",
    "1",
    "2",
    "--learning-rates",
    "0.001",
    "0.003",
    "0.01",
    "--steps",
    "6",
)
NUM_RUNS, NUM_KILLS = 12, 6


def _start(cells: Path, runs: Path) -> subprocess.Popen[bytes]:
    command = (*GRID, "--data", f"synthetic={cells}", "--out", str(runs), "--threads", "1", "--quiet")
    program = f"from cytolora.cli.app import main; main({[*command]!r})"
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)


def _finish(cells: Path, runs: Path) -> None:
    process = _start(cells, runs)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def _kill_while_it_works(cells: Path, runs: Path, moment: random.Random) -> None:
    """Kills the process between 0 and 0.4 s after it has stored something new: somewhere in a run, or in a write."""
    before, process = len(list(runs.glob("[!.]*/spec.json"))), _start(cells, runs)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if len(list(runs.glob("[!.]*/spec.json"))) > before:
            break
        time.sleep(0.01)
    time.sleep(moment.uniform(0, 0.4))
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_killed_again_and_again_a_grid_ends_with_the_numbers_of_an_uninterrupted_one(drawn_cells, tmp_path):
    _finish(drawn_cells, tmp_path / "whole")
    moment = random.Random(0)
    for _ in range(NUM_KILLS):
        _kill_while_it_works(drawn_cells, tmp_path / "killed", moment)
    _finish(drawn_cells, tmp_path / "killed")
    assert len(contents(tmp_path / "killed")) == NUM_RUNS
    for name in ("metrics.json", "spec.json"):
        assert contents(tmp_path / "killed", name) == contents(tmp_path / "whole", name)
