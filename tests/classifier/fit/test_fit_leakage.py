"""The leakage section of `fit`: measured where groups are known, kept in the bundle, and shown on its page."""

import json
from pathlib import Path

import pytest
from class_folders import write_classes
from planted_leakage import write_tinted
from quick_fit import quick_fit

from cytolora.classifier.leakage.report import LeakageReport
from cytolora.classifier.leakage.tables import of


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinted(tmp_path_factory.mktemp("tinted") / "cells", strength=1, num_cells=100, num_slides=10)


@pytest.mark.slow
def test_a_linear_fit_measures_frozen_features_of_all_its_images_and_shows_them(cells, tmp_path):
    model = tmp_path / "model"
    fitted = quick_fit(cells, model, model="nano", max_steps=2, learning_rates=0.01, cache=tmp_path / "cache")
    found = json.loads((model / "bundle.json").read_text())["metrics"]["leakage"]
    (of_features,) = found["by_features"]
    assert (of_features["features"], found["num_cells"], found["num_groups"]) == ("frozen", 100, 10)
    assert of_features["inflation"]["num_cells"] == 100
    assert of_features["sources"][0]["balanced_accuracy"] > 2 * of_features["sources"][0]["chance"]
    assert [one["name"] for one in found["findings"]] == ["source-readable"]
    page = (model / "report.html").read_text(encoding="utf-8")
    assert "<h2>Leakage and shortcuts</h2>" in page
    for table in of(LeakageReport.from_plain(found)):
        assert table.title in page
    assert fitted.metrics["balanced_accuracy"] > 0


@pytest.mark.slow
def test_a_fit_of_an_adapter_measures_adapted_features_of_its_test_images_alone(cells, tmp_path):
    model = tmp_path / "model"
    options = {"max_steps": 2, "learning_rates": 0.01, "cache": tmp_path / "cache"}
    quick_fit(cells, model, model="nano", method="lora", **options)
    contents = json.loads((model / "bundle.json").read_text())
    found = contents["metrics"]["leakage"]
    assert [one["features"] for one in found["by_features"]] == ["adapted"]
    assert found["num_cells"] == contents["training"]["images"]["test"]


def test_without_groups_there_is_no_section(tmp_path):
    folder = write_classes(tmp_path / "cells", a=9, b=9)
    model = tmp_path / "model"
    quick_fit(folder, model, model="nano", max_steps=2, learning_rates=0.01, cache=tmp_path / "cache")
    assert "leakage" not in json.loads((model / "bundle.json").read_text())["metrics"]
    assert "Leakage and shortcuts" not in (model / "report.html").read_text(encoding="utf-8")
