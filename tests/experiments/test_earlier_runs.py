"""Runs that earlier versions stored keep their ids, and give the numbers that were published of them."""

import csv
import tarfile
from pathlib import Path
from statistics import fmean

import pytest

from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.experiments.store import Store
from cytolora.reporting.results.predictions import read_test
from cytolora.reporting.results.settings import gather_settings

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "herlev"
"""616 runs, of which versions before this one stored 210 or more, without their weights; and the report of them."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("earlier")
    with tarfile.open(EXAMPLE / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return Store(folder / "runs")


def test_a_stored_spec_has_the_id_of_its_folder(store: Store):
    runs = list(store.runs())
    assert len(runs) == 616
    assert {parse_spec(run.spec, RunSpec, run.run_id).run_id for run in runs} == {run.run_id for run in runs}


def test_the_learning_rates_and_accuracies_are_those_of_the_published_report(store: Store):
    with (EXAMPLE / "report" / "tables.csv").open(encoding="utf-8") as file:
        published = {(row["method"], row["shots"]): row for row in csv.DictReader(file)}
    settings = gather_settings(store.runs())
    assert {(setting.method, str(setting.shots or "all")) for setting in settings} == published.keys()
    for setting in settings:
        row = published[setting.method, str(setting.shots or "all")]
        assert setting.rate == float(row["learning_rate"])
        accuracy = fmean(run.metrics["test"]["accuracy"] for run in setting.tested)
        assert accuracy == pytest.approx(float(row["accuracy_mean"]), abs=1e-6)


@pytest.mark.slow
def test_the_scores_of_every_run_are_those_of_its_predictions(store: Store):
    """Also where the true class has next to no probability: a report calls runs damaged whose scores differ."""
    tested = [run for run in store.runs() if run.metrics["test"] is not None]
    assert len(tested) > 200
    for run in tested:
        read_test(run)
