"""A run on a cluster of its own ends in time, or finishes, whichever of its processes dies.

One process of each end; benchmarks/ray_deaths.py kills every other one too. Workers are killed in test_ray.py.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from child_processes import below

from cells import contents
from cytolora.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PLAN = (
    *("smoke", "--shots", "1", "--seeds", "1", "2", "--learning-rates", "0.01", "0.03"),
    *("--steps", "4000", "--threads", "1"),
)
NUM_RUNS = 8
END_SECONDS = 60
STARTS = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"


def start(cells: Path, runs: Path, *options: str) -> subprocess.Popen[str]:
    command = ["run", *PLAN, "--data", f"synthetic={cells}", "--quiet", "--out", str(runs), *options]
    return subprocess.Popen(
        [sys.executable, "-c", STARTS, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(cells: Path, runs: Path) -> None:
    """Runs the plan, or what is left of it, in this process."""
    with pytest.raises(SystemExit, match="0"):
        main(["run", *PLAN, "--data", f"synthetic={cells}", "--quiet", "--out", str(runs)])


@pytest.fixture(scope="module")
def whole(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plan, run in one process."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    runs = tmp_path_factory.mktemp("inline") / "runs"
    finish(drawn_cells, runs)
    assert len(contents(runs)) == NUM_RUNS
    return runs


@pytest.mark.parametrize(
    ("names", "end"),
    [
        ("gcs/gcs_server", r"control process (GCS) has not answered for"),
        ("raylet/raylet", "process on this machine (raylet) has died"),
        ("log_monitor.py dashboard/dashboard.py autoscaler/_private/monitor.py", ""),  # no run needs any of the three
    ],
)
def test_after_the_death_of_any_process_the_run_ends_in_time_or_finishes(
    names: str, end: str, whole: Path, drawn_cells: Path, tmp_path: Path
):
    runs = tmp_path / "runs"
    process = start(drawn_cells, runs, "--engine", "ray", "--workers", "2")
    try:
        until = time.monotonic() + 300
        while not contents(runs) and time.monotonic() < until and process.poll() is None:
            time.sleep(0.05)
        started = below(process.pid)
        targets = [next(number for number, line in started.items() if name in line) for name in names.split()]
        killed = time.monotonic()
        for target in targets:
            os.kill(target, signal.SIGKILL)
        output, error = process.communicate(timeout=300)
        seconds = time.monotonic() - killed
    finally:
        process.kill()
    if process.returncode != 0:
        assert seconds < END_SECONDS, error[-2000:]
        assert process.returncode == 2, error[-2000:]
        assert end
        assert end in error
        assert f"What was finished is kept in {runs}; the same command goes on from there." in error
        assert len((output + error).splitlines()) == 1  # nothing of Ray's own logs
    else:
        assert len(contents(runs)) == NUM_RUNS
    until = time.monotonic() + 90
    while (alive := [number for number in started if Path(f"/proc/{number}").exists()]) and time.monotonic() < until:
        time.sleep(0.5)
    assert not alive
    finish(drawn_cells, runs)
    for file in ("metrics.json", "spec.json"):
        assert contents(runs, file) == contents(whole, file)
