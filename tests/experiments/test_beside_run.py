"""Commands beside a `run` on the same store, and stores that may only be read."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_store import FakeData, write_runs
from read_only import read_only

from cytolora.api import grids
from cytolora.classifier.leakage.report import LeakageReport
from cytolora.cli.app import main
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.unfinished import temporary_name
from cytolora.experiments.divisions import keep_division
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult, StoredRun
from cytolora.reporting.comparison.compare import to_rows
from cytolora.reporting.leakage.kept import KeptLeakage, Subject, keep, read_kept
from cytolora.reporting.pages.build import build_report

SMALL = FakeData(num_groups=12, group_size=2)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "runs")
    write_runs(found, data=SMALL, models=("uni",), shots=(4,), seeds=(1,), rates=(1e-3,))
    return found


def _replace_when_read(monkeypatch: pytest.MonkeyPatch, store: Store, times: int) -> list[str]:
    """Lets another process take the test score of a run away and give it back, just before its rows are read."""
    read, replaced = StoredRun.predictions, list[str]()

    def interrupted(run: StoredRun) -> Any:
        if len(replaced) < times:
            replaced.append(run.run_id)
            found = store.find(run.run_id)
            assert found is not None
            whole = RunResult(
                spec=parse_spec(found.spec, RunSpec, "spec"),
                metrics=found.metrics,
                predictions=read(found),
                weights=found.weights(),
                provenance=found.provenance,
            )
            store.write(replace(whole, metrics={**whole.metrics, "test": None}))
            store.write(whole)
        return read(run)

    monkeypatch.setattr(StoredRun, "predictions", interrupted)
    return replaced


@pytest.mark.slow
def test_a_report_beside_a_run_that_replaces_what_it_reads_is_that_of_the_store(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    build_report(store.root, tmp_path / "expected")
    shutil.rmtree(store.root / ".cache", ignore_errors=True)
    replaced = _replace_when_read(monkeypatch, store, times=2)
    build_report(store.root, tmp_path / "report")
    assert len(replaced) == 2
    for name in ("settings.csv", "tables.csv", "tables.tex"):
        assert (tmp_path / "report" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_compare_beside_a_run_that_replaces_what_it_reads_compares(store: Store, monkeypatch: pytest.MonkeyPatch):
    expected = to_rows(grids.compare(store.root, "method"))
    shutil.rmtree(store.root / ".cache", ignore_errors=True)
    replaced = _replace_when_read(monkeypatch, store, times=1)
    assert to_rows(grids.compare(store.root, "method")) == expected
    assert len(replaced) == 1


def test_what_was_measured_of_adapted_features_meanwhile_is_not_lost(tmp_path: Path):
    subject = Subject(dataset="a", label_map_sha256=None, backbone="b", data_fingerprint="c", weights_sha256="d")
    report = LeakageReport(
        dataset="a",
        model="b",
        classes=("x", "y"),
        num_cells=9,
        num_groups=3,
        group_rule="",
        num_without_group=0,
        num_not_drawn=0,
        num_trained_on=0,
        positive=(),
        sensitivity=0.9,
        classes_and_groups=(),
        by_features=(),
    )
    with_adapted = KeptLeakage(subject=subject, frozen=report, adapted=report, run_id="a_run", method="lora")
    keep(tmp_path, with_adapted)
    keep(tmp_path, KeptLeakage(subject=subject, frozen=report))
    assert read_kept(tmp_path, subject) == with_adapted


def test_the_split_file_of_a_store_leaves_nothing_else_there(tmp_path: Path):
    from disk_writers import _cells

    cells = _cells(tmp_path / "cells")
    (tmp_path / "runs" / ".splits").mkdir(parents=True)
    temporary_name(tmp_path / "runs" / ".splits" / f"{'0' * 64}.csv").write_text("half")
    sha256 = keep_division(tmp_path / "runs", cells)
    assert [path.name for path in (tmp_path / "runs" / ".splits").iterdir()] == [f"{sha256}.csv"]


@pytest.mark.slow
def test_a_finished_store_that_may_only_be_read_is_reported_and_run_again(drawn_cells: Path, tmp_path: Path):
    runs = tmp_path / "held" / "runs"
    axes = ("--shots", "2", "--seeds", "1", "--learning-rates", "0.01", "--steps", "2", "--threads", "1", "--quiet")
    command = ("run", "smoke", "--method", "linear", *axes, "--data", f"synthetic={drawn_cells}", "--out", str(runs))
    with pytest.raises(SystemExit, match="0"):
        main(command)
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    with read_only(tmp_path / "held"):
        for again in (command, ("report", str(runs), "--out", str(tmp_path / "report"))):
            with pytest.raises(SystemExit, match="0"):
                main(again)
        with pytest.raises(SystemExit, match="2"):
            main([*command, "--seeds", "2"])
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before
    assert (tmp_path / "report" / "index.html").is_file()
