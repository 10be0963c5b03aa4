"""Marks of a fit's numbers stand on its card, on its page and in its bundle, under the codes of findings."""

import csv
import json
import re
from html import unescape
from math import log
from pathlib import Path

import numpy as np
import pytest
from blank_pdfs import blank_drawings
from PIL import Image
from quick_fit import quick_fit

from cytolora.classifier.inference.classifier import Classifier
from cytolora.cli.app import main
from cytolora.core.finding_kinds import KINDS

NUM_SLIDES = 24


@pytest.fixture(scope="module")
def confounded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cells of three classes: cancer from slides of its own, the other two from mixed ones."""
    folder = tmp_path_factory.mktemp("cells")
    rng, rows = np.random.default_rng(0), []
    for slide in range(NUM_SLIDES):
        labels = ["cancer"] * 4 if slide % 3 == 0 else ["normal", "reactive"] * 2
        for number, label in enumerate(labels):
            name = f"{slide:02}{number}.png"
            Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / name)
            rows.append((name, label, f"slide {slide}"))
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    return folder


@pytest.fixture(scope="module")
def marked(confounded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for one step within the warm-up, at the better of two rates; read only."""
    out = tmp_path_factory.mktemp("fit") / "model"
    with blank_drawings():
        quick_fit(confounded, out, model="nano", max_steps=1, learning_rates=[1e-4, 1e-2], cache=out.parent / "cache")
    return out


@pytest.mark.slow
def test_marks_are_findings_of_the_bundle(marked: Path):
    found = {one["code"]: one for one in Classifier.load(marked).contents.training["findings"]}
    assert {"N804", "N808", "N811", "N841"} <= set(found)
    assert all(one["severity"] == KINDS[code].severity for code, one in found.items())
    assert found["N804"]["text"].startswith("Training ends after 1 step, within its warm-up of 50")
    assert "cancer (alone in 8 of 8 groups)" in found["N841"]["text"]
    assert found["N841"]["examples"] == ["cancer"]


@pytest.mark.parametrize("name", ["card.md", "report.html"])
def test_marks_stand_on_card_and_page_once(marked: Path, name: str):
    text = unescape((marked / name).read_text())
    for one in Classifier.load(marked).contents.training["findings"]:
        assert text.count(one["text"]) == 1, one


def test_the_card_names_marks_below_its_numbers(marked: Path):
    results = (marked / "card.md").read_text().partition("## Results")[2].partition("## Caution")[0]
    for name in ("N804 ends in warm up", "N808 rate at the edge", "N811 few groups", "N841 class is its source"):
        assert name in results


def test_a_fit_within_its_grid_of_rates_beyond_its_warm_up_bears_no_such_mark(fitted: Path):
    codes = {one["code"] for one in Classifier.load(fitted).contents.training["findings"]}
    assert not {"N804", "N805", "N841"} & codes


@pytest.mark.slow
def test_a_loss_that_did_not_fall_is_said_on_card_page_and_in_json_and_the_command_succeeds(
    confounded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out, options = (
        tmp_path / "model",
        ["--model", "nano", "--steps", "3", "--learning-rates", "10000", "--quiet", "--json"],
    )
    with pytest.raises(SystemExit) as stop:
        main(["fit", str(confounded), "--out", str(out), "--cache", str(tmp_path / "cache"), *options])
    assert not stop.value.code
    found = {one["code"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    loss, guess = (float(part.split()[0]) for part in re.split(" at | has ", found["N806"]["text"].rstrip("."))[1:])
    assert guess == pytest.approx(log(3), abs=1e-3)
    assert loss > 10
    stored = {one["code"]: one for one in Classifier.load(out).contents.training["findings"]}
    assert stored["N806"] == found["N806"]
    for name in ("card.md", "report.html"):
        assert (out / name).read_text().count("The loss of training images ended at") == 1


def test_a_head_that_learned_bears_no_mark_of_its_loss(fitted: Path):
    codes = {one["code"] for one in Classifier.load(fitted).contents.training["findings"]}
    assert not {"N805", "N806"} & codes
