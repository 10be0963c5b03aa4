import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from class_folders import same_files, write_classes
from huggingface_hub import ModelCard
from quick_fit import quick_fit
from sklearn.neighbors import KNeighborsClassifier

import cytolora
from cytolora.classifier.decision.operating_point import share
from cytolora.classifier.fit.baselines import not_beaten
from cytolora.classifier.fit.config import FitOptions, choose_config
from cytolora.classifier.fit.corrections import correct
from cytolora.classifier.fit.held_out import best_rate
from cytolora.classifier.fit.linear import fit_by_folds
from cytolora.classifier.fit.prepare import read_cells
from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.core.progress import Progress
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError, DataError
from cytolora.training.heads.folds import num_folds
from cytolora.training.protocol import FIT_LINEAR, fitted
from cytolora.training.resources import Inputs


@pytest.mark.slow
def test_the_same_command_gives_the_same_bytes_but_for_the_card(fitted, lab_cells, tmp_path):
    quick_fit(
        *(lab_cells, tmp_path / "again"),
        **{"model": "nano", "positive": ["hsil"], "lower_sensitivity": True, "max_steps": 300},
        cache=tmp_path / "new-cache",
    )
    assert same_files(fitted, tmp_path / "again")


def test_no_group_is_in_two_parts_and_the_test_images_are_not_seen(fitted, lab_cells):
    seen = json.loads((fitted / "seen.json").read_text())
    manifest = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec())
    by_hash = {sample.sha256: sample for sample in manifest.samples}
    assert {by_hash[digest].subset for digest in seen["train"]} == {"train"}
    assert {by_hash[digest].subset for digest in seen["calibration"]} == {"val"}
    groups = {part: {by_hash[digest].group for digest in seen[part]} for part in ("train", "calibration")}
    assert not groups["train"] & groups["calibration"]


def test_the_bundle_predicts_its_own_test_images_as_the_page_says(fitted, lab_cells):
    bundle = cytolora.Classifier.load(fitted)
    manifest = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec())
    test = manifest.subset("test")
    said = bundle.predict([lab_cells / sample.path for sample in test])
    right = np.mean([one.predicted == sample.label for one, sample in zip(said, test, strict=True)])
    assert right == bundle.contents.metrics["test"]["accuracy"]
    assert bundle.contents.metrics["test"]["n"] == len(test)
    assert right > 0.5


def test_the_operating_point_finds_what_was_asked_for_on_the_calibration_images(fitted):
    point = cytolora.Classifier.load(fitted).contents.operating_point
    assert point is not None
    assert point.positive == ("hsil",)
    assert point.sensitivity >= point.asked == 0.95


@pytest.mark.slow
def test_too_few_groups_for_the_sensitivity_give_no_operating_point_and_the_page_says_what_they_could(
    fitted, lab_cells, lab_cache, tmp_path
):
    """Five calibration groups: 95 % takes 19."""
    out = tmp_path / "model"
    bundle = quick_fit(lab_cells, out, model="nano", positive=["hsil"], max_steps=300, cache=lab_cache)
    said = (
        "No operating point was set: no threshold can promise a sensitivity of 95 % for new groups with fewer than 19, "
        "and 5 calibration groups with hsil can promise 83.3 %."
    )
    assert bundle.contents.operating_point is None
    assert bundle.contents.metrics["too_few_groups"]["num_needed"] == 19
    assert (out / "report.html").read_text().count(said) == 2  # in the statement on top, and in its section
    assert said in (out / "card.md").read_text()
    image = lab_cells / cytolora.load_dataset(lab_cells).samples[0].path
    assert bundle.predict([image])[0].positive is None
    point = cytolora.Classifier.load(fitted).contents.operating_point
    assert point is not None
    assert (point.num_groups, point.promised) == (5, 5 / 6)
    lowered = "The operating point promises a sensitivity of 83.3 % for new groups, not the 95 % asked for"
    assert lowered in (fitted / "report.html").read_text()


def test_sensitivity_is_measured_over_images_and_over_groups_on_test_images(fitted, lab_cells):
    bundle = cytolora.Classifier.load(fitted)
    test = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec()).subset("test")
    positive = [sample for sample in test if sample.label == "hsil"]
    found = [bool(one.positive) for one in bundle.predict([lab_cells / sample.path for sample in positive])]
    groups = sorted({str(sample.group) for sample in positive})
    by_group = [
        np.mean([hit for hit, one in zip(found, positive, strict=True) if one.group == group]) for group in groups
    ]
    measured = bundle.contents.metrics["test"]["operating_point"]
    assert measured["sensitivity"]["value"] == pytest.approx(np.mean(found))
    over_groups = measured["sensitivity_over_groups"]
    assert (over_groups["value"], over_groups["num_groups"]) == (pytest.approx(np.mean(by_group)), len(groups))
    assert over_groups["low"] <= over_groups["value"] <= over_groups["high"]
    page = (fitted / "report.html").read_text()
    assert "Sensitivity over images" in page
    assert "Sensitivity over groups" in page


def test_the_card_has_the_head_that_the_hub_reads(fitted):
    text = (fitted / "card.md").read_text()
    head = yaml.safe_load(text.split("---")[1])
    assert head["pipeline_tag"] == "image-classification"
    assert head["license"] == "apache-2.0"
    metrics = {one["type"]: one["value"] for one in head["model-index"][0]["results"][0]["metrics"]}
    test = cytolora.Classifier.load(fitted).contents.metrics["test"]
    assert metrics["balanced_accuracy"] == round(test["balanced_accuracy"], 4)
    read: Any = ModelCard.load(fitted / "card.md").data
    assert {one.metric_type: one.metric_value for one in read.eval_results} == metrics


@pytest.mark.parametrize(
    ("method", "library"),
    [
        ("linear", "cytolora"),
        ("lora", "peft"),
        ("vera", "peft"),
        ("bitfit", "cytolora"),
        ("layernorm", "cytolora"),
        ("last_blocks", "cytolora"),
        ("full", "cytolora"),
        ("vpt", "cytolora"),
    ],
)
@pytest.mark.slow
def test_the_card_names_peft_only_where_the_bundle_holds_what_peft_loads(
    method, library, lab_cells, lab_cache, tmp_path
):
    out = tmp_path / "model"
    quick_fit(lab_cells, out, model="nano", method=method, shots=1, learning_rates=[1e-3], max_steps=1, cache=lab_cache)
    assert yaml.safe_load((out / "card.md").read_text().split("---")[1])["library_name"] == library
    assert (out / "adapter" / "adapter_config.json").is_file() == (library == "peft")


def test_the_page_stands_alone_and_says_what_was_measured(fitted):
    page = (fitted / "report.html").read_text()
    assert not [loads for loads in ("<script", "src=", 'href="http', "url(http", "@import") if loads in page]
    assert "prediction sets take" in page  # five calibration groups are fewer than nine
    assert "hold the true class" in page


def test_what_needs_no_training_stands_beside_a_linear_head_and_is_that_of_scikit_learn(fitted, lab_cells, lab_cache):
    bundle = cytolora.Classifier.load(fitted)
    beside = bundle.contents.metrics["neighbours"]
    manifest = assign_subsets(cytolora.load_dataset(lab_cells), SplitSpec())
    features, labels = {}, {}
    for part in ("train", "test"):
        views = [bundle.view(lab_cells / one.path) for one in manifest.subset(part)]
        features[part] = bundle.outputs(views)[1]
        labels[part] = [one.label for one in manifest.subset(part)]
    known = KNeighborsClassifier(beside["knn"]["k"], metric="cosine").fit(features["train"], labels["train"])
    assert beside["knn"]["test"]["accuracy"] == pytest.approx(known.score(features["test"], labels["test"]))
    assert {"balanced_accuracy", "macro_f1", "n"} <= beside["nearest_mean"]["test"].keys()
    page = (fitted / "report.html").read_text()
    assert "Baselines without training" in page
    assert "nearest class mean" in page


def test_a_head_that_something_without_training_beats_is_said_to_be():
    found = {"knn": {"test": {"balanced_accuracy": 0.61}}, "nearest_mean": {"test": {"balanced_accuracy": 0.58}}}
    assert not_beaten(found, 0.61) == []
    assert "a vote of the nearest neighbours reaches a balanced accuracy of 61.0 %" in not_beaten(found, 0.6)[0]


def test_lora_is_fitted_and_goes_on_from_what_was_trained(lab_cells, lab_cache, tmp_path, monkeypatch):
    options = {"model": "nano", "method": "lora", "learning_rates": [1e-3, 3e-3], "max_steps": 4, "cache": lab_cache}
    bundle = quick_fit(lab_cells, tmp_path / "first", **options)
    assert (tmp_path / "first" / "adapter" / "adapter_config.json").is_file()
    assert bundle.contents.training["tried"][0]["rate"] == 1e-3
    monkeypatch.setattr("cytolora.classifier.fit.adapter.train_adapter", None)  # it would fail if it were called
    quick_fit(lab_cells, tmp_path / "second", **options)
    assert same_files(tmp_path / "first", tmp_path / "second")


@pytest.mark.slow
def test_a_kept_adapter_that_is_damaged_is_trained_again(lab_cells, tmp_path):
    cache = tmp_path / "cache"
    options = {"model": "nano", "method": "lora", "learning_rates": [1e-3, 3e-3], "max_steps": 4, "cache": cache}
    quick_fit(lab_cells, tmp_path / "first", **options)
    for file in (cache / "adapters").iterdir():
        content = bytearray(file.read_bytes())
        content[-2] ^= 0x41
        file.write_bytes(content)
    quick_fit(lab_cells, tmp_path / "second", **options)
    assert same_files(tmp_path / "first", tmp_path / "second")


@pytest.mark.slow
def test_lora_in_bf16_is_another_bundle_with_nearly_the_same_probabilities(lab_cells, lab_cache, tmp_path):
    options = {"model": "nano", "method": "lora", "learning_rates": [1e-3], "max_steps": 3, "cache": lab_cache}
    exact = quick_fit(lab_cells, tmp_path / "fp32", **options)
    low = quick_fit(lab_cells, tmp_path / "bf16", precision="bf16", **options)
    assert exact.state().keys() == low.state().keys()
    differences = [(exact.state()[name] - tensor).abs().max().item() for name, tensor in low.state().items()]
    assert 0 < max(differences) < 1e-2


@pytest.mark.slow
def test_with_few_shots_only_these_are_trained_on(lab_cells, lab_cache, tmp_path):
    bundle = quick_fit(lab_cells, tmp_path / "model", model="nano", shots=1, max_steps=20, cache=lab_cache)
    assert bundle.contents.training["images"]["train"] == len(bundle.classes)
    assert "held-out images" in bundle.contents.training["chosen_on"]  # one image a class makes no folds
    assert len(json.loads((tmp_path / "model" / "seen.json").read_text())["train"]) == len(bundle.classes)


def test_images_without_groups_are_divided_one_by_one(tmp_path):
    cells = write_classes(tmp_path / "cells", benign=15, malignant=15)
    bundle = quick_fit(cells, tmp_path / "model", model="nano", max_steps=30, cache=tmp_path / "cache")
    assert bundle.contents.conformal is not None
    assert bundle.contents.metrics["test"]["num_groups"] == 0
    assert "the groups of these images are not known" in (tmp_path / "model" / "card.md").read_text()


def test_a_zip_is_a_bundle_too(lab_cells, lab_cache, tmp_path):
    bundle = quick_fit(lab_cells, tmp_path / "model.zip", model="nano", max_steps=20, cache=lab_cache)
    assert (tmp_path / "model.zip").is_file()
    assert bundle.classes == cytolora.load_dataset(lab_cells).classes


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"only": 9}, "has one class, 'only'; a classifier tells two or more apart"),
        ({"a": 1, "b": 1}, "class 'a' has 1 image, too few to stand in train, val, test"),
        ({"a": 30, "b": 2}, "class 'b' has 2 images, too few to stand in train, val, test"),
        ({"error": 9, "b": 9}, "a class is named 'error', like a column of predictions"),
    ],
)
def test_data_that_cannot_be_learned_from_is_refused_in_one_line(counts, message, tmp_path, capsys):
    cells = write_classes(tmp_path / "cells", **counts)
    with pytest.raises(SystemExit) as exit_:
        main(["fit", str(cells), "--out", str(tmp_path / "model"), "--model", "nano", "--cache", str(tmp_path / "c")])
    assert exit_.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in last
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive": ["hsill"]}, "Unknown class 'hsill'. Did you mean 'hsil'"),
        ({"positive": ["hsil", "hsil"]}, "names 'hsil' twice"),
        ({"positive": ["hsil"], "sensitivity": 95}, "sensitivity is a share"),
        ({"coverage": 90}, "coverage is a share"),
        ({"method": "zero-shot"}, "zero-shot trains nothing"),
        ({"model": "nanoo"}, "Unknown model 'nanoo'. Did you mean 'nano'"),
        ({"shots": 500}, "fewer than the 500 shots asked for"),
        ({"shots": 0}, "at least 1, got 0"),
        ({"seed": -1}, "from 0 to 4294967295, got -1"),
        ({"seed": 2**32}, "from 0 to 4294967295, got 4294967296"),
        ({"learning_rates": [-1.0]}, "Learning rates are above 0"),
    ],
)
def test_a_wish_that_does_not_fit_is_refused_before_training(options, message, lab_cells, lab_cache, tmp_path):
    with pytest.raises(ConfigError, match=message):
        quick_fit(lab_cells, tmp_path / "model", **{"model": "nano", "cache": lab_cache, **options})


def test_an_out_that_cannot_be_written_is_refused_before_training(lab_cells, lab_cache, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"Cannot write .*file/model"):
        quick_fit(lab_cells, tmp_path / "file" / "model", model="nano", cache=lab_cache)


def test_copies_conflicts_and_unreadable_files_are_left_out_and_named(tmp_path):
    cells = write_classes(tmp_path / "cells", a=6, b=6)
    shutil.copy(cells / "a" / "000.png", cells / "a" / "900.png")
    shutil.copy(cells / "a" / "001.png", cells / "b" / "901.png")
    (cells / "b" / "902.png").write_bytes(b"no image")
    found = read_cells(cells)
    assert len(found.manifest.samples) == 11
    text = " ".join(found.notes)
    assert "1 unreadable file left out: b/902.png" in text
    assert "2 images with equal pixels and different labels left out: a/001.png, b/901.png" in text
    assert "1 copy of an image that stays left out: a/900.png" in text


def test_corrections_name_images_as_the_dataset_or_from_here(tmp_path, monkeypatch):
    cells = write_classes(tmp_path / "cells", a=4, b=4)
    monkeypatch.chdir(tmp_path)
    manifest = cytolora.load_dataset(cells)
    (tmp_path / "labels.csv").write_text("path,label\na/000.png,b\ncells/a/001.png,b\nb/000.png,b\n")
    corrected, changed = correct(manifest, tmp_path / "labels.csv")
    assert changed == 2
    assert corrected.counts()["b"]["all"] == 6
    for line, message in (
        ("a/999.png,b", "is no image of"),
        ("a/000.png,c", "Unknown class"),
        ("a/000.png,a\na/000.png,b", "twice"),
    ):
        (tmp_path / "labels.csv").write_text(f"path,label\n{line}\n")
        with pytest.raises((DataError, ConfigError), match=message):
            correct(manifest, tmp_path / "labels.csv")


def test_without_a_published_backbone_the_built_in_one_is_taken_with_a_warning(monkeypatch):
    monkeypatch.setattr("cytolora.classifier.fit.config.find", lambda *arguments: None)
    recipe = choose_config(FitOptions(), Inputs(data={}), "cpu")
    assert (recipe.backbone.name, recipe.method) == ("nano", "linear")
    assert "weak on real ones" in recipe.notes[0]
    assert choose_config(FitOptions(), Inputs(data={}), "cuda").method == "lora"


def test_the_best_published_backbone_on_disk_is_taken(monkeypatch):
    here = ("clip-vit-b16", "uni")
    found = lambda spec, *rest: "file" if spec.name in here else None  # noqa: E731
    monkeypatch.setattr("cytolora.classifier.fit.config.find", found)
    assert choose_config(FitOptions(), Inputs(data={}), "cpu").backbone.name == "uni"
    assert choose_config(FitOptions(method="lora"), Inputs(data={}), "cpu").backbone.name == "clip-vit-b16"


def test_a_rate_at_which_training_diverged_is_never_taken():
    labels = np.array([0, 1, 0, 1])
    good = np.eye(2, dtype=np.float32)[labels]
    three = replace(FIT_LINEAR, learning_rates=(1e-3, 1e-2, 1e-1))
    chosen, tried = best_rate(three, np.stack([good * 0.1, good, good * np.nan]), labels)
    assert (chosen, len(tried)) == (1, 2)
    with pytest.raises(ConfigError, match="diverged at every learning rate"):
        best_rate(replace(FIT_LINEAR, learning_rates=(1.0,)), np.stack([good * np.nan]), labels)


def test_folds_are_as_many_as_the_rarest_class_has_groups():
    assert num_folds([0, 0, 0, 1, 1, 1], ["a", "b", "c", "a", "b", "b"]) == 2
    assert num_folds([0] * 9 + [1] * 9, [str(place % 9) for place in range(18)]) == 5
    assert num_folds([0, 1], ["a", "b"]) == 1
    assert num_folds([0, 0, 1, 1], ["a", "b", "c", "d"], np.array([True, True, True, False])) == 1
    assert num_folds([0, 0, 1, 1], ["a", "b", "c", "d"], np.array([True, True, False, False])) == 0


def test_no_head_of_cross_validation_scores_a_class_it_never_saw():
    """Groups of several classes: three folds where two leave all images of a class out."""
    counts = 5 * np.array([[0, 1, 0, 2], [0, 0, 0, 4], [0, 4, 2, 0], [2, 0, 1, 1], [1, 0, 0, 0], [1, 1, 0, 0]])
    group, labels = (np.repeat(axis, counts.ravel()) for axis in np.indices(counts.shape).reshape(2, -1))
    features = torch.nn.functional.normalize(torch.eye(4)[labels] + 0.1)
    found = fit_by_folds(features, labels, [str(one) for one in group], fitted("gda"), 4, seed=0)
    assert found is not None
    assert found.held_out.min() > -1000, "an unseen class is scored -10,000"
    assert found.chosen_on == "cross-validation in 3 folds over 6 groups of the training images"
    one_group = ["a", "b", "c", "d", "e", "e", "f", "g"]
    assert fit_by_folds(features[:8], np.arange(8) // 2, one_group, fitted("gda"), 4, seed=0) is None


def test_corrections_of_a_zip_file_are_found_in_it(lab_cells, lab_cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.make_archive("cells", "zip", lab_cells.parent, lab_cells.name)
    sample = cytolora.load_dataset(lab_cells).samples[0]
    other = next(label for label in cytolora.load_dataset(lab_cells).classes if label != sample.label)
    Path("corrections.csv").write_text(f"path,label\ncells.zip/{lab_cells.name}/{sample.path},{other}\n")
    found = read_cells(Path("cells.zip"), labels=Path("corrections.csv"))
    assert found.num_corrected == 1
    assert next(one.label for one in found.manifest.samples if one.path == sample.path) == other


@pytest.mark.parametrize(("part", "said"), [("train", "corrections.csv."), ("test", "they make results too good.")])
def test_corrected_labels_of_test_images_are_said_to_flatter(tmp_path, part, said):
    for number, name in enumerate(("train", "val", "test")):
        write_classes(tmp_path / "cells" / name, seed=number, benign=4, malignant=4)
    (tmp_path / "corrections.csv").write_text(f"path,label\n{part}/benign/000.png,malignant\n")
    found = read_cells(tmp_path / "cells", labels=tmp_path / "corrections.csv")
    assert found.notes[0].startswith("1 labels were corrected by")
    assert found.notes[0].endswith(said)


def test_nothing_is_written_among_class_folders(tmp_path):
    cells = write_classes(tmp_path / "cells", benign=15, malignant=15)
    with pytest.raises(ConfigError, match="would be taken for one the next time"):
        quick_fit(cells, cells / "model", model="nano", cache=tmp_path / "cache")
    with pytest.raises(ConfigError, match="another --cache"):
        quick_fit(cells, tmp_path / "model", model="nano", cache=cells / "runs" / ".cache")
    assert sorted(path.name for path in cells.iterdir()) == ["benign", "malignant"]


def test_a_table_among_class_folders_makes_them_no_other_dataset(tmp_path):
    cells = write_classes(tmp_path / "cells", benign=3, malignant=3)
    (cells / "predictions.csv").write_text("path,predicted\nbenign/000.png,malignant\n")
    with pytest.raises(ConfigError, match="would be taken for one the next time"):
        quick_fit(cells, cells / "model", model="nano", cache=tmp_path / "cache")


@pytest.mark.slow
def test_a_bundle_may_lie_beside_the_table_of_its_images(lab_cells, lab_cache, tmp_path):
    cells = shutil.copytree(lab_cells, tmp_path / "cells")
    quick_fit(cells, cells / "model", model="nano", max_steps=2, cache=lab_cache)
    quick_fit(cells, cells / "model", model="nano", max_steps=2, cache=lab_cache)


@pytest.mark.parametrize("given", [",", "", "hsil,lsil"])
def test_positive_that_names_no_class_is_a_mistake(given, lab_cells, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["fit", str(lab_cells), "--out", str(tmp_path / "model"), "--model", "nano", "--positive", given])
    assert exit_.value.code == 2
    assert f"Unknown class {given!r}" in capsys.readouterr().err


def test_calibration_groups_that_are_too_few_are_counted_with_those_of_training_and_this_is_said(
    lab_cells, lab_cache, tmp_path
):
    bundle = quick_fit(lab_cells, tmp_path / "model", model="nano", max_steps=2, coverage=0.99, cache=lab_cache)
    groups = bundle.contents.training["groups"]
    number = groups["train"] + groups["calibration"]
    said = f"takes at least 99 calibration groups, there are {number}, even with those of training"
    assert said in (tmp_path / "model" / "card.md").read_text()


@pytest.mark.slow
def test_how_long_it_will_take_is_said_whatever_else_is_kept(lab_cells, tmp_path):
    """Of another dataset or backbone, kept features save no time."""
    cache, asked = tmp_path / "cache", {"model": "nano", "max_steps": 2}
    other, told = write_classes(tmp_path / "other", benign=9, malignant=9), []
    quick_fit(other, tmp_path / "model", cache=cache, **asked)
    for _ in range(2):
        said: list[str] = []
        quick_fit(lab_cells, tmp_path / "model", cache=cache, progress=Progress(say=said.append), **asked)
        told.append(any("nano, linear: " in line and "--method lora would take" in line for line in said))
    assert told == [True, False]  # the second time its own are kept


def test_a_perfect_share_of_few_images_is_not_said_to_be_certain():
    found = share(np.ones(6, dtype=bool), [f"{place}.png" for place in range(6)], [None] * 6)
    assert (round(found.low, 3), found.high) == (0.541, 1.0)  # scipy.stats.binomtest(6, 6).proportion_ci()
    in_groups = share(np.zeros(6, dtype=bool), [f"{place}.png" for place in range(6)], ["a", "a", "a", "b", "b", "b"])
    assert (in_groups.low, round(in_groups.high, 3)) == (0.0, 0.842)


@pytest.mark.parametrize(
    "options", [{"max_steps": 20}, {"method": "lora", "learning_rates": [1e-3, 3e-3], "max_steps": 3}]
)
def test_long_stages_say_how_much_there_is_to_do_and_how_much_is_done(tmp_path, options):
    cells, told = write_classes(tmp_path / "cells", benign=15, malignant=15), []
    quick_fit(
        cells,
        tmp_path / "model",
        model="nano",
        cache=tmp_path / "cache",
        progress=Progress(
            begin=lambda text, total, unit: told.append([text, total, 0]),
            done=lambda images: told[-1].__setitem__(2, told[-1][2] + images),
        ),
        **options,
    )
    trained = [f"lora, rate {rate}{part}" for rate in ("0.001", "0.003") for part in ("", ", held out")]
    stages = trained if "method" in options else ["features", "7 linear heads"]
    assert [text for text, _, _ in told] == [
        "looking at images",
        *stages,
        "calibrating on held-out images",
        "test set",
    ]
    assert all(total == done for _, total, done in told)
