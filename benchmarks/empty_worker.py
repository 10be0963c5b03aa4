"""Worker of runs that compute nothing: claims each, stores a result that was at hand, looks at its test set.

python benchmarks/empty_worker.py RUNS 500     (what a job of SLURM does: all runs that are left, in turn)
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fake_store import FakeData, fake_run

from cytolora.config.run import RunSpec
from cytolora.experiments.claims import claimed, noted, of_test
from cytolora.experiments.plan import has_work, stored_runs
from cytolora.experiments.store import Store

_DATA = FakeData(num_groups=12)
SEEDS = 5
"""Runs of a setting."""


def settings_of(num_runs: int) -> list[tuple[RunSpec, ...]]:
    """Returns settings of one learning rate and five seeds each; they differ in their shots."""
    amounts = range(1, 1 + -(-num_runs // SEEDS))
    return [tuple(_result(shots, seed).spec for seed in range(1, SEEDS + 1)) for shots in amounts]


@dataclass(kw_only=True)
class Worker:
    """Does units as that of the engines does, and computes nothing."""

    setup: Path
    """The store's folder."""
    on_images: Callable[[int], None] = lambda images: None

    def start(self) -> None:
        """Opens the store."""
        self.store = Store(self.setup)
        _result(1, 1)

    def begin(self) -> None:
        """Does nothing: its answer tells a worker that died at a unit from one that was dead before."""

    def work(self, unit: Any) -> int:
        """Stores a run, or looks whether a setting needs a test score."""
        with claimed(self.store.root, unit.claim, unit.run_ids):
            if unit.only is None:
                _look_at_test(self.store, unit.settings[0])
            else:
                _store(self.store, unit.only)
        return 1


def main(root: Path, num_runs: int) -> None:
    """Does all runs that are left, as a command on one store among several does."""
    store = Store(root)
    for setting in settings_of(num_runs):
        for run in setting:
            if store.find(run.run_id) is None:
                with noted([]), claimed(root, run.run_id, [run.run_id]):
                    _store(store, run)
        with noted([]), claimed(root, of_test(setting), [run.run_id for run in setting]):
            _look_at_test(store, setting)


def _store(store: Store, run: RunSpec) -> None:
    if store.find(run.run_id) is None:
        store.add(_result(run.sampling.shots or 1, run.seed))


def _look_at_test(store: Store, setting: Sequence[RunSpec]) -> None:
    with store.exclusive():
        has_work(setting, stored_runs(store, setting))


@cache
def _result(shots: int, seed: int) -> Any:
    return fake_run(_DATA, "uni", "lora", shots, 1e-3, seed, 0.5, tested=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
