"""The metrics once more for each stain, scanner or site."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from blank_pdfs import blank_pdfs
from fake_store import FakeData, write_runs
from sklearn.metrics import balanced_accuracy_score

from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings
from cytolora.reporting.tables.metadata import UNKNOWN, breakdowns

DATA = FakeData(metadata={"stain": ("Pap", "Giemsa", None), "scanner": ("A", "B")})
NAMES = {"models": ("clip-vit-b16", "uni"), "methods": ("lora",), "shots": (1, 4), "seeds": (1, 2), "rates": (1e-3,)}


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs on 150 test images of 30 slides: 3 stains (one of them not known) and 2 scanners in turn."""
    store = Store(tmp_path_factory.mktemp("stained") / "runs")
    write_runs(store, data=DATA, **NAMES)
    return store


@pytest.fixture(scope="module")
def report(stained: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with blank_pdfs():
        return build_report(stained.root, tmp_path_factory.mktemp("out") / "report").parent


def test_every_tested_setting_has_a_row_per_column_and_value(report: Path):
    rows = list(csv.DictReader((report / "metadata.csv").open()))
    assert len(rows) == 4 * (3 + 2)
    assert {(row["column"], row["value"], row["n"]) for row in rows} == {
        ("stain", "Pap", "100"),
        ("stain", "Giemsa", "100"),
        ("stain", UNKNOWN, "100"),
        ("scanner", "A", "150"),
        ("scanner", "B", "150"),
    }
    assert all(float(row["accuracy_low"]) <= float(row["accuracy_mean"]) <= float(row["accuracy_high"]) for row in rows)
    assert {row["interval_unit"] for row in rows} == {"group"}


def test_the_numbers_are_those_of_the_predictions(stained: Store):
    (setting, *_), (_, stain) = read_settings(stained.runs()), breakdowns(read_settings(stained.runs()))
    assert stain.column == "stain"
    per_seed = []
    for run in setting.tested:
        rows = [row for row in run.predictions().to_pylist() if row["subset"] == "test" and row["meta_stain"] == "Pap"]
        labels = [row["label"] for row in rows]
        predicted = [max(DATA.classes, key=lambda label: row[label]) for row in rows]
        per_seed.append((np.mean(np.array(labels) == predicted), balanced_accuracy_score(labels, predicted)))
    strata = stain.rows[0][1]["Pap"]
    assert strata.spreads["accuracy"].mean == pytest.approx(np.mean([accuracy for accuracy, _ in per_seed]))
    assert strata.spreads["balanced_accuracy"].mean == pytest.approx(np.mean([balanced for _, balanced in per_seed]))


def test_the_page_has_a_table_per_column_with_counts_and_intervals(report: Path):
    page = (report / "index.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL))
    assert "By scanner" in text
    assert "By stain" in text
    assert "Giemsa 100 test images" in text
    assert re.search(r"By stain.*clip-vit-b16 lora 1 shot \d+\.\d ± \d+\.\d \d+\.\d–\d+\.\d", text)
    assert "metadata.csv with the metrics by scanner, stain" in text


def test_many_values_are_shown_in_part(tmp_path: Path):
    store = Store(tmp_path / "runs")
    data = FakeData(metadata={"site": tuple(f"site {number}" for number in range(15))})
    write_runs(store, data=data, models=("uni",), methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,))
    page = build_report(store.root, tmp_path / "out").read_text()
    assert "The 12 most frequent of 15 values" in page
    assert len(list(csv.DictReader((tmp_path / "out" / "metadata.csv").open()))) == 15


def test_a_value_cannot_inject_markup(tmp_path: Path):
    store = Store(tmp_path / "runs")
    data = FakeData(metadata={"<u>site": ("<script>alert(1)</script>",)})
    write_runs(store, data=data, models=("uni",), methods=("lora",), shots=(1,), seeds=(1,), rates=(1e-3,))
    page = build_report(store.root, tmp_path / "out").read_text()
    assert "<script>" not in page
    assert "<u>" not in page


def test_runs_stored_before_a_column_was_added_learn_it_from_the_later_ones(tmp_path: Path):
    store, names = Store(tmp_path / "runs"), {**NAMES, "seeds": (1,), "models": ("uni",)}
    write_runs(store, data=FakeData(), **{**names, "shots": (1,)})
    write_runs(store, data=DATA, **{**names, "shots": (4,)})
    (scanner, stain) = breakdowns(read_settings(store.runs()))
    assert [list(strata) for _, strata in scanner.rows] == [["A", "B"]] * 2
    assert [set(strata) for _, strata in stain.rows] == [{"Pap", "Giemsa", UNKNOWN}] * 2


def test_without_metadata_nothing_is_added(report_dir: Path):
    assert not (report_dir / "metadata.csv").exists()
    assert "metadata.csv" not in (report_dir / "index.html").read_text()


def test_breakdowns_are_kept_and_read_back_equal(stained: Store, monkeypatch: pytest.MonkeyPatch):
    first = breakdowns(read_settings(stained.runs()))
    monkeypatch.setattr("cytolora.reporting.tables.metadata._breakdown", lambda *_: pytest.fail("computed again"))
    again = breakdowns(read_settings(stained.runs()))
    assert [(one.column, list(one.num_images.items())) for one in again] == [
        (one.column, list(one.num_images.items())) for one in first
    ]
    assert [[strata for _, strata in one.rows] for one in again] == [
        [strata for _, strata in one.rows] for one in first
    ]


@pytest.mark.parametrize("content", [b"", b"no hash\n[]", b"[1]"])
def test_a_damaged_file_of_breakdowns_is_computed_again(stained: Store, content: bytes):
    first = breakdowns(read_settings(stained.runs()))
    (file,) = (stained.root / ".cache" / "metadata").iterdir()
    file.write_bytes(content)
    again = breakdowns(read_settings(stained.runs()))
    assert [[strata for _, strata in one.rows] for one in again] == [
        [strata for _, strata in one.rows] for one in first
    ]
