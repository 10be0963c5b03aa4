"""The public interface in a real Jupyter kernel with its event loop: fit, predict, report; tables and a bar shown."""

from pathlib import Path
from typing import Any

import pytest

nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")
pytestmark = pytest.mark.slow

CELLS = [
    "import asyncio, cytolora\nassert asyncio.get_running_loop().is_running()",
    "dataset = cytolora.load_dataset('cells'); dataset",
    "options = cytolora.FitOptions(max_steps=5, learning_rates=0.01, cache='cache')\n"
    "classifier = cytolora.fit('cells', 'model', model='nano', options=options)",
    "classifier",
    "import numpy as np\nclassifier.predict(np.zeros((2, 40, 40, 3), np.uint8))",
    "classifier.predict_proba(np.zeros((40, 40, 3), np.uint8)).shape, classifier.features('cells/slide_00').shape",
    "plan = cytolora.run('grid.yaml', {'synthetic': 'cells'}, 'runs')",
    "cytolora.report('runs', 'report')",
    "cytolora.compare('runs', 'method')",
]
GRID = """
name: small
description: One seed, one learning rate.
datasets: [synthetic]
models: [nano]
methods:
  linear: {budget: {amount: 3, unit: epochs}}
  lora: {budget: {amount: 3, unit: steps_per_shot}, adapter: {rank: 2}}
shots: [1]
seeds: [1]
learning_rates: [0.01]
warmup_steps: 1
"""


@pytest.fixture(scope="module")
def outputs(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What every cell of the notebook shows, as HTML where there is some."""
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "cells").symlink_to(drawn_cells)
    (folder / "grid.yaml").write_text(GRID)
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    kernel = {"name": "python3", "display_name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return [_shown(cell) for cell in notebook.cells]


def _shown(cell: Any) -> str:
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        shown.append(data.get("text/html") or data.get("text/plain") or output.get("text", ""))
    return "\n".join(shown)


def test_a_dataset_is_a_table_of_classes(outputs: list[str]):
    assert "synthetic: 60 images, 5 classes, 6 groups" in outputs[1]
    assert "<th>class</th>" in outputs[1]


def test_fit_shows_its_progress_as_a_bar_and_its_notes(outputs: list[str]):
    assert "test set" in outputs[2]
    assert "Split: " in outputs[2]
    assert "looking at images" not in outputs[2]  # one output, updated in place


def test_a_classifier_is_a_table_of_facts(outputs: list[str]):
    assert "<td>backbone</td><td>nano</td>" in outputs[3]
    assert "95 % interval" in outputs[3]


def test_arrays_are_predicted_and_shown_as_a_table(outputs: list[str]):
    assert "<caption>2 images, " in outputs[4]
    assert outputs[4].count("<tr><td>") == 2
    assert "(1, 5)" in outputs[5]
    assert "(10, 96)" in outputs[5]


def test_a_grid_runs_and_its_report_is_a_table_with_a_link(outputs: list[str]):
    assert "synthetic, nano" in outputs[6]  # which stage is shown last depends on the speed of the machine
    assert "accuracy_mean" in outputs[7]
    assert "report/index.html" in outputs[7]


def test_a_comparison_is_a_table_with_notes(outputs: list[str]):
    assert "p (Holm)" in outputs[8]
    assert "<li>" in outputs[8]
