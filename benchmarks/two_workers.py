"""Scaling of a CPU-bound sweep: wall seconds of one worker of an engine over those of two; goal at least 1.7.

    .venv/bin/python benchmarks/two_workers.py
    .venv/bin/python benchmarks/two_workers.py --engines processes --steps 20

LoRA of the built-in backbone on drawn cells, one thread a worker, 16 runs that do not wait for each other (8 seeds, two
learning rates). Start and end of the workers are part of both sides: the fewer the steps, the less is gained. Wall
seconds need two cores with nothing else to do; a row says where others used them. CPU seconds do not: what two idle
cores give at best is one worker's CPU seconds over the command's own and half of its two workers'.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from machine import busy_cores, idleness, num_cores
from measuring import Cost, cytolora, not_installed, process
from rows import Row, add_rows_option, last_line, ratios, show

from cytolora.data.synthetic.dataset import write_synthetic

STEPS = 78
"""Of the grid at 16 shots."""
PLAN = (
    "smoke",
    "--method",
    "lora",
    "--shots",
    "16",
    "--seeds",
    *map(str, range(1, 9)),
    "--learning-rates",
    "0.001",
    "0.003",
)
GOAL = 1.7
COMMAND_CPU_SECONDS = 4.5
"""Of a command without its workers: a command with one worker less what a second one adds, 10.9 - 6.4 s (two steps)."""
ENGINES = ("processes", "ray")


def sweep(cells: Path, out: Path, engine: str, steps: int, workers: int) -> Cost:
    """Runs the sweep from nothing; returns its cost, workers included where the command waits for them."""
    options = ["--steps", str(steps), "--threads", "1", "--engine", engine, "--workers", str(workers), "--quiet"]
    return process(cytolora("run", *PLAN, *options, "--data", f"synthetic={cells}", "--out", out))


def measure(engine: str, steps: int, rounds: int) -> Iterator[Row]:
    """Measures one and two workers in turn, round by round."""
    common = {"part": "two-workers", "name": f"LoRA sweep, 16 runs, {engine}", "is_scaled": steps < STEPS}
    conditions = [f"{steps} steps, goal at least {GOAL}"]
    missing = not_installed(["ray"]) if engine == "ray" else ""
    if problem := missing or ("not measured: one core" if num_cores() < 2 else ""):
        yield Row(**common, conditions=conditions[0], problem=problem)
        return
    found, busy = dict[int, list[Cost]]({1: [], 2: []}), [busy_cores()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "cells", num_images=300, num_slides=20, seed=0)
        for number in range(rounds):
            for workers, costs in found.items():
                print(f"two-workers: {engine}, {workers}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                try:
                    out = folder / f"{number}-{workers}" / "runs"
                    costs.append(sweep(folder / "cells", out, engine, steps, workers))
                except RuntimeError as error:
                    yield Row(**common, conditions=conditions[0], problem=f"failed: {last_line(str(error))}")
                    return
                busy.append(busy_cores())
    conditions += [said] if (said := idleness(max(busy))) else []
    one, two = ([cost.wall_seconds for cost in costs] for costs in found.values())
    figures = {"one worker, wall s": one, "two workers, wall s": two, "one / two": ratios(one, two)}
    if engine == "processes":  # Ray's workers are no children of the command
        one, two = ([cost.cpu_seconds for cost in costs] for costs in found.values())
        idle = [COMMAND_CPU_SECONDS + (cost - COMMAND_CPU_SECONDS) / 2 for cost in two]
        figures |= {"one, CPU s": one, "two, CPU s": two, "one / two, on two idle cores at best": ratios(one, idle)}
    yield Row(**common, conditions="; ".join(conditions), figures=figures)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--rounds", type=int, default=2)
    add_rows_option(parser)
    options = parser.parse_args()
    rows = chain.from_iterable(measure(engine, options.steps, options.rounds) for engine in options.engines)
    return show(rows, options)


if __name__ == "__main__":
    sys.exit(main())
