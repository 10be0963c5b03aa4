"""Validation accuracy at every learning rate stands in the report."""

import csv
from pathlib import Path

from fake_store import RATES

from cytolora.reporting.results.settings import Setting


def test_every_rate_of_every_setting_has_a_row_with_its_validation_accuracy(settings: list[Setting], report_dir: Path):
    with (report_dir / "rates.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(settings) * len(RATES)
    found = {(row["setting_id"], float(row["learning_rate"])): row for row in rows}
    for setting in settings:
        for rate in RATES:
            row, val = found[setting.setting_id, rate], setting.val("accuracy", rate)
            assert val is not None
            assert float(row["val_accuracy_mean"]) == round(val.mean, 6)
            assert row["chosen"] == str(rate == setting.rate)
            assert int(row["val_images"]) == setting.chosen[0].metrics["val"]["n"]


def test_the_page_says_the_size_of_validation_and_how_close_the_runner_up_is(report_dir: Path):
    page = (report_dir / "index.html").read_text(encoding="utf-8")
    assert "Best on validation (" in page
    assert "images a run), and so reported: accuracy on test" in page
    assert "one standard error (" in page
    assert "The settings compared have 7 to 28 validation images a run" in " ".join(page.split())
    assert "Validation accuracy at every learning rate" in page
