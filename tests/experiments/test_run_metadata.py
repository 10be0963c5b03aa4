"""Metadata columns of a table travel from the images to the predictions."""

import shutil
from pathlib import Path

import pytest
import torch

from cells import tiny_grid
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.expand import narrowed
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report
from cytolora.training.resources import Inputs


@pytest.fixture(scope="module")
def table(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn cells as a table with two stains; for every sixth image none is known."""
    folder = tmp_path_factory.mktemp("table") / "cells"
    shutil.copytree(drawn_cells, folder)
    manifest = load_manifest(folder, "synthetic")
    lines = [
        f"{sample.path},{sample.label},{sample.group},{'' if number % 6 == 0 else 'Pap' if number % 2 else 'Giemsa'}"
        for number, sample in enumerate(manifest.samples)
    ]
    file = manifest.root / "with_stain.csv"
    file.write_text("path,label,group,stain\n" + "\n".join(lines) + "\n")
    return file


@pytest.mark.slow
def test_predictions_and_report_carry_the_stain_of_every_image(table: Path, tmp_path: Path):
    grid = narrowed(tiny_grid(seeds=[1], learning_rates=[1e-3], methods=["linear"]), datasets=["csv"])
    inputs, store = Inputs(data={"csv": table}), Store(tmp_path / "runs")
    plan = make_plan(grid, store, inputs)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=Progress())
    known = {sample.path: dict(sample.metadata).get("stain") for sample in load_manifest(table).samples}
    assert set(known.values()) == {"Pap", "Giemsa", None}
    for run in store.runs():
        rows = run.predictions().to_pylist()
        assert {row["subset"] for row in rows} == {"val", "test"}
        assert all(row["meta_stain"] == known[row["path"]] for row in rows)
    assert "By stain" in build_report(store.root, tmp_path / "report").read_text()
