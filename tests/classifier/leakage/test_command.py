"""The command and the function: from images to findings, table, JSON and page; frozen and adapted features."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_folders import write_classes
from PIL import Image
from planted_leakage import write_tinted
from quick_fit import quick_fit

import cytolora
from cytolora.classifier.leakage.encodings import of_bundle
from cytolora.cli.app import main
from cytolora.core.progress import SILENT
from cytolora.data.datasets import load_manifest
from cytolora.data.own_files import LEAKAGE_PAGE
from cytolora.data.targets import check_replaceable_file


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


def measured(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert called("leakage", *arguments, "--json", "--quiet") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 cells of 6 slides, each of another colour; read only."""
    return write_tinted(tmp_path_factory.mktemp("tinted") / "cells", strength=1)


@pytest.mark.slow
def test_a_tint_of_the_slide_is_found_and_plain_slides_are_not(tinted, cache, tmp_path, capsys):
    found = measured(capsys, tinted, "--model", "nano", "--cache", cache, "--repeats", 2)
    (source,) = found["by_features"][0]["sources"]
    assert (source["num_sources"], source["num_cells"], source["num_left_out"]) == (6, 120, 0)
    assert source["balanced_accuracy"] > 2 * source["chance"]
    assert [one["name"] for one in found["findings"]] == ["source-readable", "layout"]
    assert (found["num_cells"], found["num_groups"]) == (120, 6)
    plain = write_tinted(tmp_path / "cells", strength=0)
    found = measured(capsys, plain, "--model", "nano", "--cache", cache, "--repeats", 2)
    assert [one["name"] for one in found["findings"]] == ["layout"]


@pytest.mark.slow
def test_byte_copies_in_other_slides_are_found(tinted, cache, tmp_path, capsys):
    cells = shutil.copytree(tinted, tmp_path / "cells")
    rows = (cells / "manifest.csv").read_text().splitlines()
    for row in rows[1:41]:
        path, label, group = row.split(",")
        shutil.copy(cells / path, cells / f"z{path}")
        rows.append(f"z{path},{label},slide_{(int(group[-1]) + 1) % 6:02}")
    (cells / "manifest.csv").write_text("\n".join(rows) + "\n")
    found = measured(capsys, cells, "--model", "nano", "--cache", cache, "--repeats", 2)
    inflation = found["by_features"][0]["inflation"]
    assert inflation["num_copies"] == 80
    assert inflation["copies"]["value"] == pytest.approx(inflation["group"] - inflation["apart"])


@pytest.mark.slow
def test_turned_copies_in_other_slides_are_found(tinted, cache, tmp_path, capsys):
    cells = shutil.copytree(tinted, tmp_path / "cells")
    rows = (cells / "manifest.csv").read_text().splitlines()
    for row in rows[1:31]:
        path, label, group = row.split(",")
        Image.open(cells / path).rotate(90).save(cells / f"z{path}")
        rows.append(f"z{path},{label},slide_{(int(group[-1]) + 1) % 6:02}")
    (cells / "manifest.csv").write_text("\n".join(rows) + "\n")
    found = measured(capsys, cells, "--model", "nano", "--cache", cache, "--repeats", 1)
    assert found["by_features"][0]["inflation"]["num_copies"] >= 60


def test_a_class_on_slides_of_its_own_is_named(tinted, cache, tmp_path, capsys):
    cells = shutil.copytree(tinted, tmp_path / "cells")
    rows = (cells / "manifest.csv").read_text().splitlines()
    tied = [f"{row[: row.rindex(',')]},own_{number % 3}" if ",hsil," in row else row for number, row in enumerate(rows)]
    (cells / "manifest.csv").write_text("\n".join(tied) + "\n")
    assert called("leakage", cells, "--model", "nano", "--cache", cache, "--repeats", 1, "--quiet") == 0
    said = capsys.readouterr().out
    assert "! N841 A class is its source: hsil (alone in 3 of 3 groups)" in said
    assert "is its source" in said


def test_the_console_names_divisions_sources_and_classes_and_the_page_holds_the_same(tinted, cache, tmp_path, capsys):
    page = tmp_path / "leakage.html"
    arguments = ("--model", "nano", "--cache", cache, "--repeats", 1, "--page", page, "--quiet")
    assert called("leakage", tinted, *arguments) == 0
    said, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    for text in ("by image", "by group", "points (", "No near-duplicates in different groups.", "- N844 The group can"):
        assert text in said
    for text in (
        "<h3>Balanced accuracy by division, and inflation</h3>",
        "points (",
        "<code>N844</code>",
        "koilocytic",
    ):
        assert text in written
    assert "http://" not in written.replace("http://www.w3.org", "")
    check_replaceable_file(page, LEAKAGE_PAGE)


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> tuple[Path, Path]:
    """100 tinted cells of 10 slides, and a bundle with an adapter that was trained on some of them."""
    made = tmp_path_factory.mktemp("adapted")
    cells = write_tinted(made / "cells", strength=1, num_cells=100, num_slides=10)
    options = {"max_steps": 5, "learning_rates": 0.03, "positive": "hsil", "lower_sensitivity": True, "cache": cache}
    quick_fit(cells, made / "model", model="nano", method="lora", **options)
    return cells, made / "model"


def test_a_bundle_is_measured_before_and_after_adaptation_on_slides_that_it_was_not_trained_on(adapted, cache, capsys):
    cells, model = adapted
    found = measured(capsys, cells, "--bundle", model, "--cache", cache, "--repeats", 1)
    before, after = found["by_features"]
    assert (before["features"], after["features"]) == ("frozen", "adapted")
    assert found["positive"] == ["hsil"]
    trained = json.loads((model / "bundle.json").read_text())["training"]["images"]["train"]
    assert (found["num_trained_on"], found["num_cells"]) == (trained, 100 - trained)
    assert before["inflation"]["num_cells"] == after["inflation"]["num_cells"]
    assert before["sources"][0]["robustness"] != after["sources"][0]["robustness"]
    assert measured(capsys, cells, "--bundle", model, "--cache", cache, "--repeats", 1) == found


@pytest.mark.slow
def test_adapted_features_are_those_that_the_bundle_predicts_with(adapted, cache):
    cells, model = adapted
    bundle, manifest = cytolora.load(model), load_manifest(cells)
    _, encoding = of_bundle(bundle)
    features = encoding.features(manifest, cache, torch.device("cpu"), SILENT.done).numpy()
    expected = bundle.features([cells / sample.path for sample in manifest.samples])
    np.testing.assert_allclose(features, expected, atol=1e-5)


@pytest.mark.slow
def test_a_linear_bundle_leaves_the_features_as_they_are(tinted, cache, tmp_path, capsys):
    quick_fit(tinted, tmp_path / "model", model="nano", max_steps=5, learning_rates=0.01, cache=cache)
    found = measured(capsys, tinted, "--bundle", tmp_path / "model", "--cache", cache, "--repeats", 1)
    assert [one["features"] for one in found["by_features"]] == ["frozen"]


def test_python_gives_what_the_command_prints(tinted, cache, capsys):
    report = cytolora.leakage(tinted, model="nano", cache=cache, repeats=1)
    found = measured(capsys, tinted, "--model", "nano", "--cache", cache, "--repeats", 1)
    assert json.loads(json.dumps(report.plain())) == found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--repeats", 0), "--repeats is a number of divisions, at least 1, got 0."),
        (("--positive", "hsli"), "Unknown class 'hsli'"),
        (("--bundle", "nowhere"), "nowhere does not exist"),
        (("--sensitivity", 95), "sensitivity is a share in (0, 1], got 95"),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_code_2(options, message, tinted, cache, capsys):
    named = () if "--bundle" in options else ("--model", "nano")
    assert called("leakage", tinted, *named, *options, "--cache", cache, "--quiet") == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_model_and_a_bundle_are_too_many(tinted):
    with pytest.raises(cytolora.ConfigError, match="not both"):
        cytolora.leakage(tinted, model="nano", bundle="model")


def test_unknown_groups_are_refused_with_what_to_do(tmp_path, cache, capsys):
    cells = write_classes(tmp_path / "cells", a=9, b=9)
    assert called("leakage", cells, "--model", "nano", "--cache", cache, "--quiet") == 2
    assert "no group is known; leakage is measured between" in capsys.readouterr().err
