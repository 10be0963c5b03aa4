"""Two and four processes on one target, some of them killed: nothing doubled, torn, mixed, lost or left over."""

import random
from pathlib import Path
from typing import Any

import pytest
from benchmark_files import load_benchmark

NUM_PAIRS = 10
"""The fewest in which benchmarks/concurrent_runs.py tries every kind of run; it makes 100."""
NAMES = ["report", "fit", "split", "embed", "predict", "export", "compare"]
"""All of its targets but `learning-curve`, which trains as `fit` does and takes as long as the others together."""


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return load_benchmark("concurrent_runs")


@pytest.fixture(scope="module")
def prepared(benchmark: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Path, Path], Path]:
    """Two folders of cells; a store and two bundles."""
    return benchmark.prepared(tmp_path_factory.mktemp("prepared"))


@pytest.mark.slow
def test_pairs_of_runs_end_with_the_bytes_of_one_process(benchmark: Any, drawn_cells: Path, tmp_path: Path):
    rows = benchmark.run_rows(tmp_path / "pairs", drawn_cells, NUM_PAIRS, random.Random(0))
    assert [problem for row in rows for problem in row.problems] == []
    assert sum(row.counts["pairs"] for row in rows) == NUM_PAIRS
    assert sum(row.counts["kills"] for row in rows) >= 1  # who has ended by then cannot be killed
    for name in ("doubled rows", "leftovers", "other bytes", "damaged reports"):
        assert [row.counts[name] for row in rows] == [0, 0]


@pytest.mark.slow
def test_report_and_load_read_what_others_replace(benchmark: Any, prepared: Any, tmp_path: Path):
    (cells, _), made = prepared
    row = benchmark.reader_row(tmp_path / "reading", made, cells, 2)
    assert row.problems == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_a_target_of_several_commands_is_that_of_one(benchmark: Any, prepared: Any, tmp_path: Path, name: str):
    cells, made = prepared
    (target,) = [one for one in benchmark.targets(cells, made) if one.name == name]
    row = benchmark.target_row(target, tmp_path / "race", 2, 2, random.Random(name))
    assert row.problems == []
    assert [row.counts[name] for name in ("mixed or lost", "leftovers")] == [0, 0]
