"""Kills one process of a local Ray cluster, while it starts and while it works, and looks how `run` ends.

    python benchmarks/ray_deaths.py
    python benchmarks/ray_deaths.py --processes raylet gcs --moments start --quick

Promised: the command finishes, or ends within 60 s with exit code 2 and one line, which says what is kept; no process
is left; the same plan goes on from the store and ends with the numbers of a run left alone. Exit code 1 where one is
not kept. Needs /proc (Linux) and the extra ``ray``.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from child_processes import below

PROCESSES = {
    "gcs": r"gcs/gcs_server",
    "raylet": r"raylet/raylet",
    "dashboard-agent": "ray::DashboardAgent",
    "runtime-env-agent": "ray::RuntimeEnvAgent",
    "log-monitor": r"log_monitor\.py",
    "dashboard": r"dashboard/dashboard\.py",
    "monitor": r"autoscaler/_private/monitor\.py",
    "worker": r"ray::Worker\.",
    "idle-worker": r"ray::(IDLE|Worker(?!\.))",
}
"""Parts of command lines, as patterns. The object store (plasma) is a thread of the raylet; a worker is idle before it
gets its first unit and between two of them."""
MOMENTS = ("start", "work")
END_SECONDS = 60
PATIENCE_SECONDS = 240
"""For a command that hangs."""
_KEPT = "goes on from there."
_PLAN = ("smoke", "--shots", "1", "--seeds", "1", "2", "3", "--learning-rates", "0.01", "0.03", "--threads", "1")
_STARTS = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"


@dataclass(frozen=True, kw_only=True)
class End:
    """What came of one death."""

    was_killed: bool
    seconds: float
    """From the death to the command's end."""
    code: int
    said: str
    num_lines: int
    """Of both outputs: one where it ends early, without what Ray itself has to say."""
    num_left: int
    """Processes of the cluster that outlive the command by more than half a minute."""
    is_equal: bool
    """Whether the store ends, after the same plan in one process, with the numbers of a run left alone."""

    @property
    def is_kept(self) -> bool:
        is_told = self.code == 2 and _KEPT in self.said and self.num_lines == 1 and self.seconds <= END_SECONDS
        return self.was_killed and (self.code == 0 or is_told) and self.num_left == 0 and self.is_equal


def start(cells: Path, store: Path, steps: int, *options: str) -> "subprocess.Popen[str]":
    plan = ["run", *_PLAN, "--steps", str(steps), "--data", f"synthetic={cells}", "--quiet", "--out", str(store)]
    command = [sys.executable, "-c", _STARTS, *plan, *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def numbers(store: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in store.glob("[!.]*/metrics.json")}


def kill(process: "subprocess.Popen[str]", part: str, moment: str, store: Path) -> set[int] | None:
    """Kills the first process of that name; returns all that were there, None if none of that name came."""
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        if moment == "start" or numbers(store):
            started = below(process.pid)
            named = [number for number, line in started.items() if re.search(part, line)]
            if named:
                os.kill(named[0], signal.SIGKILL)
                return set(started)
        time.sleep(0.05)
    return None


def try_death(part: str, moment: str, cells: Path, store: Path, steps: int, whole: dict[str, bytes]) -> End:
    process = start(cells, store, steps, "--engine", "ray", "--workers", "2")
    started = kill(process, part, moment, store)
    killed = time.monotonic()
    try:
        said = process.communicate(timeout=PATIENCE_SECONDS)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        said = process.communicate()[0]
    seconds = time.monotonic() - killed
    until = time.monotonic() + 30
    while (left := [number for number in started or () if Path(f"/proc/{number}").exists()]) and (
        time.monotonic() < until
    ):
        time.sleep(0.5)
    for number in left:
        os.kill(number, signal.SIGKILL)
    again = start(cells, store, steps)
    again.communicate()
    return End(
        was_killed=started is not None,
        seconds=seconds,
        code=process.returncode,
        said=" ".join(said.split())[-300:],
        num_lines=len(said.strip().splitlines()),
        num_left=len(left),
        is_equal=again.returncode == 0 and numbers(store) == whole,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", nargs="+", choices=PROCESSES, default=list(PROCESSES))
    parser.add_argument("--moments", nargs="+", choices=MOMENTS, default=list(MOMENTS))
    parser.add_argument("--quick", action="store_true", help="runs of 300 steps in place of 4,000")
    options = parser.parse_args()
    steps = 300 if options.quick else 4000
    from cytolora.data.synthetic.dataset import write_synthetic

    bad = 0
    with tempfile.TemporaryDirectory(prefix="ray-deaths-") as name:
        cells = Path(name) / "cells"
        write_synthetic(cells, num_images=60, num_slides=6, seed=0)
        undisturbed = Path(name) / "whole"
        start(cells, undisturbed, steps).communicate()
        whole = numbers(undisturbed)
        columns = "process", "dies", "ends after, s", "exit code", "lines", "left", "equal", "kept", "said"
        print(f"| {' | '.join(columns)} |\n" + "| --- " * len(columns) + "|")
        for moment in options.moments:
            for process in options.processes:
                store = Path(name) / f"{moment}-{process}"
                end = try_death(PROCESSES[process], moment, cells, store, steps, whole)
                bad += not end.is_kept and end.was_killed
                verdict = "yes" if end.is_kept else "NO" if end.was_killed else "no such process"
                row = process, moment, f"{end.seconds:.0f}", end.code, end.num_lines, end.num_left, end.is_equal
                print(f"| {' | '.join(map(str, row))} | {verdict} | {end.said} |", flush=True)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
