"""Runs on pooled datasets: leave one dataset out, from the command line to the report, and from Python."""

import csv
import json
from pathlib import Path

import pytest
from pools import herlev_like, sipakmed_like

import cytolora
from cytolora.cli.app import main
from cytolora.errors import ConfigError
from cytolora.experiments.store import Store

FEW = ("--method", "linear", "--shots", 4, "--seeds", 1, "--learning-rates", 0.01)


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pools")
    return {
        "herlev": herlev_like(root / "herlev", per_class=8),
        "sipakmed": sipakmed_like(root / "sipakmed", per_class=10),
    }


def folders(cells: dict[str, Path]) -> list[str]:
    return [f"{name}={path}" for name, path in cells.items()]


@pytest.mark.slow
def test_each_dataset_is_left_out_once_and_tested_whole(cells, tmp_path, capsys):
    runs, report = tmp_path / "runs", tmp_path / "report"
    chosen = ("--data", *folders(cells), "--pool", "bethesda-general", "--out", runs)
    out = ("--leave-out", "dataset=herlev", "dataset=sipakmed")
    assert called("run", "smoke", *chosen, *out, *FEW, "--quiet") == 0
    said = capsys.readouterr().err
    assert "L411 herlev: the label map bethesda-general joins normal_superficiel (8)" in said
    numbers = {}
    for run in Store(runs).runs():
        table = run.predictions()
        tested = [row for row in table.to_pylist() if row["subset"] == "test"]
        (name,) = {row["meta_dataset"] for row in tested}
        numbers[name] = len(tested)
        assert run.spec["split"]["leave_out"] == f"dataset={name}"
        assert run.metrics["test"]["accuracy"] > 0.6  # drawn cells of one hand: better than guessing
        assert {row["meta_dataset"] for row in table.to_pylist() if row["subset"] == "val"} == set(cells) - {name}
    assert numbers == {"herlev": 7 * 8, "sipakmed": 5 * 10}
    assert called("plan", "smoke", *chosen, *out, *FEW, "--json") == 0
    assert json.loads(capsys.readouterr().out)["to_do"] == 0
    assert called("report", runs, "--out", report) == 0
    assert "one dataset left out" in (report / "index.html").read_text()


def test_plan_shows_what_becomes_of_every_class(cells, tmp_path, capsys):
    chosen = ("--data", *folders(cells), "--pool", "bethesda", "--out", tmp_path / "runs")
    assert called("plan", "smoke", *chosen, *FEW) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "pool:bethesda+herlev+sipakmed x nano: 1 of 1 run to do" in said
    assert "sipakmed Koilocytotic 10 LSIL" in said
    assert "all 54 NILM all 18 LSIL all 24 HSIL" in said


def test_python_runs_a_pool_as_the_command_line_does(cells, tmp_path):
    few = {"method": "linear", "shots": 2, "seeds": 1, "learning_rates": 0.01, "steps": 2}
    plan = cytolora.run("smoke", cells, tmp_path / "runs", pool="bethesda", **few)
    (run,) = plan.runs
    assert run.dataset == "pool:bethesda+herlev+sipakmed"
    (stored,) = Store(tmp_path / "runs").runs()
    assert stored.provenance["classes"] == ["NILM", "LSIL", "HSIL"]
    with pytest.raises(ConfigError, match="leave out --dataset synthetic"):
        cytolora.run("smoke", cells, tmp_path / "runs", pool="bethesda", dataset="synthetic", **few)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--pool", "bethesda", "--dataset", "synthetic"), "leave out --dataset synthetic"),
        (("--pool", "bethesda", "--map", "own.csv"), "--map is for one dataset"),
        (("--pool", "betesda"), "Did you mean 'bethesda'?"),
        (("--pool", "tis"), "has no line for class 'normal_superficiel' of herlev"),
        (("--pool", "bethesda", "--leave-out", "dataset=herlev"), "no image of class 'HSIL' is left to train on"),
        (("--pool", "bethesda", "--leave-out", "dataset=herlv"), "its values are herlev, sipakmed"),
        (("--pool", "bethesda", "--data", "herlev=elsewhere"), "--data names herlev twice"),
        (("--pool", "nowhere.yaml"), "Cannot read nowhere.yaml"),
    ],
)
def test_a_wrong_pool_is_one_line_and_leaves_no_run(cells, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"
    assert called("run", "smoke", "--data", *folders(cells), *options, *FEW, "--out", runs, "--quiet") == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not list(runs.glob("[!.]*"))


@pytest.mark.slow
def test_breakdown_by_dataset_is_in_the_report(cells, tmp_path):
    few = {"method": "linear", "shots": 2, "seeds": 1, "learning_rates": 0.01, "steps": 2}
    cytolora.run("smoke", cells, tmp_path / "runs", pool="bethesda-general", **few)
    cytolora.report(tmp_path / "runs", tmp_path / "report")
    with (tmp_path / "report" / "metadata.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["value"] for row in rows if row["column"] == "dataset"} == {"herlev", "sipakmed"}
