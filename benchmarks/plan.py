"""Seconds of `cytolora plan exp2`: nothing stored, and all 1,800 runs stored (drawn numbers, no training).

    .venv/bin/python benchmarks/plan.py --rounds 3

The whole command, start of Python included, and the planning in it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from measuring import cpu_seconds, cytolora, process
from rows import Row, add_rows_option, show

from cytolora.config.run import RunSpec
from cytolora.config.yaml import load_grid
from cytolora.experiments.expand import expand
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.training.resources import Inputs


def stored(run: RunSpec) -> RunResult:
    """A finished run of drawn numbers; the middle rate is best, and its test set is scored."""
    accuracy = 0.9 - abs(run.learning_rate - 1e-3)
    score = {"accuracy": accuracy, "balanced_accuracy": accuracy, "macro_f1": accuracy, "loss": 0.3, "n": 100}
    return RunResult(
        spec=run,
        metrics={
            "val": score,
            "test": score if run.learning_rate == 1e-3 else None,
            "num_trainable": 77_000,
            "train": {"num_images": 28, "num_steps": 250, "final_loss": 0.2},
        },
        predictions=pa.table({"subset": ["val"], "path": ["a.png"], "group": ["g"], "label": ["a"], "a": [1.0]}),
        weights=b"",
        provenance={
            "weights_sha256": "w",
            "data_fingerprint": "d",
            "split_fingerprint": "s",
            "classes": ["a"],
            "seconds": 60.0,
        },
    )


def measure(name: str, out: Path, rounds: int) -> Row:
    """Plans some times."""
    grid, figures = load_grid("exp2"), dict[str, list[float]]()
    for _ in range(rounds):
        cost = process(cytolora("plan", "exp2", "--json", "--out", out))
        planning = cpu_seconds(lambda: make_plan(grid, Store(out), Inputs(data={})))
        figures.setdefault("command, CPU s", []).append(cost.cpu_seconds)
        figures.setdefault("planning, CPU s", []).append(planning)
    plan = make_plan(grid, Store(out), Inputs(data={}))
    stored = f"{len(plan.stored):,} of {len(plan.runs):,} runs stored"
    return Row(part="plan", name=name, figures=figures, conditions=stored)


def rows(rounds: int) -> Iterator[Row]:
    """Measures both, in a folder of their own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        yield measure("empty store", out, rounds)
        store = Store(out)
        os.fsync = lambda _: None  # a store to be thrown away need not survive a power cut
        for run in expand(load_grid("exp2")):
            store.write(stored(run))
        yield measure("full store", out, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    add_rows_option(parser)
    options = parser.parse_args()
    return show(rows(options.rounds), options)


if __name__ == "__main__":
    sys.exit(main())
