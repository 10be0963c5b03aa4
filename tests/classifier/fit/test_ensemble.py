"""`fit` with an ensemble: the mean of its members' calibrated probabilities, beside each of them, as one bundle."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from blank_pdfs import blank_drawings
from class_folders import same_files
from quick_fit import quick_fit

import cytolora
from cytolora import Classifier, FitOptions, Inputs
from cytolora.classifier.bundle.manifest import Member, from_text, to_text
from cytolora.classifier.fit.config import choose_config
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.errors import BundleError, ConfigError
from cytolora.models.encoder_with_head import MeanHead, MemberHead

MEMBERS = ("linear", "gda")
QUICK = {"model": "nano", "max_steps": 20}


@pytest.fixture(scope="module")
def bundle(lab_cells: Path, lab_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    out = tmp_path_factory.mktemp("ensemble") / "model"
    with blank_drawings():
        return quick_fit(lab_cells, out, ensemble=MEMBERS, cache=lab_cache, **QUICK)


def test_a_mean_head_gives_the_weighted_mean_of_its_members_probabilities():
    generator = torch.Generator().manual_seed(0)
    features, weights = (torch.randn(shape, generator=generator) for shape in ((7, 5), (3, 4, 5)))
    members = [
        MemberHead(temperature=temperature, weight=weight, scales_features=scales)
        for temperature, weight, scales in ((0.5, 0.2, True), (1.0, 0.8, False), (3.0, 0.0, False))
    ]
    head = MeanHead(5, 4, members)
    head.load_state_dict({"weight": weights, "bias": weights[:, :, 0]})
    unit = features / features.norm(dim=1, keepdim=True)
    parts = [
        ((unit if one.scales_features else features) @ weight.T + weight[:, 0]).div(one.temperature).softmax(dim=1)
        for one, weight in zip(members, weights, strict=True)
    ]
    torch.testing.assert_close(head(features).softmax(dim=1), 0.2 * parts[0] + 0.8 * parts[1], atol=1e-6, rtol=0)


@pytest.mark.slow
def test_probabilities_are_the_mean_of_those_of_bundles_of_each_member_alone(bundle, lab_cells, lab_cache, tmp_path):
    images = sorted(lab_cells.rglob("*.png"))[::5]
    alone = []
    for method in MEMBERS:
        given = QUICK if method == "linear" else {"model": "nano"}
        alone.append(quick_fit(lab_cells, tmp_path / method, method=method, cache=lab_cache, **given))
    expected = np.mean([one.predict_proba(images) for one in alone], axis=0)
    np.testing.assert_allclose(bundle.predict_proba(images), expected, atol=1e-6)
    for row, one in zip(bundle.contents.metrics["members"], alone, strict=True):
        assert row["temperature"] == one.contents.temperature
        assert row["balanced_accuracy"] == one.metrics["balanced_accuracy"]


def test_page_and_card_show_each_member_with_its_paired_difference(bundle):
    own, rows = bundle.metrics, bundle.contents.metrics["members"]
    assert [(row["method"], row["weight"]) for row in rows] == [(name, 0.5) for name in MEMBERS]
    for row in rows:
        for metric in ("accuracy", "balanced_accuracy"):
            apart = row["difference"][metric]
            assert apart["value"] == pytest.approx(own[metric] - row[metric])
            assert apart["interval"]["low"] <= apart["value"] <= apart["interval"]["high"]
            assert apart["p"] <= apart["p_holm"] <= 1
    page, card = (Path(bundle.name, name).read_text() for name in ("report.html", "card.md"))
    assert "Members of the ensemble" in page
    assert 'scope="row">gda</th><td class="num">0.50</td>' in page
    assert re.search(r"\| gda \| 0\.50 \|", card)
    assert "An ensemble of linear, gda (learning rate of linear" in card


def test_members_in_the_description_fit_the_heads_in_the_file(bundle, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    for path in Path(bundle.name).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    contents, third = bundle.contents, Member(method="ridge", temperature=1.0, weight=0.0)
    more = {**vars(contents), "members": (*(contents.members or ()), third)}
    more.pop("rules", None)
    (folder / "bundle.json").write_text(to_text(type(contents)(**more)))
    with pytest.raises(BundleError, match="holds 2 heads, and the description names 3 members"):
        Classifier.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": None}, "method 'ensemble' and 0 members do not fit"),
        ({"method": "linear"}, "method 'linear' and 2 members do not fit"),
        ({"members": []}, "and 0 members do not fit"),
        ({"members": [{"method": "gda", "temperature": 1.0, "weight": 1.0}]}, "and 1 members do not fit"),
        ({"members": [{"method": "gda", "temperature": 1.0, "weight": 0.7}] * 2}, "do not add up to 1"),
        ({"members": [{"method": "lora", "temperature": 1.0, "weight": 0.5}] * 2}, "is a head with a temperature"),
        ({"members": [{"method": "gda", "temperature": 0.0, "weight": 0.5}] * 2}, "temperature above 0"),
    ],
)
def test_a_description_of_no_ensemble_is_refused(change, message, bundle):
    from cytolora.core.files import canonical_json, sha256_text

    plain = json.loads(to_text(bundle.contents))
    del plain["sha256"]
    plain = {key: value for key, value in {**plain, **change}.items() if value is not None}
    plain["sha256"] = sha256_text(canonical_json(plain))
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    with pytest.raises(BundleError, match=message):
        from_text(text.encode(), "bundle.json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ensemble": ["linear", "lora"]}, "one frozen backbone, and lora is none of them. Choose among linear, gda"),
        ({"ensemble": ["linear", "knn"]}, "knn is no affine map of features"),
        ({"ensemble": ["linear", "ss-text"]}, "ss-text reads the text embeddings"),
        ({"ensemble": ["linear", "gdaa"]}, "Unknown method 'gdaa'. Did you mean 'gda'"),
        ({"ensemble": ["gda", "linear", "gda"]}, "names gda twice"),
        ({"ensemble": "gda"}, "two members or more, got 'gda' alone"),
        ({"ensemble": ["gda", "ridge"], "method": "linear"}, "method and ensemble exclude each other"),
        ({"ensemble": ["gda", "ridge"], "learning_rates": [0.1]}, "fitted without steps and have no learning rates"),
        ({"ensemble_weights": "validation"}, "ensemble_weights are those of an ensemble"),
        ({"ensemble": ["gda", "ridge"], "ensemble_weights": "best"}, "Unknown kind of ensemble weights 'best'"),
        ({"method": "ensemble"}, "Unknown method 'ensemble'"),
    ],
)
def test_what_is_no_ensemble_is_refused_before_anything_is_read(options, message):
    with pytest.raises(ConfigError, match=message):
        choose_config(FitOptions(model="nano", **options), Inputs(data={}), "cpu")


def test_an_ensemble_is_no_timm_classifier(bundle, tmp_path):
    with pytest.raises(ConfigError, match=r"an ensemble of 2 heads, .* Export with --to onnx"):
        bundle.export("timm", tmp_path / "timm")


@pytest.mark.slow
def test_an_export_to_onnx_predicts_the_mean(bundle, lab_cells, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    bundle.export("onnx", tmp_path / "onnx")
    images = sorted(lab_cells.rglob("*.png"))[::9]
    theirs = OnnxModel.load(tmp_path / "onnx").predict_proba(images)
    np.testing.assert_allclose(theirs, bundle.predict_proba(images), atol=1e-4)


@pytest.mark.slow
def test_weights_by_validation_and_repeats_give_the_same_bytes_twice(lab_cells, lab_cache, tmp_path):
    for name in ("first", "second"):
        quick_fit(
            lab_cells,
            tmp_path / name,
            model="nano",
            ensemble=["gda", "prototypes"],
            ensemble_weights="validation",
            repeats=2,
            cache=lab_cache,
        )
    assert same_files(tmp_path / "first", tmp_path / "second")
    contents = cytolora.load(tmp_path / "first").contents
    first, second = contents.members or (SimpleNamespace(weight=0), SimpleNamespace(weight=0))
    assert first.weight + second.weight == pytest.approx(1)
    assert first.weight != second.weight
    assert contents.metrics["repeats"]["num_divisions"] == 2
