"""Kills workers, nodes, jobs and drivers of every engine at random moments, and compares the store with one left alone.

    python benchmarks/faults.py
    python benchmarks/faults.py --runs 8 --kills 2 --engines inline processes
    python benchmarks/faults.py --long --kills 20
    python benchmarks/faults.py --kills 0 --runs 800 --steps 5 --herlev smear2005     (are the engines equal?)

Each engine works on a plan of its own store: several commands in one process each (`inline`), `processes`, `ray` with a
head and two nodes, `slurm` with a controller and two nodes of this machine. Its workers are killed with SIGKILL;
besides, a driver is killed, a Ray node removed, a SLURM job cancelled, and one queued again as near its time limit. A
command that ends with an error is started again. Promised: every result, none different, no claim and no unfinished
file left. `--long`: one run of many steps, killed again and again, ends with the bytes of one left alone. Exit code 1
where one is not kept. Needs Linux, for `ray` its extra, for `slurm` root, slurm-wlm and munge; engines that lack theirs
are named.
"""

import argparse
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import slurm_cluster
from child_processes import below
from contention import leftovers

_FILES = ("spec.json", "metrics.json", "predictions.parquet")
_STARTS = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
_NUM_WORKERS = 2
_MAX_SECONDS = 3600
"""For one engine."""
ENGINES = ("inline", "processes", "ray", "slurm")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How an engine is started, and what can befall it besides the death of a worker."""

    options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    worker: str = ""
    """Part of a worker's command line; empty: the commands themselves are the workers."""
    are_elsewhere: bool = False
    """Whether workers are not below this process; then their command line names the store."""
    num_commands: int = 1
    faults: Mapping[str, Callable[[Path], bool]] = field(default_factory=dict)
    """What does each once, given the store; False: not possible yet."""


@dataclass(kw_only=True)
class Siege:
    """An engine at work on a store, while its processes are killed."""

    setup: Setup
    store: Path
    arguments: Sequence[str]
    commands: "list[subprocess.Popen[Any]]" = field(default_factory=list)
    killed: int = 0
    starts: int = 0
    started: float = 0.0
    """When the command was last started, ``time.time``."""
    befell: list[str] = field(default_factory=list)

    def run(self, kills: int, moment: random.Random, seconds: float) -> None:
        """Kills at random moments, on average ``seconds`` apart, until the command has done all there is to do."""
        until, due = time.monotonic() + _MAX_SECONDS, 0.0
        while time.monotonic() < until:
            codes = [one.poll() for one in self.commands]
            if 0 in codes and None not in codes:
                return
            if None not in codes:
                self._start()
            elif time.monotonic() >= due and self._strike(kills, moment):
                due = time.monotonic() + moment.expovariate(1 / seconds)
            time.sleep(0.05)
        for command in self.commands:
            command.kill()

    def _start(self) -> None:
        self.starts, self.started = self.starts + 1, time.time()
        command = [sys.executable, "-c", _STARTS, "run", *self.arguments, "--out", str(self.store)]
        quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.commands = [
            subprocess.Popen([*command, *self.setup.options], env=dict(self.setup.environment), **quiet)
            for _ in range(self.setup.num_commands)
        ]

    def _strike(self, kills: int, moment: random.Random) -> bool:
        """Does the next fault, or kills a worker; False while nothing is at work."""
        if not any(self._is_recent(path) for path in self.store.glob(".claims/*.json")):
            return False
        for name, strike in self.setup.faults.items():
            if name not in self.befell and self.killed >= kills // 2:
                if strike(self.store):
                    self.befell.append(name)
                return True
        victims = self._workers()
        if self.killed >= kills or not victims:
            return False
        with suppress(ProcessLookupError):
            os.kill(moment.choice(victims), signal.SIGKILL)
            self.killed += 1
        return True

    def _is_recent(self, claim: Path) -> bool:
        """Whether a claim was made or touched since the last start: others are those of the dead."""
        with suppress(FileNotFoundError):
            return claim.stat().st_mtime > self.started
        return False

    def _workers(self) -> list[int]:
        if not self.setup.worker:
            return [one.pid for one in self.commands if one.poll() is None]
        parts = [self.setup.worker, str(self.store)] if self.setup.are_elsewhere else [self.setup.worker]
        lines = below(1 if self.setup.are_elsewhere else os.getpid())
        return [number for number, line in lines.items() if all(part in line for part in parts)]


def contents(store: Path) -> dict[str, bytes]:
    """The result files of every stored run, by their path below the store."""
    paths = [path for name in _FILES for path in store.glob(f"[!.]*/{name}")]
    return {str(path.relative_to(store)): path.read_bytes() for path in paths}


@contextmanager
def setup_of(engine: str) -> Iterator[Setup | str]:
    """Yields how an engine is started here, or why it cannot be."""
    workers = ("--workers", str(_NUM_WORKERS))
    if engine == "inline":
        yield Setup(num_commands=3)
    elif engine == "processes":
        yield Setup(options=workers, worker="engines.process_worker", faults={"driver killed": kill_driver})
    elif engine == "slurm":
        if why := slurm_cluster.missing():
            yield why
            return
        with slurm_cluster.slurm_cluster() as environment:
            faults = {name: partial(fault, environment) for name, fault in SLURM_FAULTS.items()}
            options = ("--engine", "slurm", *workers, "--slurm", "partition=test", "time=60")
            yield Setup(
                options=options, environment=environment, worker="--slurm-worker", are_elsewhere=True, faults=faults
            )
    elif find_spec("ray") is None:
        yield "Ray is not installed"
    else:
        yield from _ray(workers)


def _ray(workers: Sequence[str]) -> Iterator[Setup]:
    settings = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on the loopback address
    }
    os.environ.update(settings)  # Ray reads them when it is imported
    from ray.cluster_utils import Cluster

    options: Any = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    head = {**options, "num_cpus": 0, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    node = [cluster.add_node(**options) for _ in range(2)][1]
    cluster.wait_for_nodes()

    def remove(store: Path) -> bool:
        cluster.remove_node(node)
        return True

    try:
        yield Setup(
            options=("--engine", "ray", *workers, "--address", str(cluster.address)),
            worker="ray::Worker.",
            faults={"node removed": remove},
        )
    finally:
        cluster.shutdown()


def kill_driver(store: Path) -> bool:
    """Kills the command that works on a store, whose workers then end by themselves."""
    drivers = [number for number, line in below(os.getpid()).items() if f"--out {store}" in line]
    for number in drivers:
        os.kill(number, signal.SIGKILL)
    return bool(drivers)


def _running(environment: dict[str, str]) -> list[str]:
    return sorted(task for task, state in slurm_cluster.states(environment).items() if state == "RUNNING")


def cancel_job(environment: dict[str, str], store: Path) -> bool:
    """Cancels a running job; false where there is none."""
    for task in _running(environment)[-1:]:
        slurm_cluster.ask(["scancel", task], environment)
        return True
    return False


def requeue_job(environment: dict[str, str], store: Path) -> bool:
    """Tells a running job that its time limit is near, and lets it start again without SLURM's two minutes."""
    for task in _running(environment)[:1]:
        slurm_cluster.ask(["scancel", "--signal=USR1", "--batch", task], environment)
        until = time.monotonic() + 120
        while slurm_cluster.states(environment).get(task) in ("RUNNING", "COMPLETING") and time.monotonic() < until:
            time.sleep(0.5)
        slurm_cluster.ask(["scontrol", "update", f"JobId={task}", "StartTime=now"], environment)
        return True
    return False


def kill_slurm_driver(environment: dict[str, str], store: Path) -> bool:
    """Kills the command that submitted the jobs; they go on without it."""
    return kill_driver(store)


SLURM_FAULTS = {"job requeued": requeue_job, "job cancelled": cancel_job, "driver killed": kill_slurm_driver}


def besiege(engine: str, folder: Path, arguments: Sequence[str], kills: int, options: argparse.Namespace) -> bool:
    """Runs a plan alone and under attack, and prints a row; returns whether all is as promised."""
    alone, store = folder / "alone", folder / engine
    with setup_of(engine) as setup:
        if isinstance(setup, str):
            print(f"| {engine} | not tried: {setup} |", flush=True)
            return True
        siege = Siege(setup=setup, store=store, arguments=arguments)
        began = time.monotonic()
        siege.run(kills, random.Random(options.seed), options.seconds)
    whole, found = contents(alone), contents(store)
    claims = [path.name for path in store.glob(".claims/*")]
    left = [name for name in leftovers(store) if not name.startswith(".claims")]
    different = [name for name in whole if found.get(name, whole[name]) != whole[name]]
    missing, more = whole.keys() - found.keys(), found.keys() - whole.keys()
    is_kept = not (missing or more or different or claims or left) and siege.killed >= kills
    stored = len(whole.keys() & found.keys()) // len(_FILES)
    cells = (
        engine,
        siege.killed,
        ", ".join(siege.befell) or "-",
        siege.starts,
        f"{stored} of {len(whole) // len(_FILES)}",
        len(more),
        len(different),
        len(claims) + len(left),
        f"{time.monotonic() - began:.0f}",
        "yes" if is_kept else "NO",
    )
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
    return is_kept


def torment(folder: Path, cells: Path, kills: int, seed: int, steps: int, pause: float) -> bool:
    """Kills one long run at random moments; returns whether it ends with the bytes of one left alone."""
    arguments = [*_plan(1), "--steps", str(steps), "--data", f"synthetic={cells}", "--checkpoint-minutes", "0.02"]
    alone = Siege(setup=Setup(), store=folder / "alone", arguments=arguments)
    began = time.monotonic()
    alone.run(0, random.Random(seed), 1)
    seconds = time.monotonic() - began
    siege = Siege(setup=Setup(), store=folder / "killed", arguments=arguments)
    siege.run(kills, random.Random(seed), pause)
    found, whole = contents(siege.store), contents(alone.store)
    weights = [next(one.glob("[!.]*/*.safetensors")).read_bytes() for one in (siege.store, alone.store)]
    is_kept = found == whole and weights[0] == weights[1] and siege.killed == kills
    print(
        f"{'kept' if is_kept else 'BROKEN'}: a run of {steps} steps ({seconds:.0f} s left alone), killed "
        f"{siege.killed} times: {sum(found.get(name) == whole[name] for name in whole)} of {len(whole)} files and the "
        f"weights {'equal' if weights[0] == weights[1] else 'DIFFERENT'}"
    )
    return is_kept


def _plan(runs: int, herlev: Path | None = None) -> list[str]:
    if herlev is not None:
        return [*_plan(-(-runs // 2)), "--dataset", "synthetic", "herlev", "--data", f"herlev={herlev}"]
    seeds, rates = (runs, ("0.01",)) if runs < 4 else (-(-runs // 2), ("0.01", "0.03"))
    axes = ("smoke", "--method", "lora", "--shots", "1", "--seeds", *map(str, range(1, seeds + 1)))
    return [*axes, "--learning-rates", *rates, "--threads", "1", "--quiet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--runs", type=int, default=200, help="over all engines together")
    parser.add_argument("--kills", type=int, default=40, help="over all engines together; with --long, of the run")
    parser.add_argument("--steps", type=int, help="of each run; 60, with --long 2,000")
    parser.add_argument("--seconds", type=float, default=4.0, help="from one kill to the next, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--herlev", type=Path, help="folder of Herlev: half of the runs are of its cells")
    parser.add_argument("--long", action="store_true", help="one long run, in place of the engines")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from cytolora.data.synthetic.dataset import write_synthetic

    with tempfile.TemporaryDirectory(prefix="faults-") as name:
        folder = Path(name)
        cells = folder / "cells"
        write_synthetic(cells, num_images=60, num_slides=6, seed=0)
        if options.long:
            sys.exit(not torment(folder, cells, options.kills, options.seed, options.steps or 2000, options.seconds))
        number = len(options.engines)
        arguments = [*_plan(options.runs // number, options.herlev), "--steps", str(options.steps or 60)]
        arguments += ["--data", f"synthetic={cells}"]
        Siege(setup=Setup(), store=folder / "alone", arguments=arguments).run(0, random.Random(0), 1)
        columns = "engine", "killed", "besides", "starts", "results", "too many", "different", "left", "s", "kept"
        print(f"| {' | '.join(columns)} |\n" + "| --- " * len(columns) + "|", flush=True)
        kills = -(-options.kills // number)
        kept = [besiege(engine, folder, arguments, kills, options) for engine in options.engines]
    sys.exit(not all(kept))


if __name__ == "__main__":
    main()
