"""`fit` with fitted heads: a bundle like any other, which predicts, exports and says how it came about."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from class_folders import same_files
from quick_fit import quick_fit
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import normalize

import cytolora
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.config.run import TREE_HEADS, SplitSpec
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError
from cytolora.models.adapters.head_methods import FITTED

ABLE = sorted(
    name for name, facts in FITTED.items() if facts.is_affine and not facts.needs_text and name not in TREE_HEADS
)
AFFINE = [name if name == "gda" else pytest.param(name, marks=pytest.mark.slow) for name in ABLE]
"""Every head that a bundle can hold."""


@pytest.fixture(scope="module", params=AFFINE)
def bundle(request: pytest.FixtureRequest, lab_cells: Path, lab_cache: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / request.param
    quick_fit(lab_cells, out, model="nano", method=request.param, cache=lab_cache)
    return out


def test_the_bundle_predicts_its_own_test_images_as_its_page_says_and_names_no_learning_rate(bundle, lab_cells):
    classifier = cytolora.Classifier.load(bundle)
    test = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec()).subset("test")
    said = classifier.predict([lab_cells / sample.path for sample in test])
    right = np.mean([one.predicted == sample.label for one, sample in zip(said, test, strict=True)])
    assert right == classifier.contents.metrics["test"]["accuracy"]
    assert right > 0.4, "of three classes"
    assert classifier.contents.method == bundle.name
    assert classifier.contents.training["num_steps"] == 0
    assert classifier.contents.training["settings"] == {}
    for name in ("report.html", "card.md"):
        page = (bundle / name).read_text()
        assert "itted without steps, tried on cross-validation" in page
        assert "earning rate 0" not in page


@pytest.mark.slow
def test_the_bundle_of_gda_has_scikit_learns_predictions(lab_cells, lab_cache, tmp_path):
    quick_fit(lab_cells, tmp_path / "gda", model="nano", method="gda", cache=lab_cache)
    manifest = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec())
    classifier = cytolora.Classifier.load(tmp_path / "gda")
    encoder = classifier.classifier().encoder
    train, test = manifest.subset("train"), manifest.subset("test")

    def directions(samples) -> np.ndarray:
        views = cytolora.load_images([lab_cells / sample.path for sample in samples], "nano")
        with torch.inference_mode():
            return np.asarray(normalize(encoder(views).double().numpy()))

    z, labels = directions(train), np.array([classifier.classes.index(sample.label) for sample in train])
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=z.shape[1] / (len(z) - 1 + z.shape[1])).fit(z, labels)
    model.intercept_ -= np.log(np.bincount(labels) / len(labels))
    expected = [classifier.classes[index] for index in model.predict(directions(test))]
    found = [one.predicted for one in classifier.predict([lab_cells / sample.path for sample in test])]
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("bundle", ["gda", "nearest-mean"], indirect=True)
def test_an_export_to_onnx_scales_features_as_the_bundle_does(bundle, lab_cells, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    classifier = cytolora.Classifier.load(bundle)
    classifier.export("onnx", tmp_path / "onnx")
    images = sorted(lab_cells.rglob("*.png"))[::9]
    ours, theirs = classifier.predict(images), OnnxModel.load(tmp_path / "onnx").predict(images)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(other.probabilities or (), one.probabilities or (), atol=1e-4)


def test_an_export_to_timm_whose_classifier_scales_nothing_is_refused(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"maps features scaled to length 1, .* Export with --to onnx"):
        cytolora.Classifier.load(bundle).export("timm", tmp_path / "timm")


@pytest.mark.slow
def test_the_same_call_gives_the_same_bytes_but_for_the_card(lab_cells, lab_cache, tmp_path):
    for name in ("first", "second"):
        quick_fit(lab_cells, tmp_path / name, model="nano", method="logistic", shots=4, cache=lab_cache)
    assert same_files(tmp_path / "first", tmp_path / "second")
    assert json.loads((tmp_path / "first" / "bundle.json").read_text())["training"]["amount"] == "4-shot"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "ss-text"}, "ss-text reads the text embeddings .* which a folder of cells does not have"),
        (
            {"method": "tip-adapter"},
            "tip-adapter reads the text .* and fit linear, gda, logistic, nearest-mean",
        ),
        (
            {"method": "knn"},
            "no affine map .* Choose linear, gda, logistic, nearest-mean, prototypes, ridge, or",
        ),
        ({"method": "gda", "learning_rates": [0.1]}, "gda is fitted without steps and has no learning rates"),
    ],
)
def test_what_a_fitted_head_cannot_be_is_refused_before_training(options, message, lab_cells, lab_cache, tmp_path):
    with pytest.raises(ConfigError, match=message):
        quick_fit(lab_cells, tmp_path / "model", **{"model": "nano", "cache": lab_cache, **options})
