"""Runs whose test images are classified together, beside the same heads that see each image alone."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax

from cells import contents, run_all, session_of
from cytolora.config.grid import GridSpec, MethodSpec
from cytolora.config.run import AdapterSpec, Budget, RunSpec, to_plain
from cytolora.config.yaml import load_grid, parse_spec
from cytolora.errors import ConfigError
from cytolora.experiments.expand import expand, narrowed
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import StoredRun
from cytolora.metrics.calibration import fit_temperature
from cytolora.reporting.comparison.compare import compare
from cytolora.reporting.pages.build import build_report
from cytolora.reporting.results.settings import read_settings
from cytolora.training.resources import Inputs
from cytolora.training.transduction.discriminants import discriminants
from cytolora.training.transduction.mixture import transduce

BUDGET = Budget(amount=3, unit="epochs")


def short_grid(**axes: object) -> GridSpec:
    grid = load_grid("transduction")
    linear = {
        "linear": MethodSpec(budget=BUDGET, learning_rates=(0.1,)),
        "linear-together": MethodSpec(method="linear", budget=BUDGET, learning_rates=(0.1,), transductive=True),
    }
    chosen = {"shots": [2], "seeds": [1], **axes}
    return narrowed(replace(grid, methods={**grid.methods, **linear}), **chosen)  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def finished(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("together")
    run_all(short_grid(), drawn_cells, runs)
    return runs


def by_method(runs: Path) -> dict[tuple[str, bool], StoredRun]:
    found = {}
    for stored in Store(runs).runs():
        run = parse_spec(stored.spec, RunSpec, "spec")
        found[run.method, bool(run.transductive)] = stored
    return found


def rows_of(stored: StoredRun, of: str) -> tuple[list[str], NDArray[np.float32]]:
    rows = stored.predictions()
    kept = [subset == of for subset in rows["subset"].to_pylist()]
    paths = [path for path, is_kept in zip(rows["path"].to_pylist(), kept, strict=True) if is_kept]
    return paths, np.array([rows[name].to_numpy()[kept] for name in stored.provenance["classes"]]).T


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gda", "logistic", "prototypes", "ss-text", "linear"])
def test_the_answer_is_the_mixture_of_the_test_images_from_the_answer_of_the_same_head(
    finished: Path, drawn_cells: Path, method: str
):
    inputs, found = Inputs(data={"synthetic": drawn_cells}), by_method(finished)
    alone, together = found[method, False], found[method, True]
    assert alone.weights() == together.weights()
    run = parse_spec(together.spec, RunSpec, "spec")
    session = session_of(run, inputs, finished)
    split = session.split(run)
    space = discriminants(
        session.features_of(split.train).numpy(),
        session.labels_of(split.train).numpy(),
        len(alone.provenance["classes"]),
    )
    (paths, prior), (same, answer) = rows_of(alone, "test"), rows_of(together, "test")
    logits = np.log(np.maximum(rows_of(alone, "val")[1].astype(float), np.finfo(np.float32).tiny))
    temperature = max(1, fit_temperature(logits, session.labels_of(split.val).numpy()))
    prior = softmax(np.log(np.maximum(prior.astype(float), np.finfo(np.float32).tiny)) / temperature, axis=1)
    assert paths == same == [sample.path for sample in split.test]
    expected = transduce(space.project(session.features_of(split.test).numpy()), prior, space.means)
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
    if method != "gda":  # which is sure of every image, and right of all validation images: nothing softens it
        assert np.abs(answer - prior).max() > 1e-3


@pytest.mark.slow
def test_both_stand_in_one_comparison_with_paired_differences(finished: Path):
    comparison = compare(read_settings(Store(finished).runs()), "transductive", metric="accuracy")
    assert len(comparison.pairs) == 5


@pytest.mark.slow
def test_a_report_names_both_and_neither_is_of_the_paper(finished: Path, tmp_path: Path):
    build_report(finished, tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "gda (all images together)" in page
    assert "gda (each image alone)" in page
    assert "all images of a subset classified together" in page


def test_it_stands_in_a_spec_only_where_it_is_set_so_that_no_stored_run_is_renamed():
    alone, together = (expand(short_grid(methods=[name]))[0] for name in ("gda", "gda-together"))
    assert "transductive" not in to_plain(alone)
    assert to_plain(together)["transductive"] is True
    assert replace(alone, transductive=False).run_id == alone.run_id != together.run_id
    assert replace(alone, transductive=True) == together


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        ("lora", MethodSpec(budget=BUDGET, adapter=AdapterSpec(), transductive=True)),
        ("full", MethodSpec(budget=BUDGET, adapter=AdapterSpec(), transductive=True)),
    ],
)
def test_a_method_that_is_no_head_on_frozen_features_is_refused(name: str, spec: MethodSpec):
    with pytest.raises(ConfigError, match=rf"transductive is for heads on frozen features, and {name} is none"):
        expand(replace(load_grid("transduction"), methods={name: spec}))


def test_zero_shot_has_no_training_images_and_is_refused():
    with pytest.raises(ConfigError, match="zero-shot trains nothing and has no settings"):
        replace(load_grid("transduction"), methods={"zero-shot": MethodSpec(transductive=True)})


@pytest.mark.slow
def test_a_class_without_a_training_image_has_no_anchor_and_is_refused(drawn_cells: Path, tmp_path: Path):
    grid = short_grid(methods=["ss-text-together"], shots=[1], seeds=[*range(1, 12)], sampling="natural")
    with pytest.raises(ConfigError, match=r"transductive ss-text compares .* more shots, or sampling: per_class"):
        run_all(grid, drawn_cells, tmp_path)


@pytest.mark.slow
def test_equal_runs_give_equal_bytes(finished: Path, drawn_cells: Path, tmp_path: Path):
    run_all(short_grid(methods=["gda-together", "ss-text-together"]), drawn_cells, tmp_path)
    first, again = contents(finished), contents(tmp_path)
    assert len(again) == 2
    assert {name: json.loads(first[name]) for name in again} == {name: json.loads(text) for name, text in again.items()}
