"""Killing `run` at any moment costs the run in flight: no stored run is lost, nothing is left, no number changes."""

import random
from pathlib import Path

import pytest
from benchmark_files import load_benchmark

NUM_KILLS = 10


@pytest.mark.slow
def test_killed_at_any_moment_of_its_life_a_grid_loses_no_run_and_ends_with_the_bytes_of_an_uninterrupted_one(
    drawn_cells: Path, tmp_path: Path
):
    row = load_benchmark("concurrent_runs").kill_row(tmp_path / "kills", drawn_cells, NUM_KILLS, random.Random(0))
    assert row.problems == []
    assert row.counts["kills"] >= NUM_KILLS // 2
    assert row.counts["stored"] >= 8
    assert [row.counts[name] for name in ("lost", "leftovers", "other bytes")] == [0, 0, 0]
