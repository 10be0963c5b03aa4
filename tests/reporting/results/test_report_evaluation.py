import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_store import FakeData, write_runs
from sklearn.metrics import cohen_kappa_score

from cytolora import metrics
from cytolora.data.datasets import find_dataset
from cytolora.experiments.store import Store
from cytolora.reporting.results import evaluation
from cytolora.reporting.results.predictions import read_test
from cytolora.reporting.results.settings import Setting, read_settings

ONE = {"models": ("uni",), "methods": ("lora",), "shots": (4,), "rates": (1e-3,)}
"""A single setting."""


def only_setting(store: Store) -> Setting:
    (found,) = read_settings(store.runs())
    return found


def kept(store: Store) -> list[Path]:
    return sorted((store.root / ".cache" / "intervals").iterdir())


def test_an_evaluation_that_is_kept_needs_no_predictions_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    write_runs(store, **ONE)
    first = only_setting(store).evaluation
    monkeypatch.setattr(evaluation, "read_test", None)
    assert only_setting(store).evaluation == first


@pytest.mark.parametrize("module", ["korn_graubard", "beta_binomial", "intervals", "counts"])
def test_another_way_to_compute_intervals_is_evaluated_anew(
    module: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write_runs(store, **ONE, seeds=(1,))
    only_setting(store)
    changed = shutil.copytree(Path(metrics.__path__[0]), tmp_path / "metrics")
    (changed / f"{module}.py").open("a").write("# changed")
    monkeypatch.setattr(metrics, "__path__", [str(changed)])
    only_setting(store)
    assert len(kept(store)) == 2


def test_other_predictions_are_evaluated_anew(store: Store):
    write_runs(store, **ONE, seeds=(1,))
    before = only_setting(store).evaluation
    write_runs(store, **ONE, seeds=(1, 2))
    after = only_setting(store).evaluation
    assert before != after
    assert len(kept(store)) == 2


@pytest.mark.parametrize("damage", ["", "{}", "no hash\n{}"])
def test_a_damaged_file_is_computed_again_and_put_right(store: Store, damage: str):
    write_runs(store, **ONE)
    first = only_setting(store).evaluation
    (file,) = kept(store)
    whole = file.read_text()
    file.write_text(damage)
    assert only_setting(store).evaluation == first
    assert file.read_text() == whole


def test_a_number_changed_by_hand_is_noticed(store: Store):
    write_runs(store, **ONE)
    first = only_setting(store).evaluation
    (file,) = kept(store)
    file.write_text(file.read_text().replace('"num_units":60', '"num_units":61'))
    assert only_setting(store).evaluation == first


def test_a_file_copied_over_that_of_another_setting_is_not_used(store: Store):
    write_runs(store, **ONE)
    first = only_setting(store).evaluation
    (file,) = kept(store)
    write_runs(store, models=("clip-vit-b16",), methods=("lora",), shots=(4,), rates=(1e-3,))
    assert [setting.evaluation == first for setting in read_settings(store.runs())] == [False, True]
    (other,) = [path for path in kept(store) if path != file]
    file.write_bytes(other.read_bytes())
    assert [setting.evaluation == first for setting in read_settings(store.runs())] == [False, True]


def test_a_store_that_cannot_be_written_is_still_evaluated(store: Store):
    write_runs(store, **ONE)
    (store.root / ".cache").write_text("a file where the folder should be")
    assert only_setting(store).evaluation is not None


def test_bethesda_grades_have_a_weighted_kappa_and_herlevs_types_none(store: Store):
    write_runs(store, data=FakeData(name="mlcc", classes=find_dataset("mlcc").classes), **ONE, seeds=(1,))
    found, run = only_setting(store).evaluation, next(store.runs())
    assert found is not None
    rows = read_test(run)
    place = np.array([("NL", "LSIL", "HSIL", "SCC").index(name) for name in rows.classes])
    expected = cohen_kappa_score(place[rows.labels], place[rows.predicted], weights="quadratic")
    assert found.quadratic_kappa == pytest.approx([expected], abs=1e-10)


def test_classes_without_an_order_or_tree_have_neither_score(settings: list[Setting]):
    found = settings[0].evaluation
    assert found is not None
    assert found.quadratic_kappa == found.trees == []
    assert len(found.kappa) == 3


def test_hicervix_is_scored_on_its_tree_and_on_the_classes_of_the_published_model(store: Store):
    classes = find_dataset("hicervix:25").classes
    write_runs(store, data=FakeData(name="hicervix:25", classes=classes), **ONE)
    found = only_setting(store).evaluation
    assert found is not None
    assert all(len(one.accuracies) == 3 for one in found.trees)
    accuracy = only_setting(store).test("accuracy")
    assert accuracy is not None
    assert np.mean([one.accuracies[2] for one in found.trees]) == pytest.approx(accuracy.mean)
    (restricted,) = found.restricted.values()
    assert list(found.restricted) == ["hicervix:23"]
    assert np.mean([value for value in restricted if value]) > accuracy.mean - 0.05
