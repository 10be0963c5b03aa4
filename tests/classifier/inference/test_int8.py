"""int8 from features to predictions: one precision in fit, predict, cache, card and findings, or a refusal."""

import importlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from quick_fit import quick_fit
from small_bundle import write_small_bundle
from vnni import needs_int8

import cytolora
from cytolora import Classifier, ConfigError
from cytolora.classifier.bundle.files import CONTENTS
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.classifier.inference.onnx_predictor import OnnxModel
from cytolora.classifier.inference.predictor import Predictor
from cytolora.classifier.leakage.encodings import of_bundle, of_session
from cytolora.cli.app import main
from cytolora.cli.own_backbones import open_all, open_any, open_bundle
from cytolora.config.run import FeaturePrecision
from cytolora.data.datasets import load_manifest
from cytolora.models.backbones.registry import BACKBONES
from cytolora.models.kernels import int8
from cytolora.models.kernels.int8 import int8_works
from cytolora.training.embed import read_embedding
from cytolora.training.resources import Inputs
from cytolora.training.session import Session


def session(cells: Path, cache: Path, precision: FeaturePrecision) -> Session:
    manifest = load_manifest(cells)
    return Session(
        manifest=manifest, backbone=BACKBONES.get("nano"), inputs=Inputs(data={}), cache=cache, precision=precision
    )


def fails(*arguments: str) -> bool:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, "--quiet"])
    return stop.value.code == 2


def refused(*arguments: str) -> bool:
    """As ``fails``, of a command that shows no progress."""
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    return stop.value.code == 2


class NoServer:
    """Stands for a server that was stopped at once."""

    def run(self, sockets: object) -> None:
        """Serves nobody."""


@pytest.fixture(scope="module")
def in_int8(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear bundle that was fitted to features in int8; read only."""
    folder = tmp_path_factory.mktemp("int8")
    rates = {"learning_rates": [0.01], "max_steps": 60}
    quick_fit(drawn_cells, folder / "model", model="nano", precision="int8", cache=folder / "cache", **rates)
    return folder / "model"


@pytest.fixture
def no_int8(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A processor whose sums of products saturate."""

    def saturated(levels: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(levels), len(scales))

    monkeypatch.setattr(int8, "_multiply", saturated)
    int8_works.cache_clear()
    yield
    int8_works.cache_clear()


@needs_int8
def test_a_cache_keeps_features_of_two_precisions_apart(drawn_cells, tmp_path):
    exact, low = session(drawn_cells, tmp_path, "fp32"), session(drawn_cells, tmp_path, "int8")
    features = exact.features
    assert low.num_missing_features() == len(low.manifest.samples)
    rounded = low.features
    assert 0 < (features - rounded).abs().max() < 0.05 * features.abs().max()
    assert torch.cosine_similarity(features, rounded).min() >= 0.9995
    both: list[tuple[FeaturePrecision, torch.Tensor]] = [("fp32", features), ("int8", rounded)]
    for precision, first in both:
        again = session(drawn_cells, tmp_path, precision)
        assert again.num_missing_features() == 0
        assert torch.equal(again.features, first)
    kept = of_session(low)[0].features(low.manifest, tmp_path, low.device, lambda _: None)
    assert torch.equal(kept, rounded)


@needs_int8
def test_encoders_that_two_sessions_share_are_of_the_precision_of_each(drawn_cells, tmp_path):
    exact = session(drawn_cells, tmp_path, "fp32")
    low = replace(exact, precision="int8")
    assert low.encoders is exact.encoders
    assert exact.inference_encoder is not low.inference_encoder
    assert exact.encoder is low.encoder


@needs_int8
def test_embed_in_int8_writes_nearly_the_same_features_and_says_so(drawn_cells, tmp_path):
    main_arguments = [str(drawn_cells), "--model", "nano", "--cache", str(tmp_path / "cache"), "--quiet"]
    for name, options in (("fp32", []), ("int8", ["--precision", "int8"])):
        with pytest.raises(SystemExit) as stop:
            main(["embed", *main_arguments, "--out", str(tmp_path / f"{name}.parquet"), *options])
        assert not stop.value.code
    exact, low = (read_embedding(tmp_path / f"{name}.parquet") for name in ("fp32", "int8"))
    recipe = BACKBONES.get("nano").recipe
    assert (exact.made_from["recipe"], low.made_from["recipe"]) == (recipe, f"{recipe}, int8")
    assert not np.array_equal(exact.features, low.features)
    np.testing.assert_allclose(low.features, exact.features, atol=0.05 * np.abs(exact.features).max())


@needs_int8
def test_a_classifier_fitted_in_int8_predicts_in_int8_and_its_card_and_findings_say_so(in_int8, drawn_cells, tmp_path):
    bundle = Classifier.load(in_int8)
    assert bundle.contents.precision == bundle.precision == "int8"
    assert [one["code"] for one in bundle.contents.training["findings"] if one["code"] == "N816"] == ["N816"]
    card = (in_int8 / "card.md").read_text()
    assert "N816: Features were computed in int8" in card
    assert "Features in int8, in predictions too." in card
    low = session(drawn_cells, tmp_path, "int8")
    paths = [sample.file_in(low.manifest.root) for sample in low.manifest.samples[:8]]
    np.testing.assert_allclose(bundle.features(paths), low.features[:8].numpy(), atol=1e-5)
    assert bundle.findings() == ()


@needs_int8
def test_a_classifier_fitted_in_fp32_names_no_precision(tmp_path):
    path = write_small_bundle(tmp_path / "model")
    assert "precision" not in json.loads((path / CONTENTS).read_text())
    assert Classifier.load(path).precision == "fp32"


@needs_int8
@pytest.mark.parametrize(("fitted", "asked"), [("int8", "fp32"), ("fp32", "int8")])
def test_predictions_in_another_precision_than_that_of_fit_are_marked(
    fitted: str, asked: FeaturePrecision, in_int8, drawn_cells, tmp_path, capsys
):
    path = in_int8 if fitted == "int8" else write_small_bundle(tmp_path / "model")
    predictions = []
    for name, options in (("own", []), ("other", ["--precision", asked])):
        out = tmp_path / f"{name}.csv"
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(path), str(drawn_cells), "--out", str(out), "--json", "--quiet", *options])
        assert not stop.value.code
        codes = [one["code"] for one in json.loads(capsys.readouterr().out)["findings"]]
        assert ("N817" in codes) == (name == "other")
        predictions.append(out.read_bytes())
    assert predictions[0] != predictions[1]
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(
            Classifier.load(path).features(drawn_cells), Classifier.load(path, precision=asked).features(drawn_cells)
        )


def test_every_command_that_opens_a_bundle_takes_a_precision():
    """``open_bundle`` and ``open_any`` have no default for it, so that a command cannot forget the option."""
    for opener in (open_all, open_any, open_bundle):
        assert inspect.signature(opener).parameters["precision"].default is inspect.Parameter.empty
    folder = Path(inspect.getfile(open_any)).parent
    names = {path.stem for path in folder.glob("*.py") if re.search(r"\bopen_(all|any|bundle)\(", path.read_text())}
    names.discard("own_backbones")
    assert names >= {"evaluate", "export", "leakage", "predict", "serve"}
    for name in names:
        command = getattr(importlib.import_module(f"cytolora.cli.{name}"), name)
        parameters = inspect.signature(command).parameters
        assert parameters["precision"].default == "auto", name
        assert get_args(get_type_hints(command)["precision"]) == ("auto", "fp32", "int8"), name


@needs_int8
@pytest.mark.parametrize("command", ["predict", "evaluate", "leakage", "export", "serve"])
def test_where_int8_cannot_be_computed_a_bundle_in_int8_works_in_fp32_by_the_option_that_the_refusal_names(
    command: str, in_int8, drawn_cells, tmp_path, capsys, monkeypatch, request
):
    request.getfixturevalue("no_int8")
    served: list[Predictor] = []
    monkeypatch.setattr("cytolora.classifier.serve.server.make_server", lambda app, limits: NoServer())
    monkeypatch.setattr("cytolora.classifier.serve.app.make_app", lambda predictor, *_, **__: served.append(predictor))
    model, out = str(in_int8), tmp_path / "out"
    arguments = {
        "predict": [model, str(drawn_cells), "--out", f"{out}.csv"],
        "evaluate": [model, str(drawn_cells), "--seen", "mark"],
        "leakage": [str(drawn_cells), "--bundle", model, "--cache", str(tmp_path / "cache"), "--repeats", "1"],
        "export": [model, "--to", "onnx", "--out", str(out)],
        "serve": [model, "--port", "0"],
    }[command]
    assert fails(command, *arguments) if command != "serve" else refused(command, *arguments)
    said = " ".join(capsys.readouterr().err.split())
    assert "int8 needs torch with oneDNN" in said
    assert said.endswith('Choose precision fp32: --precision fp32, or precision="fp32" from Python.')
    assert not out.exists()
    with pytest.raises(SystemExit) as stop:
        main([command, *arguments, "--precision", "fp32"])
    assert not stop.value.code
    captured = capsys.readouterr()
    assert "N817" in captured.out + captured.err
    if command == "export":
        expected = Classifier.load(in_int8, precision="fp32").predict_proba(drawn_cells)
        exported = OnnxModel.load(out)
        np.testing.assert_allclose(exported.predict_proba(drawn_cells), expected, atol=1e-4)
        assert [one.code for one in exported.findings()] == ["N817"]
    if command == "serve":
        assert [one.precision for one in served] == ["fp32"]


@needs_int8
def test_leakage_of_a_bundle_measures_the_features_that_it_predicts_with(in_int8, drawn_cells, tmp_path):
    manifest = load_manifest(drawn_cells)
    paths = [sample.file_in(manifest.root) for sample in manifest.samples]
    for precision in ("int8", "fp32"):
        bundle = Classifier.load(in_int8, precision=precision)
        (encoding,) = of_bundle(bundle)
        features = encoding.features(manifest, tmp_path, bundle.device, lambda _: None).numpy()
        np.testing.assert_allclose(features, bundle.features(paths), atol=1e-5)


@needs_int8
def test_leakage_of_a_model_is_measured_in_the_precision_that_is_asked_for(drawn_cells, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "cytolora.classifier.leakage.measure.measure_leakage",
        lambda manifest, encodings, **_: asked.extend(one.recipe for one in encodings),
    )
    for precision in (None, "fp32", "int8"):
        cytolora.leakage(drawn_cells, model="nano", cache=tmp_path, precision=precision)
    recipe = BACKBONES.get("nano").recipe
    assert asked == [recipe, recipe, f"{recipe}, int8"]


@needs_int8
def test_an_opened_bundle_has_its_own_precision_and_another_is_refused(in_int8, drawn_cells, tmp_path):
    with pytest.raises(ConfigError, match=r"bundle is open in int8, .* fp32 is asked for\. Open it with"):
        cytolora.leakage(drawn_cells, bundle=Classifier.load(in_int8), precision="fp32", cache=tmp_path)


@needs_int8
@pytest.mark.parametrize("target", ["onnx", "timm"])
def test_no_export_is_made_of_a_classifier_that_predicts_in_int8(target: str, in_int8, tmp_path, capsys):
    assert fails("export", str(in_int8), "--to", target, "--out", str(tmp_path / "out"))
    said = " ".join(capsys.readouterr().err.split())
    assert "predicts in int8, and an export in fp32. Open it with --precision fp32" in said
    assert not (tmp_path / "out").exists()


@needs_int8
@pytest.mark.parametrize("method", ["lora", "dora", "last_blocks", "vpt"])
def test_int8_is_refused_for_whatever_trains_the_encoder_before_anything_is_read(method: str, tmp_path, capsys):
    assert fails("fit", str(tmp_path), "--out", str(tmp_path / "m"), "--method", method, "--precision", "int8")
    said = " ".join(capsys.readouterr().err.split())
    assert f"int8 is for frozen encoders, and {method} trains one. Choose precision fp32 or bf16, or" in said


@needs_int8
def test_int8_is_refused_for_an_adapted_classifier(tmp_path):
    with pytest.raises(ConfigError, match=r"int8 is for frozen encoders, and .* adapts its own"):
        Classifier.load(write_small_bundle(tmp_path / "model", "lora"), precision="int8")


@needs_int8
def test_int8_is_refused_for_an_export(onnx_export, tmp_path, capsys):
    out = str(tmp_path / "out.csv")
    assert fails("predict", str(onnx_export[1]), str(tmp_path), "--out", out, "--precision", "int8")


def test_int8_is_refused_for_a_gpu():
    with pytest.raises(ConfigError, match="int8 is computed on a CPU, not on cuda"):
        choose_config(FitOptions(model="nano", method="linear", precision="int8"), Inputs(data={}), "cuda")


@pytest.mark.usefixtures("no_int8")
def test_int8_is_refused_in_one_line_where_it_cannot_be_computed(drawn_cells, tmp_path, capsys):
    bundle, cache = write_small_bundle(tmp_path / "model"), str(tmp_path / "cache")
    for command in (
        ("embed", str(drawn_cells), "--out", str(tmp_path / "e.parquet"), "--model", "nano", "--cache", cache),
        ("fit", str(drawn_cells), "--out", str(tmp_path / "fitted"), "--model", "nano", "--cache", cache),
        ("predict", str(bundle), str(drawn_cells), "--out", str(tmp_path / "p.csv")),
    ):
        assert fails(*command, "--precision", "int8")
        said = " ".join(capsys.readouterr().err.split())
        assert "int8 needs torch with oneDNN and a processor with AVX-512 VNNI" in said
        assert said.endswith('Choose precision fp32: --precision fp32, or precision="fp32" from Python.')
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "cache"}
