"""Seconds of `cytolora plan exp2`: nothing stored, and all 1,800 runs stored (drawn numbers, no training).

    .venv/bin/python benchmarks/plan.py --rounds 3

Prints the whole command, start of Python included, and the planning in it; the least of some rounds.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from cytolora.config.run import RunSpec
from cytolora.config.yaml import load_grid
from cytolora.experiments.expand import expand
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import RunResult, Store
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
        predictions=pa.table({"path": ["a.png"], "label": ["a"]}),
        weights=b"",
        provenance={
            "weights_sha256": "w",
            "data_fingerprint": "d",
            "split_fingerprint": "s",
            "classes": ["a"],
            "seconds": 60.0,
        },
    )


def least(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the fastest of some rounds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def measure(label: str, out: Path, rounds: int) -> None:
    """Prints one line."""
    program = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, "plan", "exp2", "--json", "--out", str(out)]
    grid = load_grid("exp2")
    whole = least(lambda: subprocess.run(command, capture_output=True, check=True), rounds)
    planning = least(lambda: make_plan(grid, Store(out), Inputs(data={})), rounds)
    plan = make_plan(grid, Store(out), Inputs(data={}))
    print(f"{label}: {len(plan.stored)} of {len(plan.runs)} stored, {whole:.2f} s, of it planning {planning:.2f} s")


def main() -> None:
    """Measures both, in a folder of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        measure("empty store", out, rounds)
        store = Store(out)
        for run in expand(load_grid("exp2")):
            store.write(stored(run))
        measure("full store", out, rounds)


if __name__ == "__main__":
    main()
