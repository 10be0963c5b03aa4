"""Groups suspected in file names: said by check, split, run and fit, answered with --groups-from, written down."""

import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.reading import AS_IT_STANDS, ReadOptions
from cytolora.config.run import SplitSpec
from cytolora.data.manifest import Manifest
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders with cells of 15 slides named ``<slide>_<number>.png``, each slide with its tint; no table."""
    folder, random = tmp_path_factory.mktemp("slides") / "cells", np.random.default_rng(0)
    for slide in range(15):
        tint = random.normal(0, 20, 3)
        for cell in range(8):
            pixels = np.clip(random.normal(0, 15, (40, 40, 3)) + 130 + tint + 40 * (cell % 2), 0, 255)
            path = folder / "ab"[cell % 2] / f"{slide:03}_{cell:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return folder


def run(slides: Path, runs: Path, *options: object) -> dict:
    grid = ("smoke", "--dataset", "folder", "--data", f"folder={slides}", "--out", runs)
    few = ("--method", "linear", "--shots", 1, "--seeds", 1, "--steps", 1, "--learning-rates", 0.01)
    assert called("run", *grid, *few, *options) == 0
    (stored,) = Store(runs).runs()
    return {**stored.provenance, "split": stored.spec["split"], "id": stored.path.name}


def codes(findings: list[dict]) -> set[str]:
    return {one["code"] for one in findings}


def test_check_says_what_was_found_and_exits_with_1_until_it_is_answered(slides, capsys):
    assert called("check", slides, "--json") == 1
    (found,) = [one for one in json.loads(capsys.readouterr().out)["findings"] if one["code"] == "D511"]
    assert (found["name"], found["count"]) == ("groups-suspected", 15)
    assert called("check", slides, "--groups-from", "names") == 0
    said = capsys.readouterr().out
    assert "120 images, 2 classes, 15 groups" in said
    assert "D511" not in said
    assert called("check", slides, "--groups-from", "none") == 0
    said = capsys.readouterr().out
    assert "- D512 cells: the 15 groups that file names suggest" in said
    assert "D511" not in said


def test_split_warns_and_holds_slides_together_once_names_are_accepted(slides, tmp_path, capsys):
    def torn(*options: object) -> int:
        assert called("split", slides, "--out", tmp_path / "split.csv", *options) == 0
        homes = defaultdict(set)
        for row in csv.DictReader((tmp_path / "split.csv").open()):
            homes[Path(row["path"]).stem.partition("_")[0]].add(row["subset"])
        return sum(len(subsets) > 1 for subsets in homes.values())

    assert torn() > 10
    assert "! D511" in capsys.readouterr().err
    assert torn("--groups-from", "names") == 0
    assert torn("--groups-from", r"^\d+") == 0
    assert "D511" not in capsys.readouterr().err


def test_the_images_of_runs_have_the_groups_that_the_split_asks_for(slides):
    def read(split: SplitSpec, reading: ReadOptions = AS_IT_STANDS) -> Manifest:
        return Inputs(data={"folder": slides}, reading=reading).manifest("folder", split)

    silent, names = read(SplitSpec()), read(SplitSpec(groups_from="names"))
    pattern, refused = read(SplitSpec(groups_from=r"^\d(\d\d)")), read(SplitSpec(), ReadOptions(groups_from="none"))
    assert [one.grouping.num_groups for one in (silent, names, refused)] == [0, 15, 0]
    assert (names.grouping.num_torn, {one.group for one in pattern.samples}) == (0, {f"{n:02}" for n in range(15)})
    assert {one.code for one in silent.findings} == {"D506", "D511"}
    assert {one.code for one in names.findings} == set()
    assert {one.code for one in refused.findings} == {"D506", "D512"}


@pytest.mark.slow
def test_run_and_report_mark_suspected_groups_and_every_answer_is_stored(slides, tmp_path, capsys):
    silent = run(slides, tmp_path / "silent")
    assert "D511" in codes(silent["findings"])
    assert called("report", tmp_path / "silent", "--out", tmp_path / "report") == 0
    assert "D511" in (tmp_path / "report" / "index.html").read_text()
    assert "! D511 " in capsys.readouterr().err
    assert "groups unknown" in (tmp_path / "report" / "settings.csv").read_text()
    names = run(slides, tmp_path / "names", "--groups-from", "names")
    assert names["split"]["groups_from"] == "names"
    assert names["group_rule"] == "prefix of the file name, before its last number (--groups-from names)"
    assert (names["grouping"]["num_groups"], names["grouping"]["num_torn"]) == (15, 0)
    assert not codes(names["findings"]) & {"D506", "D511", "D512"}
    pattern = run(slides, tmp_path / "pattern", "--groups-from", r"^\d+")
    assert pattern["split"]["groups_from"] == r"^\d+"
    refused = run(slides, tmp_path / "none", "--groups-from", "none")
    assert "D512" in codes(refused["findings"])
    assert refused["split"] == silent["split"]
    assert len({silent["id"], names["id"], pattern["id"]}) == 3
    assert refused["id"] == silent["id"]


@pytest.mark.slow
def test_a_grid_may_name_the_groups(slides, tmp_path):
    grid = tmp_path / "grid.yaml"
    grid.write_text(
        "name: mine\ndatasets: [folder]\nmodels: [nano]\nshots: [1]\nseeds: [1]\nlearning_rates: [0.01]\n"
        "methods: {linear: {budget: {amount: 1, unit: epochs}}}\nsplit: {groups_from: names}\n"
    )
    assert called("run", grid, "--data", f"folder={slides}", "--out", tmp_path / "runs") == 0
    (stored,) = Store(tmp_path / "runs").runs()
    assert stored.provenance["grouping"]["num_groups"] == 15


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "said", "silent"),
    [
        ((), "D511: cells: file names suggest 15 groups", "Groups: prefix"),
        (("--groups-from", "names"), "Groups: prefix of the file name, before its last number", "D511"),
        (("--groups-from", "none"), "D512: cells: the 15 groups that file names suggest", "D511"),
    ],
    ids=["silent", "names", "none"],
)
def test_fit_puts_suspicion_and_answer_on_the_card_and_into_the_bundle(answer, said, silent, slides, tmp_path):
    options = ("--model", "nano", "--method", "linear", "--steps", 2, "--learning-rates", 0.01, "--quiet")
    assert called("fit", slides, "--out", tmp_path / "model", "--cache", tmp_path / "cache", *options, *answer) == 0
    card = next((tmp_path / "model").glob("*ard.md"), None) or tmp_path / "model" / "README.md"
    text = card.read_text()
    assert said in text
    assert silent not in text
    training = json.loads((tmp_path / "model" / "bundle.json").read_text())["training"]
    assert ("D511" in codes(training["findings"])) == (answer == ())
