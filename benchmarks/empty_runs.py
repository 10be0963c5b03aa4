"""Overhead of the engines: wall seconds of a run that computes nothing, with two workers already up; goal at most 0.1.

    python benchmarks/empty_runs.py
    python benchmarks/empty_runs.py --runs 50 --engines processes

Every run is handed out, claimed, stored whole and seen by its driver, and a look is taken at the test set of each
setting of five seeds: all that an engine adds to training. From the first stored run to the last, so that no start of
a worker is in it. `slurm` needs root, slurm-wlm and munge: a controller and two nodes of this machine, whose jobs share
the work through the store alone.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from empty_worker import settings_of
from machine import busy_cores, idleness
from measuring import not_installed
from rows import Row, add_rows_option, last_line, show

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import slurm_cluster
import torch

from cytolora.config.run import RunSpec, SplitSpec
from cytolora.core.progress import SILENT
from cytolora.experiments.engines.registry import ENGINES
from cytolora.experiments.engines.units import Unit, Units
from cytolora.experiments.engines.workers import Workers
from cytolora.experiments.plan import Job
from cytolora.experiments.store import Store

GOAL = 0.1
"""Wall seconds a run."""
RUNS = 500
_WORKERS = 2
_NAMES = ("inline", "processes", "ray", "slurm")
_FOLDER = Path(__file__).parent


def units_of(settings: Sequence[tuple[RunSpec, ...]]) -> Units:
    """Returns every run as a unit."""
    key = settings[0][0].dataset, settings[0][0].backbone
    units = Units(waiting=[Unit(key=key, settings=(one,), only=run, cost=1) for one in settings for run in one])
    units.num_missing.update({one[0].setting_id: len(one) for one in settings})
    return units


def by_units(engine: str, root: Path, settings: Sequence[tuple[RunSpec, ...]]) -> None:
    """Has an engine whose workers have a driver do all runs."""
    run_units = ENGINES.get(engine).run_units
    assert run_units is not None
    workers = Workers() if engine == "inline" else Workers(count=_WORKERS)
    setup: Callable[[int, torch.device], Any] = lambda threads, device: root  # noqa: E731  (a name would say no more)
    cpu = torch.device("cpu")
    run_units(units_of(settings), setup, device=cpu, progress=SILENT, workers=workers, safe="", worker="empty_worker")


def by_jobs(root: Path, settings: Sequence[tuple[RunSpec, ...]]) -> None:
    """Has jobs of a SLURM of this machine do all runs."""
    from cytolora.experiments.engines.slurm import run_jobs

    first = settings[0][0]
    job = Job(dataset=first.dataset, backbone=first.backbone, split=SplitSpec(), settings=tuple(settings))
    number = sum(map(len, settings))
    command = (sys.executable, str(_FOLDER / "empty_worker.py"), str(root), str(number))
    workers = Workers(count=_WORKERS, batch=("--partition=test", "--time=60"), command=command)
    with slurm_cluster.slurm_cluster() as environment, patch.dict("os.environ", environment):
        run_jobs([job], Store(root), progress=SILENT, workers=workers)


def seconds_a_run(root: Path, num_runs: int) -> float:
    """Returns the time between the first and the last stored run, a run.

    Raises:
        RuntimeError: If one is missing, or something is left of a claim.
    """
    times = sorted(path.stat().st_mtime for path in root.glob("[!.]*/metrics.json"))
    if len(times) != num_runs or any(root.glob(".claims/*")):
        raise RuntimeError(f"{len(times)} of {num_runs} runs stored, {len(list(root.glob('.claims/*')))} claims left")
    return (times[-1] - times[0]) / (num_runs - 1)


def measure(engine: str, num_runs: int) -> Row:
    """Measures one engine."""
    row: dict[str, Any] = {"part": "empty-runs", "name": engine, "is_scaled": num_runs < RUNS}
    problem = not_installed(["ray"]) if engine == "ray" else slurm_cluster.missing() if engine == "slurm" else ""
    if problem:
        return Row(**row, problem=problem)
    settings, busy = settings_of(num_runs), busy_cores()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "runs"
        Store(root).make_root()
        try:
            if engine == "slurm":
                by_jobs(root, settings)
            else:
                by_units(engine, root, settings)
            seconds = seconds_a_run(root, num_runs)
        except Exception as error:  # a row that says so; the other engines are measured
            return Row(**row, problem=f"failed: {last_line(str(error))}")
    said = idleness(max(busy, busy_cores()))
    workers = "this process" if engine == "inline" else f"{_WORKERS} workers"
    conditions = "; ".join(filter(None, (f"{num_runs} runs, {workers}, goal at most {GOAL}", said)))
    return Row(**row, conditions=conditions, figures={"wall s a run": [seconds]})


def rows(engines: Sequence[str], num_runs: int) -> Iterator[Row]:
    """Yields a row an engine."""
    for engine in engines:
        print(f"empty-runs: {engine}", file=sys.stderr, flush=True)
        yield measure(engine, num_runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=_NAMES, default=_NAMES)
    parser.add_argument("--runs", type=int, default=RUNS, help="a multiple of 5")
    add_rows_option(parser)
    options = parser.parse_args()
    return show(rows(options.engines, options.runs), options)


if __name__ == "__main__":
    sys.exit(main())
