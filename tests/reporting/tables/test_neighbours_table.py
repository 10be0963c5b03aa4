"""The report shows what needs no training beside the linear heads, and leaves out runs that did not score it."""

import csv
from pathlib import Path

import pytest

from cells import run_all, tiny_grid
from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings
from cytolora.reporting.tables.neighbours import neighbour_rows


@pytest.mark.slow
def test_the_table_holds_the_means_of_the_tested_runs(drawn_cells: Path, tmp_path: Path):
    run_all(tiny_grid(methods=["linear"]), drawn_cells, tmp_path / "runs")
    runs = list(Store(tmp_path / "runs").runs())
    tested = [run.metrics for run in runs if run.metrics["test"] is not None]
    (row,) = neighbour_rows(read_settings(runs))
    for name in ("knn", "nearest_mean"):
        values = [metrics["neighbours"][name]["test"]["accuracy"] for metrics in tested]
        assert abs(row[f"{name}_mean"] - sum(values) / len(values)) < 1e-6
    assert row["linear_mean"] == round(sum(metrics["test"]["accuracy"] for metrics in tested) / len(tested), 6)
    page = build_report(tmp_path / "runs", tmp_path / "report")
    assert "Baselines without training" in page.read_text()
    with (page.parent / "neighbours.csv").open() as file:
        (written,) = csv.DictReader(file)
    assert float(written["knn_mean"]) == row["knn_mean"]
    for run in runs:
        run.metrics.pop("neighbours")  # pyright: ignore[reportAttributeAccessIssue]
    assert neighbour_rows(read_settings(runs)) == []
