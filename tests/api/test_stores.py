"""A store from Python: its runs as a table, and the predictions of all as one file."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from fake_store import write_runs

import cytolora
from cytolora.core.registry import Registry
from cytolora.core.spending import Spending
from cytolora.experiments.run_table import COLUMNS
from cytolora.experiments.store import Store
from cytolora.experiments.tracking.registry import Mirror, Tracker
from cytolora.reporting.pages.build import _write_tables
from cytolora.reporting.results.settings import read_settings

SPENT = {"wall_seconds": 2.5, "cpu_seconds": 4.0, "peak_memory_bytes": 2**30, "host": "lab", "date": "2026-01-02"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs that know what they took, and one that was stored before that was noted."""
    store = Store(tmp_path / "runs")
    one = {"models": ("uni",), "methods": ("linear",), "shots": (1,), "rates": (1e-3,)}
    for seed in (1, 2):
        spent = {**SPENT, "cpu_seconds": 4.0 * seed, "cpu_kwh": None}
        write_runs(store, **one, seeds=(seed,), provenance={"spending": spent})
    write_runs(store, **one, seeds=(3,))
    return store.root


def test_the_runs_of_a_store_are_a_table_whose_unknown_values_are_empty(runs: Path):
    table = cytolora.open_store(runs).runs()
    stored = list(Store(runs).runs())
    assert [row["run"] for row in table.rows] == [run.run_id for run in stored]
    for row, run in zip(table.rows, stored, strict=True):
        assert row["test_accuracy"] == run.metrics["test"]["accuracy"]
        assert row["seconds"] == run.provenance["seconds"]
    assert [row["cpu_seconds"] for row in table.rows] == [4.0, 8.0, None]
    arrow = table.to_arrow()
    assert arrow.column_names == [*COLUMNS]
    assert arrow["gpu_kwh"].null_count == len(table) == 3
    assert arrow.schema == cytolora.open_store(runs.parent).runs().to_arrow().schema  # no runs there
    assert "3 runs" in repr(table)
    assert "uni" in table._repr_html_()


def test_a_report_says_what_each_run_took_and_the_means_of_each_setting(runs: Path, tmp_path: Path):
    _write_tables(tmp_path, read_settings(Store(runs).runs()))
    rows = list(csv.DictReader((tmp_path / "runs.csv").open()))
    assert [(row["cpu_seconds"], row["cpu_kwh"]) for row in rows] == [("4.0", ""), ("8.0", ""), ("", "")]
    (mean,) = csv.DictReader((tmp_path / "costs.csv").open())
    assert (mean["n_runs"], mean["cpu_seconds"], mean["cpu_kwh"], mean["gpu_kwh"]) == ("3", "6.0", "", "")
    assert (mean["host"], mean["peak_memory_bytes"], mean["last_date"]) == ("lab", str(2**30), "2026-01-02")


def test_all_predictions_are_one_file(runs: Path, tmp_path: Path):
    written = cytolora.open_store(str(runs)).predictions(tmp_path / "all.parquet")
    assert pq.ParquetFile(written).num_row_groups == 3  # one run at a time
    with pytest.raises(cytolora.ConfigError, match=r"ends in \.parquet, got 'all\.csv'"):
        cytolora.open_store(runs).predictions(tmp_path / "all.csv")
    with pytest.raises(cytolora.ConfigError, match="is no folder"):
        cytolora.open_store(tmp_path / "absent")


def test_a_store_is_mirrored_to_several_trackers_once_each(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen: dict[str, list[str]] = {}

    def opened(address: str) -> Mirror:
        return lambda record: record.run_id not in seen[address] and not seen[address].append(record.run_id)

    listed = Registry("tracker")
    listed.add(Tracker(name="lines", description="", address="PLACE", open=opened))
    monkeypatch.setattr("cytolora.experiments.tracking.registry.TRACKERS", listed)
    seen |= {"a": [], "b": []}
    assert cytolora.track(str(runs), "lines:a") == {"lines:a": cytolora.Tracked(num_mirrored=3, num_equal=0)}
    again = cytolora.track(runs, ["lines:a", "lines:b"])
    assert {name: (one.num_mirrored, one.num_equal) for name, one in again.items()} == {
        "lines:a": (0, 3),
        "lines:b": (3, 0),
    }
    assert seen["a"] == seen["b"] == [run.run_id for run in Store(runs).runs()]
    with pytest.raises(cytolora.ConfigError, match="names no place"):
        cytolora.track(runs, ["lines:b", "lines:"])


def test_a_store_whose_spending_is_no_number_is_damaged(tmp_path: Path):
    store = Store(tmp_path / "runs")
    with pytest.raises(cytolora.StoreError, match="spending"):
        write_runs(
            store,
            models=("uni",),
            methods=("linear",),
            shots=(1,),
            seeds=(1,),
            rates=(1e-3,),
            provenance={"spending": {"cpu_seconds": "many"}},
        )
    assert set(Spending.__dataclass_fields__) <= COLUMNS.keys()
