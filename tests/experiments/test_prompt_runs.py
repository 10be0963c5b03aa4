"""Runs of prompt learning: stored, tested, planned, in the report, equal when repeated; refusals are one line."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch.nn.functional as F

from cells import contents, run_all
from cytolora.cli.app import main
from cytolora.config.grid import GridSpec
from cytolora.config.run import PROMPT_METHODS, PromptSpec
from cytolora.config.yaml import load_grid
from cytolora.errors import ConfigError
from cytolora.experiments.cost import describe_prompts
from cytolora.experiments.expand import narrowed
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.experiments.workload import prompts, work_of
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.reporting.pages.build import build_report
from cytolora.training.resources import Inputs
from cytolora.training.session import Session


def small_grid(methods: tuple[str, ...] = PROMPT_METHODS, **axes: object) -> GridSpec:
    axes = {"shots": [2], "seeds": [1, 2], "learning_rates": [0.002, 0.05], "max_steps": 3, **axes}
    return narrowed(load_grid("prompts"), methods=["zero-shot", *methods], **axes)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("prompts")
    run_all(small_grid(), drawn_cells, runs)
    return runs


@pytest.mark.slow
def test_every_prompt_method_is_run_with_every_rate_and_tested_with_the_one_that_validation_chose(finished: Path):
    for method in PROMPT_METHODS:
        found = [json.loads(text) for name, text in contents(finished).items() if f"_{method}_" in name]
        assert len(found) == 4
        assert sum(one["test"] is not None for one in found) == 2
        for one in found:
            assert one["train"]["num_steps"] == 3
            assert np.isfinite(one["val"]["loss"])
            assert one["num_trainable"] == (256 if method != "cocoop" else 256 + 64 * 4 + 4 + 4 * 64 + 64)


@pytest.mark.slow
def test_stored_probabilities_are_those_of_the_stored_class_embeddings(finished: Path, drawn_cells: Path):
    inputs = Inputs(data={"synthetic": drawn_cells})
    plan = make_plan(small_grid(), Store(finished), inputs)
    run = next(run for run in plan.runs if run.method == "kgcoop")
    manifest = inputs.manifest(run.dataset, run.split)
    session = Session(
        manifest=manifest, backbone=BACKBONES.get("nano-clip"), inputs=inputs, cache=finished / ".cache", device="cpu"
    )
    stored = next(one for one in Store(finished).runs() if one.spec["method"] == "kgcoop" and one.metrics["test"])
    weights = stored.weights()
    assert weights is not None
    state = from_safetensors(weights)
    rows = {row["path"]: [row[label] for label in manifest.classes] for row in stored.predictions().to_pylist()}
    test = session.split(replace(run, seed=stored.spec["seed"])).test
    z = F.normalize(session.features_of(test), dim=1)
    expected = (z @ state["head.weight"].T).softmax(dim=1)
    np.testing.assert_allclose([rows[one.path] for one in test], expected, atol=1e-5)
    assert stored.provenance["prompts"][manifest.classes[0]][0].startswith("a photo of a ")


@pytest.mark.slow
def test_running_again_does_nothing_and_running_anew_gives_the_same_bytes(
    finished: Path, drawn_cells: Path, tmp_path: Path
):
    assert not make_plan(small_grid(), Store(finished), Inputs(data={"synthetic": drawn_cells})).jobs
    run_all(small_grid(("cocoop", "prograd")), drawn_cells, tmp_path / "anew")
    anew = contents(tmp_path / "anew")
    assert anew == {name: text for name, text in contents(finished).items() if name in anew}


def test_prompts_are_counted_before_they_are_trained(drawn_cells: Path, tmp_path: Path):
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    plan = make_plan(small_grid(("coop", "cocoop")), store, inputs)
    split = inputs.split(plan.runs[0])
    scored = 5 * (4 * 10 + 2 * len(split.test))
    assert describe_prompts(plan, inputs) == f"coop {4 * 3 * 5}, cocoop {4 * 3 * 5 * 8} and {scored:,} in scoring"
    (job,) = plan.jobs
    work = work_of(job, inputs, store, num_missing_features=0)
    of = {setting[0].method: work[prompts(setting[0])] for setting in job.settings}
    assert (of["coop"], of["cocoop"]) == (60, pytest.approx(480 + scored / 3))


@pytest.mark.slow
def test_a_report_has_a_row_of_each_prompt_method_and_says_how_it_was_trained(finished: Path, tmp_path: Path):
    page = build_report(finished, tmp_path / "report").read_text()
    with (tmp_path / "report" / "tables.csv").open(encoding="utf-8") as file:
        assert {row["method"] for row in csv.DictReader(file)} == {"zero-shot", *PROMPT_METHODS}
    assert "SGD with momentum 0.9, weight decay 0.0005, warm-up 1 epoch" in page
    assert "a photo of a {} cell." in page


def test_a_prompt_longer_than_the_context_is_refused_before_it_is_trained(drawn_cells: Path, tmp_path: Path):
    grid = small_grid(("coop",))
    long = replace(grid.methods["coop"], prompt=PromptSpec(tokens=60))
    with pytest.raises(ConfigError, match="with start and end, and the text encoder takes 48"):
        run_all(replace(grid, methods={"coop": long}), drawn_cells, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "prompts", "--model", "nano", "--method", "coop"], "coop needs a text encoder, and nano has none"),
        (
            ["plan", "prompts", "--model", "nano", "--method", "cocoop"],
            "cocoop needs a text encoder, and nano has none",
        ),
        (
            ["fit", "CELLS", "--model", "nano-clip", "--method", "cocoop", "--out", "model"],
            "cocoop gives every image prompts of its own",
        ),
    ],
)
def test_what_prompts_cannot_do_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    drawn_cells: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([str(drawn_cells) if one == "CELLS" else one for one in arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error.replace("\n", " ")
    assert "Traceback" not in error
