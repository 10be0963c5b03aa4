"""Scaling of a CPU-bound sweep: wall seconds of one worker of an engine over those of two; goal at least 1.7.

    .venv/bin/python benchmarks/two_workers.py
    .venv/bin/python benchmarks/two_workers.py --engines processes --steps 20

LoRA of the built-in backbone on drawn cells, one thread a worker, 16 runs that do not wait for each other (8 seeds, two
learning rates). Start and end of the workers are part of both sides: the fewer the steps, the less is gained. Needs two
cores with nothing else to do; a row says where others used them.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from machine import busy_cores, idleness, num_cores
from measuring import cytolora, not_installed, process
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
ENGINES = ("processes", "ray")


def sweep(cells: Path, out: Path, engine: str, steps: int, workers: int) -> float:
    """Runs the sweep from nothing; returns wall seconds."""
    options = ["--steps", str(steps), "--threads", "1", "--engine", engine, "--workers", str(workers), "--quiet"]
    return process(cytolora("run", *PLAN, *options, "--data", f"synthetic={cells}", "--out", out)).wall_seconds


def measure(engine: str, steps: int, rounds: int) -> Iterator[Row]:
    """Measures one and two workers in turn, round by round."""
    common = {"part": "two-workers", "name": f"LoRA sweep, 16 runs, {engine}", "is_scaled": steps < STEPS}
    conditions = [f"{steps} steps, goal at least {GOAL}"]
    missing = not_installed(["ray"]) if engine == "ray" else ""
    if problem := missing or ("not measured: one core" if num_cores() < 2 else ""):
        yield Row(**common, conditions=conditions[0], problem=problem)
        return
    found, busy = dict[int, list[float]]({1: [], 2: []}), [busy_cores()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_synthetic(folder / "cells", num_images=300, num_slides=20, seed=0)
        for number in range(rounds):
            for workers, seconds in found.items():
                print(f"two-workers: {engine}, {workers}, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
                try:
                    out = folder / f"{number}-{workers}" / "runs"
                    seconds.append(sweep(folder / "cells", out, engine, steps, workers))
                except RuntimeError as error:
                    yield Row(**common, conditions=conditions[0], problem=f"failed: {last_line(str(error))}")
                    return
                busy.append(busy_cores())
    conditions += [said] if (said := idleness(max(busy))) else []
    figures = {"one worker, wall s": found[1], "two workers, wall s": found[2], "one / two": ratios(found[1], found[2])}
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
