"""Example cells of a report are read as the runs read them."""

from pathlib import Path

import pytest
from class_folders import write_classes

from cytolora.cli.app import main
from cytolora.config.reading import ReadOptions
from cytolora.errors import DataError
from cytolora.reporting.pages.build import build_report

pytestmark = pytest.mark.slow

GRID = """
name: small
datasets: [csv]
models: [nano]
methods:
  linear: {budget: {amount: 1, unit: epochs}}
shots: [2]
seeds: [1]
learning_rates: [0.01]
on_small_class: repeat
split: {by: group, ratios: [0.4, 0.3, 0.3], seed: 0}
"""


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs on a table whose groups stand in the column patient_id."""
    folder = tmp_path_factory.mktemp("examples")
    cells = write_classes(folder / "data" / "cells", a=12, b=12)
    rows = [
        f"{path.relative_to(folder / 'data').as_posix()},{path.parent.name},P{number % 6}"
        for number, path in enumerate(sorted(cells.rglob("*.png")))
    ]
    (folder / "data" / "manifest.csv").write_text("\n".join(["path,label,patient_id", *rows]) + "\n")
    (folder / "grid.yaml").write_text(GRID)
    data = ("--data", f"csv={folder / 'data'}", "--group-column", "patient_id")
    assert called("run", folder / "grid.yaml", *data, "--out", folder / "runs", "--quiet") == 0
    return folder


def test_report_shows_cells_of_a_table_read_with_the_options_of_the_runs(folder: Path):
    data = ("--data", f"csv={folder / 'data'}", "--group-column", "patient_id")
    assert called("report", folder / "runs", "--out", folder / "shown", *data) == 0
    assert "data:image/" in (folder / "shown" / "index.html").read_text()


def test_report_without_these_options_names_the_column(folder: Path, tmp_path: Path):
    data = {"csv": folder / "data"}
    with pytest.raises(DataError, match=r"found column 'patient_id'.* --group-column patient_id"):
        build_report(folder / "runs", tmp_path / "out", data)
    page = build_report(folder / "runs", tmp_path / "out", data, reading=ReadOptions(group_column="patient_id"))
    assert "data:image/" in page.read_text()
