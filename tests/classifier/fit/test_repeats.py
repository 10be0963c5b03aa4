"""`fit --repeats`: the accuracy to expect of a head over several divisions, the bundle's among them."""

from pathlib import Path
from statistics import fmean, stdev

import pytest
from blank_pdfs import blank_drawings
from quick_fit import quick_fit

import cytolora
from cytolora import FitOptions
from cytolora.config.run import SplitSpec
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError
from cytolora.metrics.divisions import over_divisions


@pytest.fixture(scope="module")
def repeated(lab_cells: Path, lab_cache: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("repeats") / "gda"
    with blank_drawings():
        quick_fit(lab_cells, out, model="nano", method="gda", repeats=3, cache=lab_cache)
    return out


def test_the_first_of_the_divisions_is_the_bundles_own_and_the_others_test_other_images(repeated, lab_cells):
    metrics = cytolora.Classifier.load(repeated).contents.metrics
    found = metrics["repeats"]["accuracy"]
    assert found["values"][0] == pytest.approx(metrics["test"]["accuracy"])
    assert len(found["values"]) == metrics["repeats"]["num_divisions"] == 3
    assert found["mean"] == pytest.approx(fmean(found["values"]))
    assert found["std_divisions"] == pytest.approx(stdev(found["values"]))
    assert found["std_seeds"] is None


def test_the_interval_counts_groups_of_the_divisions(repeated, lab_cells):
    repeats = cytolora.Classifier.load(repeated).contents.metrics["repeats"]
    manifest, ratios = cytolora.load_dataset(lab_cells), []
    for seed in range(3):
        divided = assign_subsets(manifest, SplitSpec(copies="together", seed=seed))
        groups = {name: {one.group or one.path for one in divided.subset(name)} for name in ("train", "test")}
        assert groups["train"].isdisjoint(groups["test"])
        ratios.append(len(groups["test"]) / len(groups["train"]))
    assert repeats["test_over_train"] == pytest.approx(fmean(ratios))
    expected = over_divisions([[value] for value in repeats["accuracy"]["values"]], test_over_train=fmean(ratios))
    assert repeats["accuracy"]["low"] == pytest.approx(expected.low)
    assert repeats["accuracy"]["high"] == pytest.approx(expected.high)
    assert "Over 3 divisions into train" in (repeated / "report.html").read_text()


@pytest.mark.slow
def test_a_bundle_without_repeats_has_the_same_classifier_and_says_nothing_of_divisions(
    repeated, lab_cells, lab_cache, tmp_path
):
    quick_fit(lab_cells, tmp_path / "plain", model="nano", method="gda", cache=lab_cache)
    plain, other = (cytolora.Classifier.load(path) for path in (tmp_path / "plain", repeated))
    assert "repeats" not in plain.contents.metrics
    assert plain.contents.metrics["test"] == other.contents.metrics["test"]
    assert "Repeated divisions" not in (tmp_path / "plain" / "report.html").read_text()


@pytest.mark.slow
def test_few_shots_have_spreads_and_no_interval(lab_cells, lab_cache, tmp_path):
    quick_fit(lab_cells, tmp_path / "m", model="nano", method="nearest-mean", shots=2, repeats=2, cache=lab_cache)
    repeats = cytolora.Classifier.load(tmp_path / "m").contents.metrics["repeats"]
    assert repeats["test_over_train"] is None
    assert (repeats["accuracy"]["low"], repeats["accuracy"]["high"]) == (None, None)
    assert len(repeats["accuracy"]["values"]) == 2


@pytest.mark.parametrize("number", [1, -1, 101])
def test_a_number_of_divisions_that_has_no_spread_is_refused(number: int):
    with pytest.raises(ConfigError, match=f"from 2 to 100, or 0, got {number}"):
        FitOptions(repeats=number)


def test_adapters_and_given_test_sets_are_refused_before_anything_is_trained(lab_cells, lab_cache, tmp_path):
    with pytest.raises(ConfigError, match="lora trains an adapter"):
        quick_fit(lab_cells, tmp_path / "m", model="nano", method="lora", repeats=2, cache=lab_cache)
    cytolora.split(lab_cells, tmp_path / "split.csv")
    with pytest.raises(ConfigError, match="says what test is"):
        quick_fit(
            lab_cells,
            tmp_path / "m",
            model="nano",
            method="gda",
            repeats=2,
            split=tmp_path / "split.csv",
            cache=lab_cache,
        )
    assert not (tmp_path / "m").exists()
