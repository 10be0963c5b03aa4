"""Results of the public interface: predictions, classifier, options; plain strings, Paths, one and many."""

import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from class_folders import write_classes
from small_bundle import write_small_bundle

import cytolora
from cytolora import Classifier, ConfigError, FitOptions


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return cytolora.load(str(write_small_bundle(tmp_path_factory.mktemp("small") / "model", "linear")))


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (3, 40, 50, 3), dtype=np.uint8)


def test_predictions_are_a_sequence_with_slices(classifier: Classifier, pixels: np.ndarray):
    predictions = classifier.predict(pixels)
    assert len(predictions) == 3
    assert [one.name for one in predictions] == ["0", "1", "2"]
    assert predictions[1:] == classifier.predict(pixels)[1:]
    assert isinstance(predictions[1:], cytolora.Predictions)
    assert predictions[-1] in predictions


def test_predictions_are_a_table_with_the_columns_of_the_command(classifier: Classifier, pixels: np.ndarray):
    table = classifier.predict(pixels).to_arrow()
    classes = classifier.classes
    assert table.column_names == [
        "path", "predicted", *classes, "positive", "prediction_set", "referred", "unfamiliar", "error"
    ]  # fmt: skip
    shares = np.column_stack([table[label].to_numpy() for label in classes])
    np.testing.assert_allclose(shares, classifier.predict_proba(pixels), atol=1e-6)


def test_an_unreadable_image_is_a_row_with_an_error_and_counted(classifier: Classifier, pixels: np.ndarray):
    predictions = classifier.predict([pixels[0], b"no image"])
    assert "2 images" in repr(predictions)
    assert "1 unreadable" in repr(predictions)
    assert predictions.to_arrow()["predicted"].to_pylist()[1] is None


def test_texts_of_a_table_are_escaped(classifier: Classifier, tmp_path: Path):
    (tmp_path / "<b>.png").write_bytes(b"no image")
    shown = classifier.predict(tmp_path / "<b>.png")._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;.png" in shown


def test_a_table_of_many_images_shows_the_first_and_counts_the_rest(classifier: Classifier):
    predictions = classifier.predict(np.zeros((25, 8, 8, 3), np.uint8))
    assert predictions._repr_html_().count("<tr><td>") == 20
    assert "and 5 more" in predictions._repr_html_()


def test_to_pandas_says_how_to_install_pandas_where_it_is_missing(
    classifier: Classifier, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="needs pandas, which is not installed: `pip install pandas`"):
        classifier.predict(pixels).to_pandas()


def test_probabilities_and_features_are_float32_arrays(classifier: Classifier, pixels: np.ndarray):
    probabilities, features = classifier.predict_proba(pixels), classifier.features(pixels)
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (3, len(classifier.classes)))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert (features.dtype, features.shape) == (np.float32, (3, 96))
    assert classifier.predict_proba([]).shape == (0, len(classifier.classes))


def test_a_classifier_shows_classes_backbone_and_method(classifier: Classifier):
    assert repr(classifier).startswith("Classifier(path=")
    for text in (*classifier.classes, "nano", "linear"):
        assert text in repr(classifier)
        assert text in classifier._repr_html_()


def test_a_classifier_is_evaluated_on_a_text_path_a_path_and_a_dataset(classifier: Classifier, tmp_path: Path):
    cells = write_classes(tmp_path / "cells", hsil=4, nilm=4)
    results = [classifier.evaluate(data) for data in (str(cells), cells, cytolora.load_dataset(cells))]
    assert results[0].metrics == results[1].metrics == results[2].metrics
    assert results[0].num_images == 8


@pytest.mark.parametrize("kind", [str, Path])
def test_a_classifier_is_exported_to_a_text_path_or_a_path(classifier: Classifier, tmp_path: Path, kind: Any):
    agreement = classifier.export("timm", kind(tmp_path / "timm"), force_licence=True)
    assert agreement.num_flips == 0
    assert (tmp_path / "timm" / "config.json").is_file()


def test_datasets_are_checked_split_and_loaded_by_text_and_path(drawn_cells: Path, tmp_path: Path):
    for kind in (str, Path):
        audit = cytolora.check(kind(drawn_cells), page=kind(tmp_path / "check.html"))
        assert audit.num_images == 60
        divided = cytolora.split(kind(drawn_cells), kind(tmp_path / "split.csv"), by="group", ratios=(0.5, 0.25, 0.25))
        again = cytolora.load_dataset(kind(drawn_cells), "synthetic", split=kind(tmp_path / "split.csv"))
        assert again.samples == divided.samples
    assert (tmp_path / "check.html").is_file()
    assert cytolora.check(cytolora.load_dataset(drawn_cells)).num_images == 60
    assert repr(divided).startswith("Manifest('synthetic', 60 images: normal 12")


def test_features_are_embedded_by_text_and_path(drawn_cells: Path, tmp_path: Path):
    for kind in (str, Path):
        out = kind(tmp_path / "cells.parquet")
        embedding = cytolora.embed(kind(drawn_cells), out, model="nano", cache=kind(tmp_path / "cache"))
        assert embedding.features.shape == (60, 96)
    bare = cytolora.embed(str(drawn_cells), out, model="nano", labelled=False, cache=tmp_path / "cache")
    assert set(bare.table["label"].to_pylist()) == {None}


def test_names_are_listed():
    assert {"nano", "uni", "clip-vit-b16"} <= set(cytolora.list_backbones())
    assert {"herlev", "folder", "csv"} <= set(cytolora.list_datasets())
    assert {"linear", "lora", "zero-shot"} <= set(cytolora.list_methods())


def test_an_adapter_is_attached_to_a_copy_and_alone_trains():
    backbone = cytolora.load_backbone("nano", device="cpu")
    adapted = cytolora.attach(backbone, "lora", cytolora.AdapterSpec(rank=4, targets=("q", "v")))
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    with pytest.raises(ConfigError, match="adapts nothing"):
        cytolora.attach(backbone, "linear")


def test_images_are_preprocessed_for_a_backbone_one_or_many(drawn_cells: Path):
    folder = drawn_cells / "slide_00"
    one, many = sorted(folder.glob("*.png"))[0], cytolora.load_images(str(folder), "nano")
    assert many.shape[:2] == (10, 3)
    assert (cytolora.load_images(one, "nano") == many[:1]).all()


def test_options_hold_one_or_many_and_paths_whatever_they_were_given():
    options = FitOptions(positive="hsil", learning_rates=0.01, split="split.csv", cache="cache")
    assert (options.positive, options.learning_rates) == (("hsil",), (0.01,))
    assert (options.split, options.cache) == (Path("split.csv"), Path("cache"))
    assert options == FitOptions(positive=["hsil"], learning_rates=[0.01], split=Path("split.csv"), cache=Path("cache"))


def test_the_default_cache_does_not_lie_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert not FitOptions().cache.resolve().is_relative_to(tmp_path)


def test_an_argument_that_contradicts_the_options_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="model is given twice: 'nano' as an argument and 'uni' in options"):
        cytolora.fit("cells", tmp_path / "model", model="nano", options=FitOptions(model="uni"))


@pytest.mark.slow
def test_fit_logs_its_stages(drawn_cells: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    options = FitOptions(model="nano", max_steps=2, learning_rates=0.01, cache=tmp_path / "cache")
    with caplog.at_level(logging.INFO, logger="cytolora"):
        cytolora.fit(str(drawn_cells), str(tmp_path / "model"), options=options)
    assert "looking at images: 60 images" in caplog.messages
    assert any(text.startswith("Split: ") for text in caplog.messages)


@pytest.mark.parametrize("name", ["hf://not a name", "hf://", "hf://owner/name"])
def test_a_bundle_on_the_hub_that_cannot_be_fetched_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(cytolora.BundleError, match=f"Cannot fetch {name}: .*Expected hf:OWNER/NAME") as raised:
        cytolora.load(name)
    assert "\n" not in str(raised.value)


def test_a_bundle_whose_download_stalls_ends_with_a_word_on_what_is_kept(monkeypatch: pytest.MonkeyPatch):
    def snapshot_download(name: str, *, revision: str | None, tqdm_class: type, allow_patterns: list[str]) -> str:
        bar = tqdm_class(total=10, disable=True)
        for _ in range(4):  # progress, which is waited for, and then none
            time.sleep(0.2)
            bar.update(1)
        moments.append(time.monotonic())
        time.sleep(60)
        return name

    moments = [time.monotonic()]
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("cytolora.models.checkpoints.hub.STALL_SECONDS", 0.7)
    with pytest.raises(cytolora.BundleError, match=r"hf://owner/name came to a halt.*What has arrived is kept"):
        cytolora.load("hf://owner/name")
    assert len(moments) == 2
    assert time.monotonic() - moments[0] < 20


def test_a_bundle_is_loaded_from_the_hub(classifier: Classifier, monkeypatch: pytest.MonkeyPatch):
    asked: list[tuple[str | None, list[str] | None]] = []

    def snapshot_download(
        name: str, *, revision: str | None, tqdm_class: type, allow_patterns: list[str] | None = None
    ) -> str:
        asked.append((revision, allow_patterns))
        return classifier.name  # whose last part is the commit in the hub's cache

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert cytolora.load("hf://owner/name@v1").classes == classifier.classes
    cytolora.load("hf://owner/name")
    commit = Path(classifier.name).name
    assert asked == [("v1", ["bundle.json"]), (commit, None), (None, ["bundle.json"]), (commit, None)]
