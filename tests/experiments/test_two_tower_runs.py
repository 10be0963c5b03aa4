"""Runs of adapters in both encoders: trained, stored, tested from what is stored, in the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cells import contents, run_all
from cytolora.cli.app import main
from cytolora.config.grid import GridSpec
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.models.text.prompts import PAPER_TEMPLATE
from cytolora.reporting.pages.build import build_report
from cytolora.training.adapt import probabilities
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

STEPS = {"amount": 2, "unit": "epochs", "early_stopping": {"patience": 1, "uncounted_epochs": 1}}
GRID = {
    "name": "both",
    "datasets": ["synthetic"],
    "models": ["nano-clip"],
    "methods": {
        "lora": {
            "budget": {"amount": 2, "unit": "epochs"},
            "adapter": {"targets": ["q", "k", "v"], "towers": ["image", "text"]},
        },
        "ivlp": {"budget": STEPS, "adapter": {"prompts": 2}},
    },
    "shots": [2],
    "seeds": [1],
    "learning_rates": [0.003],
    "warmup_epochs": 1,
}


def grid() -> GridSpec:
    return parse_spec(GRID, GridSpec, "grid.yaml")


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("both")
    run_all(grid(), drawn_cells, runs)
    return runs


def stored(runs: Path, method: str) -> StoredRun:
    return next(run for run in Store(runs).runs() if run.spec["method"] == method)


@pytest.mark.parametrize(("method", "image", "text"), [("lora", 4 * 3 * 4 * 96, 2 * 3 * 4 * 64), ("ivlp", 768, 256)])
def test_what_trains_is_counted_in_both_encoders_and_there_is_no_head(
    finished: Path, method: str, image: int, text: int
):
    run = stored(finished, method)
    assert run.metrics["num_trainable"] == image + text
    assert run.metrics["test"]["n"] > 0
    weights = run.weights()
    assert weights is not None
    state = from_safetensors(weights)
    assert sum(tensor.numel() for name, tensor in state.items() if name.startswith("text.")) == text
    assert "head.weight" not in state
    assert [texts[0] for texts in run.provenance["prompts"].values()] == [
        PAPER_TEMPLATE.format(texts[0].removeprefix("A cytological slide showing a ").removesuffix(" cell"))
        for texts in run.provenance["prompts"].values()
    ]


@pytest.mark.parametrize("method", ["lora", "ivlp"])
def test_stored_weights_give_the_stored_probabilities_in_another_process_state(
    finished: Path, drawn_cells: Path, method: str
):
    found, inputs = stored(finished, method), Inputs(data={"synthetic": drawn_cells})
    run = parse_spec(found.spec, RunSpec, "spec")
    manifest = inputs.manifest(run.dataset, run.split)
    session = Session(
        manifest=manifest, backbone=BACKBONES.get("nano-clip"), inputs=inputs, cache=finished / ".cache", device="cpu"
    )
    weights = found.weights()
    assert weights is not None
    torch.manual_seed(123)
    samples = session.split(run).test
    anew = probabilities(session, run, from_safetensors(weights), samples)
    rows = {row["path"]: [row[label] for label in manifest.classes] for row in found.predictions().to_pylist()}
    np.testing.assert_allclose([rows[one.path] for one in samples], anew, atol=1e-5)


@pytest.mark.slow
def test_running_again_does_nothing_and_running_anew_gives_the_same_bytes(
    finished: Path, drawn_cells: Path, tmp_path: Path
):
    assert not make_plan(grid(), Store(finished), Inputs(data={"synthetic": drawn_cells})).jobs
    run_all(grid(), drawn_cells, tmp_path / "anew")
    assert contents(tmp_path / "anew") == contents(finished)
    assert 1 <= json.loads(contents(finished)[stored(finished, "ivlp").run_id])["train"]["kept_step"] <= 2


@pytest.mark.slow
def test_a_report_says_that_both_encoders_were_trained(finished: Path, tmp_path: Path):
    page = build_report(finished, tmp_path / "report").read_text()
    assert "in the image and the text encoder, without a head" in page
    assert "2 prompts a block" in page


def test_fit_refuses_an_adapter_in_both_encoders_in_one_line(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as stop:
        main(["fit", str(drawn_cells), "--model", "nano-clip", "--method", "ivlp", "--out", str(tmp_path / "model")])
    assert stop.value.code == 2
    assert "ivlp trains inside both encoders" in capsys.readouterr().err.replace("\n", " ")
