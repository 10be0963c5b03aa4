"""A grid from start to end: what is stored, what is scored, what an interruption costs."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from cells import contents, run_all, tiny_grid
from cytolora.api.grids import run_grid
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.plan import make_plan
from cytolora.experiments.select import by_setting, choose_rate
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("finished") / "runs"
    run_all(tiny_grid(), drawn_cells, runs)
    return runs


def test_every_run_is_one_folder_with_the_files_that_users_rely_on(finished):
    for run in Store(finished).runs():
        names = {path.name for path in run.path.iterdir()}
        assert names == {
            *("spec.json", "metrics.json", "predictions.parquet", "weights.safetensors", "provenance.json"),
            "sha256sums.txt",
        }
        assert {"accuracy", "balanced_accuracy", "macro_f1", "n"} <= run.metrics["val"].keys()
    assert len(contents(finished)) == 8


def test_the_test_set_is_scored_for_the_chosen_rate_and_no_other(finished):
    for runs in by_setting(Store(finished).runs()).values():
        chosen = choose_rate(runs)
        for run in runs:
            is_chosen = run.spec["learning_rate"] == chosen
            assert (run.metrics["test"] is not None) == is_chosen
            assert set(run.predictions()["subset"].to_pylist()) == ({"val", "test"} if is_chosen else {"val"})


def test_validation_is_scored_with_the_stored_weights(finished, drawn_cells):
    import torch

    from cytolora.config.run import RunSpec
    from cytolora.config.yaml import parse_spec
    from cytolora.core.progress import Progress
    from cytolora.experiments.execute import open_session
    from cytolora.models.encoder_with_head import from_safetensors
    from cytolora.training.adapt import probabilities

    store, inputs = Store(finished), Inputs(data={"synthetic": drawn_cells})
    for stored in store.runs():
        run = parse_spec(stored.spec, RunSpec, "spec")
        session = open_session(run, inputs, store, device=torch.device("cpu"), progress=Progress())
        val = inputs.split(run).val
        weights = stored.weights()
        assert weights is not None
        found = probabilities(session, run, from_safetensors(weights), val).argmax(dim=1).tolist()
        right = [label == said for label, said in zip(session.labels_of(val), found, strict=True)]
        assert stored.metrics["val"]["accuracy"] == pytest.approx(sum(right) / len(val))


def test_predictions_are_the_splits_own_images_with_probabilities_that_add_up(finished, drawn_cells):
    manifest = Inputs(data={"synthetic": drawn_cells}).manifest("synthetic", tiny_grid().split)
    tested = next(run for run in Store(finished).runs() if run.metrics["test"])
    table = tested.predictions()
    test_paths = [sample.path for sample in manifest.subset("test")]
    rows = table.to_pylist()
    assert [row["path"] for row in rows if row["subset"] == "test"] == test_paths
    assert all(abs(sum(row[label] for label in manifest.classes) - 1) < 1e-5 for row in rows)
    assert tested.metrics["test"]["n"] == len(test_paths)


def test_a_second_run_does_nothing(finished, drawn_cells):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}
    plan = run_all(tiny_grid(), drawn_cells, finished)
    assert (len(plan.stored), plan.to_do, plan.jobs) == (8, (), ())
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")} == before


def test_no_device_is_chosen_where_all_is_stored_and_one_that_is_not_here_is_refused_at_once(drawn_cells, tmp_path):
    grid, inputs = tiny_grid(methods=["linear"]), Inputs(data={"synthetic": drawn_cells})
    chosen, announced = [], []

    def choose() -> torch.device:
        chosen.append("cpu")
        return torch.device("cpu")

    for _ in range(2):
        run_grid(grid, inputs, tmp_path, device=choose, announce=lambda *arguments: announced.append(arguments))
    assert chosen
    assert len(announced) == 1
    chosen.clear()
    run_grid(grid, inputs, tmp_path, device=choose)
    assert chosen == []
    with pytest.raises(ConfigError, match="No cuda:99 device on this machine"):
        run_grid(grid, Inputs(data={"synthetic": tmp_path / "none"}), tmp_path / "new", device="cuda:99")


@pytest.mark.parametrize(
    "num_writes", [3, 9, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 5, 6, 7, 8, 10, 11))]
)
@pytest.mark.slow
def test_an_interruption_at_any_write_changes_no_number(finished, drawn_cells, tmp_path, monkeypatch, num_writes):
    """8 runs and 4 test scores are 12 writes; here a process stops before one of them, and the same grid goes on."""
    write, left = Store.write, [num_writes]

    def write_or_stop(store, result):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        write(store, result)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "write", write_or_stop)
        with pytest.raises(KeyboardInterrupt):
            run_all(tiny_grid(), drawn_cells, tmp_path)
    assert len(contents(tmp_path)) < 8 or num_writes >= 8
    run_all(tiny_grid(), drawn_cells, tmp_path)
    assert contents(tmp_path) == contents(finished)


def test_a_further_seed_chooses_again_and_leaves_one_test_result_a_cell(drawn_cells, tmp_path):
    run_all(tiny_grid(seeds=[1], methods=["linear"]), drawn_cells, tmp_path)
    run_all(tiny_grid(seeds=[1, 2, 3], methods=["linear"]), drawn_cells, tmp_path)
    (runs,) = by_setting(Store(tmp_path).runs()).values()
    tested = {run.spec["learning_rate"] for run in runs if run.metrics["test"]}
    assert tested == {choose_rate(runs)}
    assert sum(run.metrics["test"] is not None for run in runs) == 3


@pytest.mark.slow
def test_a_store_kept_without_weights_takes_further_seeds_and_rates(drawn_cells, tmp_path):
    first = tiny_grid(seeds=[1], methods=["linear"], learning_rates=[1e-4, 1e-2])
    wider = tiny_grid(seeds=[1], methods=["linear"], learning_rates=[1e-4, 1e-2, 1e-1])
    run_all(first, drawn_cells, tmp_path / "runs")
    run_all(wider, drawn_cells, tmp_path / "whole")
    for weights in (tmp_path / "runs").glob("*/weights.safetensors"):
        weights.unlink()
    run_all(wider, drawn_cells, tmp_path / "runs")

    def scores(folder):
        return {
            run.run_id: [run.metrics[subset] and run.metrics[subset]["accuracy"] for subset in ("val", "test")]
            for run in Store(folder).runs()
        }

    assert scores(tmp_path / "runs") == scores(tmp_path / "whole")
    assert sum(run.weights() is not None for run in Store(tmp_path / "runs").runs()) == 1


def test_a_run_without_weights_that_is_to_be_tested_is_named_and_stays_as_it_is(drawn_cells, tmp_path):
    run_all(tiny_grid(seeds=[1], methods=["linear"]), drawn_cells, tmp_path)
    (tested,) = (run for run in Store(tmp_path).runs() if run.metrics["test"])
    untested = {**tested.metrics, "test": None}
    (tested.path / "metrics.json").write_text(json.dumps(untested))
    (tested.path / "sha256sums.txt").unlink()
    (tested.path / "weights.safetensors").unlink()
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=rf"{tested.run_id}.*without its weights.*Move this folder out"):
        run_all(tiny_grid(seeds=[1], methods=["linear"]), drawn_cells, tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.slow
def test_a_rate_that_diverges_is_kept_and_never_chosen(drawn_cells, tmp_path):
    run_all(tiny_grid(learning_rates=[1e-3, 1e30], methods=["lora"]), drawn_cells, tmp_path)
    diverged = [run for run in Store(tmp_path).runs() if run.spec["learning_rate"] == 1e30]
    assert [run.metrics["val"] for run in diverged] == [None, None]
    assert all(run.metrics["test"] for run in Store(tmp_path).runs() if run.spec["learning_rate"] == 1e-3)


def test_a_run_of_other_images_is_stale_and_said_with_both_values(finished, drawn_cells, tmp_path):
    runs, cells = tmp_path / "runs", tmp_path / "cells"
    shutil.copytree(finished, runs)
    shutil.copytree(drawn_cells, cells)
    images = sorted(cells.rglob("*.png"))
    shutil.copy(images[0], images[1])
    plan = make_plan(tiny_grid(), Store(runs), Inputs(data={"synthetic": cells}))
    assert (len(plan.stale), plan.stored, plan.to_do) == (8, frozenset(), ())
    assert plan.stale[0].stored.data_fingerprint != plan.stale[0].today.data_fingerprint
    for value in (plan.stale[0].stored.data_fingerprint, plan.stale[0].today.data_fingerprint):
        assert str(value)[:12] in str(plan.stale[0])


def test_a_run_of_other_weights_is_stale(finished, drawn_cells, tmp_path):
    from cytolora.models.backbones.registry import BACKBONES

    weights = tmp_path / "other.safetensors"
    nano = BACKBONES.get("nano").weights
    assert nano is not None
    content = bytearray(nano.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    inputs = Inputs(data={"synthetic": drawn_cells}, weights={"nano": weights})
    plan = make_plan(tiny_grid(), Store(finished), inputs)
    assert len(plan.stale) == 8
    assert "weights_sha256" in str(plan.stale[0])


def test_a_plan_without_data_compares_what_it_can(finished):
    plan = make_plan(tiny_grid(), Store(finished), Inputs(data={}))
    assert len(plan.stored) == 8


def test_a_damaged_run_is_named(finished, tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(finished, runs)
    damaged = next(runs.glob("[!.]*/metrics.json"))
    damaged.write_text(damaged.read_text()[:20])
    with pytest.raises(StoreError, match=damaged.parent.name):
        list(Store(runs).runs())


def test_provenance_says_from_what_and_with_what_a_run_was_computed(finished):
    provenance = next(iter(Store(finished).runs())).provenance
    assert {"weights_sha256", "data_fingerprint", "split_fingerprint"} <= provenance.keys()
    assert {"versions", "git", "device", "threads", "seconds", "classes", "split_rule"} <= provenance.keys()
    spent = provenance["spending"]
    assert spent["wall_seconds"] > 0
    assert spent["cpu_seconds"] > 0
    assert (spent["gpu_seconds"], spent["gpu"]) == (None, None)
    assert spent["peak_memory_bytes"] > 2**20
    assert json.dumps(provenance)
