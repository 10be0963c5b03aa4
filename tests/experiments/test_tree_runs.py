"""Runs of hierarchical heads on cells in the layout of HiCervix: level accuracies beside a flat head, and refusals."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import cytolora
from cytolora.cli.app import main
from cytolora.data.datasets import load_manifest
from cytolora.data.synthetic.tree import listed, per_class, write_tree
from cytolora.errors import ConfigError
from cytolora.experiments.store import Store
from cytolora.metrics.hierarchy import level_hits, tree_score

METHODS = ["linear", "tree-softmax", "hxe"]


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree") / "cells"
    write_tree(folder, per_class({"train": 6, "val": 2, "test": 4}))
    return folder


@pytest.mark.slow
def test_level_accuracies_of_hierarchical_heads_stand_beside_those_of_a_flat_one(cells, tmp_path):
    few = {"shots": 4, "seeds": [1, 2], "learning_rates": [0.01, 0.1]}
    data = {"hicervix:23": cells}
    cytolora.run("smoke", data, tmp_path / "runs", dataset="hicervix:23", method=METHODS, **few)
    cytolora.report(tmp_path / "runs", tmp_path / "report")
    with (tmp_path / "report" / "tree.csv").open(newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(METHODS)
    for row in rows.values():
        assert float(row["level_1"]) > 0.5  # of 4 nodes, planted far apart
        assert 2 <= float(row["mistake_distance"]) <= 6
    compared = cytolora.compare(tmp_path / "runs", "method")
    assert {frozenset((one.first, one.second)) for one in compared.pairs} == {
        frozenset(pair) for pair in (("linear", "tree-softmax"), ("linear", "hxe"), ("tree-softmax", "hxe"))
    }
    manifest = load_manifest(cells, "hicervix:23")
    for run in Store(tmp_path / "runs").runs():
        table = run.predictions().to_pylist()
        shares = np.array([[row[label] for label in manifest.classes] for row in table])
        np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-5)


@pytest.mark.slow
def test_each_head_runs_by_name_and_a_second_call_finds_all_stored(cells, tmp_path):
    few = {"method": ["tree-softmax", "hxe"], "shots": 2, "seeds": 1}
    data = {"hicervix": cells}
    assert len(cytolora.run("smoke", data, tmp_path, dataset="hicervix", **few).to_do) == 2
    assert not cytolora.run("smoke", data, tmp_path, dataset="hicervix", **few).to_do
    for run in Store(tmp_path).runs():
        assert run.metrics["train"]["num_steps"] == 100 * 2  # 50 images in batches of 32
        rows = {"hxe": 25, "tree-softmax": 4 + 21 + 6}[run.spec["method"]]  # nodes by level, two ends of inner classes
        assert run.metrics["num_trainable"] == rows * (96 + 1)


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
def test_a_dataset_without_a_tree_is_one_line(method, drawn_cells, tmp_path, capsys):
    chosen = ("--data", f"synthetic={drawn_cells}", "--method", method, "--out", tmp_path, "--quiet")
    assert called("run", "smoke", *chosen) == 2
    error = capsys.readouterr().err.strip()
    assert error == f"cytolora: {method} needs classes in a tree, and synthetic has none. Datasets with one: hicervix."


@pytest.mark.parametrize("method", ["tree-softmax", "hxe"])
def test_fit_says_that_it_reads_no_tree(method, drawn_cells, tmp_path, capsys):
    assert called("fit", drawn_cells, "--method", method, "--out", tmp_path / "model") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{method} reads the tree of a registered dataset's classes, which `fit` does not" in error
    assert "hxe," not in error.partition("fit ")[2].partition("and fit")[2]


@pytest.mark.slow
def test_a_label_map_leaves_no_tree(cells, tmp_path):
    classes = load_manifest(cells, "hicervix:23").classes
    rows = ["from,to", *(f"{label},{'x' if index % 2 else 'y'}" for index, label in enumerate(classes))]
    (tmp_path / "map.csv").write_text("\n".join(rows))
    with pytest.raises(ConfigError, match="a label map leaves none"):
        cytolora.run(
            "smoke",
            {"hicervix:23": cells},
            tmp_path / "runs",
            dataset="hicervix:23",
            method="hxe",
            label_map=tmp_path / "map.csv",
        )


@pytest.mark.slow
def test_drawn_cells_bear_the_real_label_files(shared_data: Path, tmp_path):
    names = listed(shared_data / "data" / "hicervix_csv", 400)
    assert 350 < sum(map(len, names.values())) < 450
    write_tree(tmp_path / "cells", names)
    manifest = load_manifest(tmp_path / "cells", "hicervix:26")
    found = Counter(sample.subset for sample in manifest.samples)
    assert found == {name: len(rows) for name, rows in names.items()}


def test_hits_at_every_level_are_those_that_the_accuracies_average():
    classes, tree = ("u", "v", "w", "b"), {"u": ("a", "u"), "v": ("a", "v"), "w": ("b", "w"), "b": ("b",)}
    shares = np.array([[0.3, 0.25, 0.45, 0.0], [0.1, 0.2, 0.3, 0.4], [0.0, 0.6, 0.4, 0.0]])
    hits = level_hits([0, 2, 3], shares, classes, tree)
    # 1: branch a has 0.55, the leaf is w; 2: branch b, but b itself; 3: v, of another branch
    assert hits.tolist() == [[True, False], [True, False], [False, False]]
    assert tree_score([0, 2, 3], shares, classes, tree).accuracies == (2 / 3, 0.0)
