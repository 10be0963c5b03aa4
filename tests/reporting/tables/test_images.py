"""Images and groups of each class, and the split file, stand in the report folder."""

import csv
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from blank_pdfs import blank_pdfs
from fake_store import FakeData, write_runs

from cytolora.cli.app import main
from cytolora.core.files import sha256_file
from cytolora.data.datasets import load_manifest
from cytolora.data.splitting.split_files import read_split
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.experiments.divisions import FOLDER, kept_division
from cytolora.experiments.store import Store
from cytolora.reporting.pages.build import build_report

GRID = """
name: small
datasets: [synthetic]
models: [nano]
methods:
  linear: {budget: {amount: 60, unit: epochs}}
shots: [2, all]
seeds: [1, 2]
learning_rates: [0.001, 0.01, 0.1]
on_small_class: repeat
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Data, runs and report of a small grid; read only."""
    root = tmp_path_factory.mktemp("images")
    data, runs, out = root / "cells", root / "runs", root / "report"
    write_synthetic(data, num_images=90, num_slides=18, seed=0)
    (root / "grid.yaml").write_text(GRID)
    for command in (
        ["run", str(root / "grid.yaml"), "--data", f"synthetic={data}", "--out", str(runs)],
        ["report", str(runs), "--out", str(out)],
    ):
        with blank_pdfs(), pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 0
    return data, runs, out


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_split_file_of_the_runs_lies_in_the_report_and_reads_back_as_their_division(
    folders: tuple[Path, Path, Path],
):
    data, runs, out = folders
    (path,) = (out / "splits").iterdir()
    assert path.name == "synthetic.csv"
    divided = read_split(path, load_manifest(data, "synthetic"))
    subsets = {sample.path: sample.subset for sample in divided.samples}
    seen = [(row["path"], row["subset"]) for run in Store(runs).runs() for row in run.predictions().to_pylist()]
    assert len(seen) > 100
    assert all(subsets[image] == subset for image, subset in seen)
    assert {run.provenance["division"] for run in Store(runs).runs()} == {sha256_file(path)}


def test_images_and_groups_of_each_class_are_those_of_the_division(folders: tuple[Path, Path, Path]):
    _, _, out = folders
    (split,) = (out / "splits").iterdir()
    images, groups = Counter[tuple[str, str]](), defaultdict[tuple[str, str], set[str]](set)
    for row in table(split):
        images[row["label"], row["subset"]] += 1
        groups[row["label"], row["subset"]].add(row["group"])
    rows = [row for row in table(out / "images.csv") if row["amount"] == "all"]
    assert len(rows) == len(images) * 2  # seeds
    for row in rows:
        key = row["class"], row["subset"]
        assert (int(row["images"]), int(row["groups"])) == (images[key], len(groups[key]))


def test_two_shots_are_two_images_of_each_class_in_train(folders: tuple[Path, Path, Path]):
    rows = [row for row in table(folders[2] / "images.csv") if (row["amount"], row["subset"]) == ("2 shots", "train")]
    assert rows
    assert {row["images"] for row in rows} == {"2"}


def test_the_page_shows_them(folders: tuple[Path, Path, Path]):
    page = (folders[2] / "index.html").read_text(encoding="utf-8")
    assert '<th class="num">2 shots: train</th>' in page
    assert '<th class="num">all: val</th>' in page
    assert "the subset of every image: <code>splits/</code>" in page


def test_a_split_file_that_was_changed_in_the_store_is_not_shown_for_that_of_the_runs(
    folders: tuple[Path, Path, Path], tmp_path: Path
):
    (path,) = (folders[1] / FOLDER).glob("*.csv")
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / path.name).write_text(path.read_text() + "\n")
    assert kept_division(folders[1], path.stem) == path
    assert kept_division(tmp_path, path.stem) is None
    assert kept_division(tmp_path, "0" * 64) is None


def test_runs_of_before_say_what_cannot_be_known(store: Store, tmp_path: Path):
    data = FakeData(num_groups=12)
    write_runs(store, data=data, models=("uni",), methods=("linear",), shots=(4,), rates=(1e-3,))
    out = build_report(store.root, tmp_path / "report").parent
    rows = table(out / "images.csv")
    known = {row["class"]: int(row["images"]) for row in rows if row["images"] and row["seed"] == "1"}
    assert sum(known.values()) == 60
    assert {row["subset"] for row in rows if row["images"]} == {"test"}
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "did not keep the counts of train and validation" in page
    assert "The split file was not kept by these runs" in page
    assert not (out / "splits").exists()
