"""Contention: wall time of several `cytolora run` on one store over one with as many workers; goal at most 1.25.

    python benchmarks/shared_store.py
    python benchmarks/shared_store.py --quick

The same plan, drawn cells and the built-in backbone, one thread each: LoRA runs and linear heads. Both sides start from
nothing, in turn, round by round, since other work on the machine slows whichever runs; CPU seconds stand beside. Every
run and test score that a command computes is noted, and so counted: exit code 1 where one was computed twice, a run is
missing, a claim is left, or the ratio of the summed wall times is above the goal.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.experiments.store import Store

GOAL = 1.25
_NOTING = """
import sys
from cytolora.experiments import execute
def noting(name, id_of):
    compute = getattr(execute, name)
    def noted(*arguments):
        with open({log!r}, "a") as file:
            file.write(id_of(*arguments) + chr(10))
        return compute(*arguments)
    setattr(execute, name, noted)
noting("_validated", lambda session, store, run, *others: run.run_id)
noting("_test_score", lambda session, result, *others: "test of " + result.spec.run_id)
from cytolora.cli.app import main
main(sys.argv[1:])
"""
"""A command that notes what it computes."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    wall_seconds: float
    cpu_seconds: float


def started(program: Sequence[str], arguments: Sequence[object]) -> "subprocess.Popen[str]":
    command = [sys.executable, *program, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def cost(processes: Sequence["subprocess.Popen[str]"], began: float) -> Cost:
    """Waits for processes that were started at ``began``."""
    before = getrusage(RUSAGE_CHILDREN)
    for process in processes:
        said = process.communicate()[1]
        if process.returncode:
            sys.exit(f"a command ended with {process.returncode}: {said}")
    after = getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_seconds=time.monotonic() - began, cpu_seconds=cpu)


def measure(folder: Path, cells: Path, number: int, plan: Sequence[object]) -> tuple[Cost, Cost, list[str]]:
    """Returns what many commands cost, what one with many workers, and what is wrong with the store of the many."""
    common = [*plan, "--threads", "1", "--quiet", "--data", f"synthetic={cells}", "--out"]
    log, out = folder / "computed", folder / "shared"
    began = time.monotonic()
    many = cost([started(["-c", _NOTING.format(log=str(log))], [*common, out]) for _ in range(number)], began)
    began = time.monotonic()
    main = "from cytolora.cli.app import main; main()"
    one = cost([started(["-c", main], [*common, folder / "alone", "--workers", number])], began)
    counts = Counter(log.read_text().splitlines())
    problems = [f"not counted: {run.run_id}" for run in Store(out).runs() if run.run_id not in counts]
    problems += [f"{times} times: {name}" for name, times in counts.items() if times > 1]
    ours, theirs = ({run.run_id for run in Store(root).runs()} for root in (out, folder / "alone"))
    problems += [f"missing: {name}" for name in theirs - ours]
    problems += [f"left: {path.name}" for path in (out / ".claims").iterdir()]
    return many, one, problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60, help="of each run")
    parser.add_argument(
        "--quick", action="store_true", help="two commands, one round, 10 steps; the ratio is not judged"
    )
    options = parser.parse_args()
    number, rounds, steps = (2, 1, 10) if options.quick else (options.commands, options.rounds, options.steps)
    plan = ["run", "smoke", "--shots", 4, "--seeds", *range(1, 5), "--learning-rates", 0.001, 0.01, "--steps", steps]
    total, wrong = [0.0, 0.0], list[str]()
    for turn in range(rounds):
        with tempfile.TemporaryDirectory() as name:
            write_synthetic(Path(name) / "cells", num_images=120, num_slides=12, seed=0)
            many, one, problems = measure(Path(name), Path(name) / "cells", number, plan)
        total = [total[0] + many.wall_seconds, total[1] + one.wall_seconds]
        wrong += problems
        print(
            f"round {turn + 1}: {number} commands {many.wall_seconds:.1f} s ({many.cpu_seconds:.1f} s of CPU), one "
            f"with {number} workers {one.wall_seconds:.1f} s ({one.cpu_seconds:.1f} s of CPU): "
            f"{many.wall_seconds / one.wall_seconds:.2f} times; {len(problems)} problems",
            flush=True,
        )
        for problem in problems:
            print(f"    {problem}", flush=True)
    ratio = total[0] / total[1]
    is_kept = not wrong and (options.quick or ratio <= GOAL)
    print(f"{'kept' if is_kept else 'broken'}: {ratio:.2f} times, goal at most {GOAL}; {len(wrong)} problems")
    sys.exit(not is_kept)


if __name__ == "__main__":
    main()
