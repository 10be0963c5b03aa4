"""The notebooks of docs/notebooks run as they stand, with outputs that say nothing of a machine."""

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_blocks import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_MOST_BYTES = 200_000


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture(scope="module")
def execute() -> Callable[[Path, Path], Any]:
    for package in ("nbclient", "nbformat", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    return runpy.run_path(str(ROOT / "scripts" / "notebooks.py"))["executed"]


def test_there_are_a_study_and_a_way_to_a_classifier():
    assert [path.stem for path in NOTEBOOKS] == ["few_shot_study", "own_cells"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_small_without_errors_and_of_cells_in_their_order(path: Path):
    text = path.read_text(encoding="utf-8")
    cells = code_cells(json.loads(text))
    assert len(text) < _MOST_BYTES
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds <= {"execute_result", "display_data", "stream"}
    assert all(cell["outputs"] for cell in cells), "run scripts/notebooks.py"
    assert "file://" not in text
    assert str(Path.home()) not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_an_empty_folder(path: Path, execute: Callable[[Path, Path], Any], tmp_path: Path):
    shown = [cell["outputs"] for cell in code_cells(execute(path, tmp_path))]
    stored = [cell["outputs"] for cell in code_cells(json.loads(path.read_text(encoding="utf-8")))]
    assert [[one["output_type"] for one in outputs] for outputs in shown] == [
        [one["output_type"] for one in outputs] for outputs in stored
    ]
    assert str(tmp_path) not in json.dumps(shown)
