"""Ensembles: means and weights against formulas by hand, beside their members, and what makes none."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_store import FakeData, fake_run, write_runs
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

import cytolora
from cytolora.cli.app import main
from cytolora.config.run import Sampling, SplitSpec
from cytolora.errors import ConfigError
from cytolora.experiments.run_folder import CHECKSUMS
from cytolora.experiments.store import Store
from cytolora.reporting.comparison.ensembles import (
    Member,
    Weighting,
    likeliest_weights,
    make_ensembles,
    matched,
    mean_probabilities,
)
from cytolora.reporting.results import predictions
from cytolora.reporting.results.settings import read_settings


def _shares(rng: np.random.Generator, *shape: int) -> np.ndarray:
    values = rng.random(shape) ** 3 + 1e-3
    return values / values.sum(axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles") / "runs"
    write_runs(Store(folder), data=FakeData(num_groups=20, group_size=3), shots=(1, 4), seeds=(1, 2))
    return folder


@given(seed=st.integers(0, 2**32), members=st.integers(2, 5), images=st.integers(1, 12), classes=st.integers(2, 6))
def test_the_mean_is_the_weighted_sum_of_every_entry(seed, members, images, classes):
    rng = np.random.default_rng(seed)
    shares, weights = _shares(rng, members, images, classes), _shares(rng, members)
    found = mean_probabilities(list(shares), weights.tolist())
    for image in range(images):
        for label in range(classes):
            by_hand = sum(weights[m] * shares[m, image, label] for m in range(members))
            assert found[image, label] == pytest.approx(by_hand, abs=1e-12)
    assert found.sum(axis=1) == pytest.approx(np.ones(images))


@given(seed=st.integers(0, 2**32))
def test_two_weights_are_those_of_highest_likelihood(seed):
    rng = np.random.default_rng(seed)
    shares, labels = _shares(rng, 2, 30, 3), rng.integers(0, 3, 30)
    truth = shares[:, np.arange(30), labels]

    def loss(first: float) -> float:
        return -np.log(first * truth[0] + (1 - first) * truth[1]).mean()

    best = minimize_scalar(loss, bounds=(0, 1), method="bounded", options={"xatol": 1e-10}).fun
    first, second = likeliest_weights(list(shares), labels)
    assert first + second == pytest.approx(1)
    assert loss(first) == pytest.approx(min(best, loss(0), loss(1)), abs=1e-6)


def test_a_member_that_knows_nothing_gets_no_weight_and_equal_members_equal_ones():
    labels = np.array([0, 1, 2] * 10)
    right = np.eye(3)[labels] * 0.9 + 0.1 / 3
    even = np.full((30, 3), 1 / 3)
    assert likeliest_weights([right, even], labels) == pytest.approx([1, 0], abs=1e-6)
    assert likeliest_weights([right, right, right], labels) == pytest.approx([1 / 3] * 3)
    assert likeliest_weights([np.zeros((30, 3)), right], labels)[1] == pytest.approx(1, abs=1e-6)


def _stored(runs: Path, **spec: object) -> dict[str, np.ndarray]:
    """Test probabilities by path of the run that a spec names and that was tested."""
    for run in Store(runs).runs():
        plain = {**run.spec, "shots": run.spec["sampling"]["shots"]}
        if run.metrics["test"] and all(plain[name] == value for name, value in spec.items()):
            table = run.predictions().to_pylist()
            classes = run.provenance["classes"]
            return {row["path"]: np.array([row[name] for name in classes]) for row in table if row["subset"] == "test"}
    raise AssertionError(spec)


def test_an_ensemble_over_models_is_the_mean_of_their_stored_probabilities_seed_by_seed(runs: Path):
    made = cytolora.ensemble(runs, over="model", method="linear", shots=4).made
    assert [(one.dataset, one.setting) for one in made] == [("herlev", "linear, 4-shot")]
    for seed, own in enumerate(made[0].own.test, start=1):
        parts = [_stored(runs, backbone=name, method="linear", shots=4, seed=seed) for name in ("clip-vit-b16", "uni")]
        by_hand = np.array([(parts[0][path] + parts[1][path]) / 2 for path in own.paths])
        np.testing.assert_allclose(own.probabilities, by_hand, atol=1e-6)


def test_rows_are_the_scores_of_members_and_mean_with_paired_differences(runs: Path):
    settings = read_settings(Store(runs).runs())
    (made,) = make_ensembles([one for one in settings if one.model == "uni" and one.shots == 1], over="method")
    accuracies = {one.method: one.test("accuracy") for one in settings if one.model == "uni" and one.shots == 1}
    own = np.mean([(rows.predicted == rows.labels).mean() for rows in made.own.test])
    for row in made.rows:
        member = accuracies[row.member.name.removeprefix("uni, ").partition(" [")[0]]
        assert member is not None
        assert row.difference.value == pytest.approx(own - member.mean)
        assert row.difference.interval.low <= row.difference.value <= row.difference.interval.high
        assert row.weight == 0.5
    ps = sorted(row.difference.p for row in made.rows)
    assert sorted(row.p_holm for row in made.rows) == pytest.approx(
        [min(1, 2 * ps[0]), max(min(1, 2 * ps[0]), min(1, ps[1]))]
    )


def test_weights_are_of_validation_images_and_a_changed_test_set_changes_none(runs: Path):
    settings = [one for one in read_settings(Store(runs).runs()) if one.shots == 4]
    (made,) = make_ensembles(settings, weights="validation")
    for seed, weights in enumerate(made.weights):
        shares, labels = [], np.empty(0, dtype=np.int64)
        for one in settings:
            rows = [row for row in one.tested[seed].predictions().to_pylist() if row["subset"] == "val"]
            classes = one.tested[seed].provenance["classes"]
            rows.sort(key=lambda row: row["path"])
            shares.append(np.array([[row[name] for name in classes] for row in rows]))
            labels = np.array([classes.index(row["label"]) for row in rows])
        assert weights == pytest.approx(likeliest_weights(shares, labels), abs=1e-6)
        assert sum(weights) == pytest.approx(1)


def test_the_command_writes_tables_a_page_and_the_ensembles_predictions(runs: Path, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ensemble", str(runs), "--over", "seed", "--method", "lora", "--out", str(tmp_path / "e"), "--json"])
    assert stop.value.code == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "e" / "ensemble.json").read_text())
    rows = list(csv.DictReader((tmp_path / "e" / "ensemble.csv").open()))
    assert [row["row"] for row in rows] == ["ensemble", "member", "member"] * 4
    assert {row["num_seeds"] for row in rows} == {"1"}
    page = (tmp_path / "e" / "ensemble.html").read_text()
    assert page.count("<table>") == 4
    assert "uni, lora, seed 2" in page
    said = list(csv.DictReader((tmp_path / "e" / "predictions.csv").open()))
    right = [row["label"] == row["predicted"] for row in said if row["setting"] == rows[0]["setting"]]
    assert np.mean(right) == pytest.approx(float(rows[0]["accuracy"]), abs=1e-6)


def test_single_runs_make_one_ensemble_and_python_gives_what_the_command_does(runs: Path):
    tested = [run for run in Store(runs).runs() if run.metrics["test"] and run.spec["sampling"]["shots"] == 1]
    chosen = [run.path for run in tested if run.spec["seed"] == 1][:3]
    made = cytolora.ensemble(chosen)
    assert len(made.made) == 1
    assert len(made.made[0].rows) == 3
    assert made.to_arrow().num_rows == 4
    assert "ensemble of 3" in repr(made)


def _refused(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["ensemble", *arguments])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.count("cytolora:") == 1
    return " ".join(error.split())


def test_runs_of_other_classes_or_test_images_make_no_ensemble(tmp_path: Path, capsys):
    data = FakeData(num_groups=10, group_size=3)
    few = {"models": ("uni",), "methods": ("linear",), "shots": (1,), "seeds": (1,)}
    write_runs(Store(tmp_path / "a"), data=data, **few)
    write_runs(Store(tmp_path / "b"), data=replace(data, name="other", classes=("x", "y")), **few)
    write_runs(Store(tmp_path / "c"), data=replace(data, name="larger", num_groups=20), **few)
    run = {name: next(str(one.path) for one in Store(tmp_path / name).runs() if one.metrics["test"]) for name in "abc"}
    assert "their classes differ (7 and 2)" in _refused(run["a"], run["b"], capsys=capsys)
    assert "did not see the same test images (" in _refused(run["a"], run["c"], capsys=capsys)
    assert "no dataset and amount has two tested settings or seeds" in _refused(run["a"], capsys=capsys)


def _tested(folder: Path) -> dict[int, Path]:
    """Tested runs of a store of one setting, by seed."""
    return {run.spec["seed"]: run.path for run in Store(folder).runs() if run.metrics["test"]}


@pytest.mark.parametrize("case", ["store twice", "another path", "a copy", "a run beside its store"])
def test_a_run_that_is_named_twice_counts_once(case: str, tmp_path: Path):
    few = {"models": ("uni",), "methods": ("lora",), "shots": (1,), "seeds": (1, 2)}
    store = tmp_path / "a"
    write_runs(Store(store), data=FakeData(num_groups=10, group_size=3), **few)
    other = {
        "store twice": store,
        "another path": tmp_path / "b" / ".." / "a",
        "a copy": tmp_path / "copy",
        "a run beside its store": next(run.path for run in Store(store).runs() if run.metrics["test"]),
    }[case]
    (tmp_path / "b").mkdir()
    if case == "a copy":
        shutil.copytree(store, other)
    assert cytolora.ensemble([store, other]).rows == cytolora.ensemble(store).rows


def test_a_run_alone_named_twice_makes_no_ensemble(tmp_path: Path, capsys):
    few = {"models": ("uni",), "methods": ("lora",), "shots": (1,), "seeds": (1,)}
    write_runs(Store(tmp_path / "a"), data=FakeData(num_groups=10, group_size=3), **few)
    path = str(_tested(tmp_path / "a")[1])
    assert "no dataset and amount has two tested" in _refused(path, path, capsys=capsys)


def test_two_results_under_one_run_id_are_refused(tmp_path: Path, capsys):
    few = {"models": ("uni",), "methods": ("lora",), "shots": (1,), "seeds": (1, 2)}
    for name, size in (("a", 3), ("b", 4)):
        write_runs(Store(tmp_path / name), data=FakeData(num_groups=10, group_size=size), **few)
    said = _refused(str(tmp_path / "a"), str(tmp_path / "b"), capsys=capsys)
    assert "is stored twice, with other predictions in" in said
    assert "Name one of the two folders" in said


@pytest.mark.parametrize("weights", ["equal", "validation"])
def test_members_whose_classes_stand_in_another_order_are_matched_by_name(weights: Weighting, tmp_path: Path):
    few = {"models": ("uni",), "methods": ("lora",), "shots": (4,), "seeds": (1, 2)}
    data = FakeData(num_groups=10, group_size=3)
    write_runs(Store(tmp_path / "a"), data=data, **few)
    first, second = (_tested(tmp_path / "a")[seed] for seed in (1, 2))
    expected = cytolora.ensemble([first, second], weights=weights)
    turned = tmp_path / "turned" / second.name
    shutil.copytree(second, turned)
    provenance = json.loads((turned / "provenance.json").read_text())
    provenance["classes"] = [*provenance["classes"][3:], *provenance["classes"][:3]]
    (turned / "provenance.json").write_text(json.dumps(provenance))
    (turned / CHECKSUMS).unlink()
    found = cytolora.ensemble([first, turned], weights=weights)
    assert found.made[0].own.test[0].classes == data.classes
    np.testing.assert_allclose(found.made[0].own.test[0].probabilities, expected.made[0].own.test[0].probabilities)
    assert found.made[0].weights == expected.made[0].weights
    assert found.rows == expected.rows


def test_runs_of_two_datasets_make_no_ensemble_though_their_files_have_the_same_names(tmp_path: Path, capsys):
    few = {"models": ("uni",), "methods": ("lora",), "shots": (4,), "seeds": (1,)}
    data = FakeData(num_groups=10, group_size=3)
    for name in ("herlev", "sipakmed"):
        write_runs(Store(tmp_path / name), data=replace(data, name=name), **few)
    first, second = (str(_tested(tmp_path / name)[1]) for name in ("herlev", "sipakmed"))
    said = _refused(first, second, capsys=capsys)
    assert "herlev and sipakmed hold other images under the same names" in said


def test_validation_images_with_two_labels_choose_no_weights():
    paths = [f"{number}.png" for number in range(6)]
    rng = np.random.default_rng(0)

    def rows(labels: list[int]) -> predictions.TestPredictions:
        shares = _shares(rng, len(labels), 2)
        return predictions.TestPredictions(
            classes=("x", "y"), paths=paths, groups=[None] * 6, labels=np.array(labels), probabilities=shares
        )

    tested = (rows([0, 1] * 3),)
    members = [Member(name=name, test=tested, val=(rows(val),)) for name, val in (("a", [0, 1] * 3), ("b", [1, 1] * 3))]
    with pytest.raises(ConfigError, match=r"d: a and b make no ensemble: .* other labels of validation images"):
        matched("d", members)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "unii"], "Unknown model 'unii'. Did you mean 'uni'?"),
        (["--method", "coop"], "Unknown method 'coop'."),
        (["--dataset", "herlew"], "Unknown dataset 'herlew'. Did you mean 'herlev'?"),
        (["--shots", "3"], "Unknown shots '3'."),
        (["--over", "model", "--model", "uni"], "no dataset and amount has two tested models"),
        (["--over", "method", "--method", "lora"], "no dataset and amount has two tested methods"),
        (["--weights", "best"], "Invalid value"),
    ],
)
def test_what_no_ensemble_can_be_made_of_is_one_line(runs: Path, capsys, options, message):
    assert message in _refused(str(runs), *options, capsys=capsys)


def test_no_runs_and_no_seed_in_common_are_one_line(tmp_path: Path, capsys):
    assert "No finished runs in" in _refused(str(tmp_path / "nothing"), capsys=capsys)
    data = FakeData(num_groups=10, group_size=3)
    for seed, method in ((1, "linear"), (2, "lora")):
        write_runs(Store(tmp_path / "r"), data=data, models=("uni",), methods=(method,), shots=(1,), seeds=(seed,))
    assert "have no seed in common" in _refused(str(tmp_path / "r"), capsys=capsys)
    with pytest.raises(ConfigError, match="runs names no folder"):
        cytolora.ensemble([])


def _zero_shot(store: Path, data: FakeData) -> None:
    sampling = Sampling(shots=0, max_val_shots=None)
    run = fake_run(data, "uni", "zero-shot", 0, 0.0, 0, 0.5, tested=True, sampling=sampling, adapter=None)
    Store(store).write(run)


def test_every_run_that_is_named_is_a_member_whatever_its_seed(tmp_path: Path, capsys):
    data, few = FakeData(num_groups=10, group_size=3), {"models": ("uni",), "shots": (1,)}
    write_runs(Store(tmp_path), data=data, methods=("lora",), seeds=(1, 2), **few)
    write_runs(Store(tmp_path), data=data, methods=("linear",), seeds=(2, 3), **few)
    _zero_shot(tmp_path, data)
    runs = list(Store(tmp_path).runs())
    named = {(run.spec["method"], run.spec["seed"]): run.path for run in runs if run.metrics["test"]}
    for keys in (
        [("lora", 1), ("lora", 2), ("linear", 2)],
        [("lora", 1), ("linear", 3)],
        [("zero-shot", 0), ("lora", 2)],
    ):
        (made,) = cytolora.ensemble([named[key] for key in keys]).made
        said = {tuple(row.member.name.split(" [")[0].removeprefix("uni, ").split(", seed ")) for row in made.rows}
        assert said == {(method, str(seed)) for method, seed in keys}
        parts = [_stored(tmp_path, method=method, seed=seed) for method, seed in keys]
        by_hand = [np.mean([part[path] for part in parts], axis=0) for path in made.own.test[0].paths]
        np.testing.assert_allclose(made.own.test[0].probabilities, by_hand, atol=1e-6)
    untested = next(str(run.path) for run in runs if not run.metrics["test"])
    assert "has no test score" in _refused(str(named["lora", 1]), untested, capsys=capsys)


def test_zero_shot_joins_every_amount_and_seed_and_seeds_that_are_left_out_are_noted(tmp_path: Path):
    data, few = FakeData(num_groups=10, group_size=3), {"models": ("uni",), "shots": (1, 4)}
    write_runs(Store(tmp_path), data=data, methods=("lora",), seeds=(1, 2), **few)
    write_runs(Store(tmp_path), data=data, methods=("linear",), seeds=(2, 3, 4), **few)
    _zero_shot(tmp_path, data)
    found = cytolora.ensemble(tmp_path, method=["lora", "zero-shot"])
    assert [(one.setting, len(one.rows), len(one.own.test)) for one in found.made] == [
        ("1-shot", 2, 2),
        ("4-shot", 2, 2),
    ]
    zero = _stored(tmp_path, method="zero-shot")
    for seed, own in enumerate(found.made[1].own.test, start=1):
        part = _stored(tmp_path, method="lora", shots=4, seed=seed)
        np.testing.assert_allclose(own.probabilities, [(zero[path] + part[path]) / 2 for path in own.paths], atol=1e-6)
    notes = [note for note in cytolora.ensemble(tmp_path).notes if note.startswith("herlev, 4-shot: seeds 1, 3, 4")]
    assert len(notes) == 1
    assert "uni, lora" in notes[0]
    assert "zero-shot" not in notes[0]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ((SplitSpec(seed=0), SplitSpec(seed=1)), ["split seed 0, 1-shot", "split seed 1, 1-shot"]),
        (
            (SplitSpec(leave_out="site=A"), SplitSpec(leave_out="site=B")),
            ["tested on site=A, 1-shot", "tested on site=B, 1-shot"],
        ),
    ],
)
def test_divisions_have_an_ensemble_each(splits: list[SplitSpec], said: list[str], tmp_path: Path):
    for number, split in enumerate(splits):  # of other test images
        data = FakeData(num_groups=10 + number, group_size=3)
        write_runs(Store(tmp_path), data=data, models=("uni",), shots=(1,), seeds=(1,), split=split)
    made = cytolora.ensemble(tmp_path).made
    assert [one.setting for one in made] == said
    assert [len(one.own.test[0].paths) for one in made] == [30, 33]
    assert {row.member.name.split(" [")[0] for row in made[0].rows} == (
        {"uni, linear", "uni, lora"}
        if splits[0].leave_out is None
        else {"uni, linear (one site left out)", "uni, lora (one site left out)"}
    )
