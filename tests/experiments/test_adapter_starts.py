"""Runs of the grid `peft`: what their adapters start from, and what is stored of them."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from blank_pdfs import blank_pdfs

from cells import run_all, session_of
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import AdapterSpec, Budget, RunSpec
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand, narrowed
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.encoder_with_head import from_safetensors
from cytolora.reporting.pages.build import build_report
from cytolora.training import adapt
from cytolora.training.intruders import intruder_dimensions
from cytolora.training.resources import Inputs
from cytolora.training.session import Session
from cytolora.training.trained import Trained


def short_grid(**axes: object) -> GridSpec:
    chosen = {"shots": [2], "seeds": [1], "learning_rates": [3e-3], "max_steps": 3, **axes}
    return narrowed(load_grid("peft"), **chosen)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("peft")
    run_all(short_grid(), drawn_cells, runs)
    return runs


def test_the_grid_has_every_start_and_both_new_methods():
    runs = expand(load_grid("peft"))
    assert {(run.method, run.adapter and run.adapter.init) for run in runs} == {
        ("linear", None),
        ("lora", None),
        ("lora", "eva"),
        ("lora", "olora"),
        ("pissa", None),
        ("dora", None),
        ("randlora", None),
        ("miss", None),
    }


@pytest.mark.slow
def test_stored_weights_give_the_probabilities_of_the_run_that_trained_them(finished: Path, drawn_cells: Path):
    """Rebuilt without the images that EVA started from, and from weights that OLoRA and PiSSA take a part out of."""
    inputs, num_runs = Inputs(data={"synthetic": drawn_cells}), 0
    for stored in Store(finished).runs():
        run = parse_spec(stored.spec, RunSpec, "spec")
        session = session_of(run, inputs, finished)
        rows, split, weights = stored.predictions(), session.split(run), stored.weights()
        assert weights is not None
        again = adapt.probabilities(session, run, from_safetensors(weights), split.val).numpy()
        is_val = [subset == "val" for subset in rows["subset"].to_pylist()]
        expected = np.array([rows[label].to_numpy()[is_val] for label in session.manifest.classes]).T
        np.testing.assert_allclose(again, expected, atol=1e-5)
        num_runs += 1
    assert num_runs == 8


@pytest.mark.slow
def test_eva_sees_the_training_images_of_the_run_and_no_other(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seen: set[str] = set()
    start, view = adapt.start_from_images, adapt.kept_evaluation_view
    is_starting = False

    def watched(*arguments: Any) -> None:
        nonlocal is_starting
        is_starting = True
        start(*arguments)
        is_starting = False

    def noted(pixels: Any, sample: Any, preprocess: Any) -> Any:
        if is_starting:
            seen.add(sample.path)
        return view(pixels, sample, preprocess)

    monkeypatch.setattr(adapt, "start_from_images", watched)
    monkeypatch.setattr(adapt, "kept_evaluation_view", noted)
    plan = run_all(short_grid(methods=["lora-eva"]), drawn_cells, tmp_path)
    (run,) = plan.jobs[0].settings[0]
    split = Inputs(data={"synthetic": drawn_cells}).split(run)
    assert seen == {sample.path for sample in split.train}


@pytest.mark.slow
def test_equal_seeds_give_equal_runs_from_every_start(finished: Path, drawn_cells: Path, tmp_path: Path):
    run_all(short_grid(methods=["lora-eva", "lora-olora", "randlora", "miss"]), drawn_cells, tmp_path)
    first, again = (
        {path.parent.name: path.read_bytes() for path in runs.glob("[!.]*/weights.safetensors")}
        for runs in (finished, tmp_path)
    )
    assert len(again) == 4
    assert {name: first[name] for name in again} == again


@pytest.fixture(scope="module")
def report(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with blank_pdfs():
        return build_report(finished, tmp_path_factory.mktemp("report") / "out").parent


@pytest.mark.slow
def test_a_report_names_the_start_of_each_variant(report: Path):
    page = (report / "index.html").read_text()
    for text in ("started by EVA from the training images", "started by OLoRA", "randlora", "miss"):
        assert text in page


def test_init_of_a_method_that_does_not_read_it_is_refused_before_anything_runs():
    grid = load_grid("peft")
    methods = {**grid.methods, "dora": replace(grid.methods["lora-eva"], method=None)}
    with pytest.raises(ConfigError, match="dora does not use init of the adapter"):
        expand(replace(grid, methods=methods))


@pytest.mark.slow
def test_costs_and_the_page_tell_the_intruder_dimensions(finished: Path, report: Path):
    rows = {row["setting_id"]: row for row in csv.DictReader((report / "costs.csv").open())}
    for stored in Store(finished).runs():
        found = stored.metrics.get("intruders")
        expected = "" if found is None else str(found["total"])
        assert rows[parse_spec(stored.spec, RunSpec, "spec").setting_id]["intruders"].removesuffix(".0") == expected
    assert "Intruder dimensions, new directions among" in (report / "index.html").read_text()


@pytest.mark.slow
def test_adapted_runs_hold_the_intruder_dimensions_of_every_adapted_layer(finished: Path):
    totals = []
    for stored in Store(finished).runs():
        run = parse_spec(stored.spec, RunSpec, "spec")
        found = stored.metrics.get("intruders")
        if run.method == "linear":
            assert found is None
            continue
        assert found is not None
        layers = {f"blocks.{block}.attn.qkv.{part}_proj" for block in range(4) for part in ("q", "v")}
        assert set(found["layers"]) == layers
        assert found["total"] == sum(found["layers"].values()) <= 80
        assert (found["top"], found["epsilon"]) == (10, 0.5)
        totals.append(found["total"])
    assert len(totals) == 7


@pytest.mark.slow
def test_runs_without_intruder_dimensions_are_read_and_reported_without_a_line_of_them(
    finished: Path, drawn_cells: Path, tmp_path: Path
):
    """As runs of before, and of methods that change no linear weight."""
    grid = short_grid(methods=["linear"])
    run_all(grid, drawn_cells, tmp_path / "runs")
    build_report(tmp_path / "runs", tmp_path / "report")
    assert "ntruder" not in (tmp_path / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_plant_in_the_stored_weights_is_counted(finished: Path, drawn_cells: Path):
    """LoRA with B A of rank 1 and a large scale: one new direction in each of its layers."""
    inputs = Inputs(data={"synthetic": drawn_cells})
    (stored,) = [
        one for one in Store(finished).runs() if one.spec["method"] == "lora" and "init" not in one.spec["adapter"]
    ]
    run, weights = parse_spec(stored.spec, RunSpec, "spec"), stored.weights()
    assert weights is not None
    session = Session(
        manifest=inputs.manifest(run.dataset, run.split), backbone=BACKBONES.get("nano"), inputs=inputs,
        cache=finished / ".cache",
    )  # fmt: skip
    state = from_safetensors(weights)
    for name in state:
        if ".lora_A." in name:
            state[name] = torch.ones_like(state[name])
        if ".lora_B." in name:
            waves = torch.cos(torch.pi / 96 * 7 * (torch.arange(96) + 0.5))
            state[name] = 1e3 * waves[:, None].expand_as(state[name])
    trained = Trained(state=state, num_trainable=0, num_steps=1, final_loss=0.5, seconds=1)
    assert intruder_dimensions(session, run, replace(trained, final_loss=float("nan"))) is None
    found = intruder_dimensions(session, run, trained)
    assert found is not None
    assert set(found["layers"].values()) == {1}


@pytest.mark.parametrize(
    ("method", "adapter"), [("ivlp", AdapterSpec()), ("lora", AdapterSpec(towers=("image", "text")))]
)
def test_an_adapter_of_both_encoders_runs_and_has_no_count(
    drawn_cells: Path, tmp_path: Path, method: str, adapter: AdapterSpec
):
    """Its state is of two encoders and no head."""
    spec = MethodSpec(method=method, budget=Budget(amount=1, unit="epochs", max_steps=1), adapter=adapter)
    grid = replace(short_grid(methods=["lora"]), models=("nano-clip",), methods={f"{method}-two": spec})
    run_all(grid, drawn_cells, tmp_path)
    (stored,) = Store(tmp_path).runs()
    assert stored.metrics["val"]["n"] > 0
    assert "intruders" not in stored.metrics
