"""Runs of fitted heads: stored, tested once, in the tables and comparisons of linear heads, and equal when repeated."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import normalize

from cells import contents, run_all, tiny_grid
from cytolora.config.run import FITTED_HEADS, TEXT_HEADS, TREE_HEADS, RunSpec
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand, narrowed
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.models.backbones.registry import BACKBONES
from cytolora.reporting.comparison.compare import compare
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings
from cytolora.training.adapt import fit_heads_together
from cytolora.training.resources import Inputs
from cytolora.training.session import Session

HEADS = [name for name in FITTED_HEADS if name not in (*TEXT_HEADS, *TREE_HEADS)]
"""Those of a backbone without text and classes without a tree."""
METHODS = ["linear", *HEADS]


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("heads")
    run_all(tiny_grid(methods=METHODS, max_steps=None), drawn_cells, runs)
    return runs


def metrics(runs: Path, method: str) -> dict[str, dict]:
    return {name: json.loads(text) for name, text in contents(runs).items() if f"_{method}_" in name}


def test_every_fitted_head_is_tested_with_every_seed_and_says_how_many_steps_it_took(finished: Path):
    for method in HEADS:
        found = metrics(finished, method)
        assert len(found) == 2, "two seeds, no rates"
        for one in found.values():
            assert one["train"]["num_steps"] == (100 if method == "mlp" else 0)
            assert (one["train"]["final_loss"] is None) == (method != "mlp")
            assert one["test"]["n"] > 0
            assert one["val"]["n"] > 0
            assert np.isfinite([one["test"]["loss"], one["val"]["loss"]]).all()


def test_knn_and_nearest_mean_are_the_numbers_that_stand_beside_linear_heads(finished: Path):
    beside = {
        parse_spec(run.spec, RunSpec, "spec").seed: run.metrics
        for run in Store(finished).runs()
        if run.spec["method"] == "linear" and run.metrics["test"]
    }
    for method, key in (("knn", "knn"), ("nearest-mean", "nearest_mean")):
        for name, one in metrics(finished, method).items():
            seed = int(name.split("_s")[-1].split("_")[0])
            for part in ("val", "test"):
                for metric in ("accuracy", "balanced_accuracy", "macro_f1", "n"):
                    assert one[part][metric] == pytest.approx(beside[seed]["neighbours"][key][part][metric])


def test_the_stored_predictions_of_gda_are_scikit_learns_on_the_runs_own_draw(finished: Path, drawn_cells: Path):
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(finished)
    for stored in (run for run in store.runs() if run.spec["method"] == "gda"):
        run = parse_spec(stored.spec, RunSpec, "spec")
        manifest = inputs.manifest(run.dataset, run.split)
        session = Session(
            manifest=manifest, backbone=BACKBONES.get("nano"), inputs=inputs, cache=finished / ".cache", device="cpu"
        )
        split = session.split(run)
        z, test = (
            np.asarray(normalize(session.features_of(one).double().numpy())) for one in (split.train, split.test)
        )
        shrinkage = z.shape[1] / (len(z) - 1 + z.shape[1])
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(z, session.labels_of(split.train))
        table = stored.predictions()
        rows = [index for index, subset in enumerate(table["subset"].to_pylist()) if subset == "test"]
        found = np.column_stack([np.array(table[label])[rows] for label in manifest.classes])
        np.testing.assert_array_equal(found.argmax(axis=1), model.predict(test))


@pytest.mark.slow
def test_running_again_does_nothing_and_running_anew_gives_the_same_bytes(
    finished: Path, drawn_cells: Path, tmp_path: Path
):
    grid = tiny_grid(methods=METHODS, max_steps=None)
    assert not make_plan(grid, Store(finished), Inputs(data={"synthetic": drawn_cells})).jobs
    run_all(tiny_grid(methods=HEADS, max_steps=None), drawn_cells, tmp_path / "anew")
    anew = contents(tmp_path / "anew")
    assert anew == {name: text for name, text in contents(finished).items() if name in anew}


def test_a_seed_that_comes_later_is_tested_too(finished: Path, drawn_cells: Path, tmp_path: Path):
    shutil.copytree(finished, tmp_path / "runs")
    run_all(tiny_grid(methods=["gda", "knn"], seeds=[1, 2, 3]), drawn_cells, tmp_path / "runs")
    for method in ("gda", "knn"):
        assert [one["test"] is not None for one in metrics(tmp_path / "runs", method).values()] == [True] * 3


@pytest.mark.slow
def test_fitted_heads_are_rows_of_the_tables_and_no_row_names_a_rate(finished: Path, tmp_path: Path):
    page = build_report(finished, tmp_path / "report").read_text()
    with (tmp_path / "report" / "tables.csv").open(encoding="utf-8") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(METHODS)
    for method in HEADS:
        assert float(rows[method]["learning_rate"] or 0) == 0
        scores = [one["test"]["accuracy"] for one in metrics(finished, method).values()]
        assert float(rows[method]["accuracy_mean"]) == pytest.approx(np.mean(scores), abs=1e-6)
    assert "shrinkage d / (N - 1 + d)" in page
    assert "no steps, no learning rate" in page


def test_every_fitted_head_is_compared_with_the_linear_head(finished: Path):
    settings = read_settings(list(Store(finished).runs()))
    pairs = {frozenset((pair.first, pair.second)) for pair in compare(settings, by="method").pairs}
    assert {frozenset(("linear", method)) for method in HEADS} <= pairs


@pytest.mark.parametrize("method", ["tip-adapter", "tip-adapter-f"])
def test_a_class_without_a_training_cell_is_refused_by_heads_that_compare_with_each(
    method: str, drawn_cells: Path, tmp_path: Path
):
    """All images, of a division in which a class is on the test side alone."""
    grid = load_grid("heads")
    run = expand(narrowed(grid, methods=[method], shots=["all"], seeds=[1]))[0]
    inputs = Inputs(data={"synthetic": drawn_cells})
    session = Session(
        manifest=inputs.manifest(run.dataset, run.split),
        backbone=BACKBONES.get("nano-clip"),
        inputs=inputs,
        cache=tmp_path,
        device="cpu",
    )
    split, gone = session.split(run), session.manifest.classes[2]
    kept = tuple(sample for sample in split.train if sample.label != gone)
    session = replace(session, given_split=replace(split, train=kept))
    with pytest.raises(ConfigError, match=rf"{method} compares .* '{gone}' of synthetic has none .* Divide the data"):
        fit_heads_together(session, [run])
