"""The findings of the data stand on every console, page, file and card of what is made from them."""

import json
import shutil
from pathlib import Path

import pytest
from class_folders import write_classes

import cytolora
from cytolora.cli.app import main
from cytolora.data.datasets import load_manifest
from cytolora.data.splitting.split_files import read_split
from cytolora.experiments.store import Store


def called(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 12 images, each of which stands there twice."""
    cells = write_classes(tmp_path_factory.mktemp("twins") / "[red]cells", a=12, b=12)
    for path in sorted(cells.rglob("*.png")):
        shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    return cells


def run(cells: Path, runs: Path, *options: object) -> int:
    grid = ("smoke", "--dataset", "folder", "--data", f"folder={cells}", "--out", runs)
    return called("run", *grid, "--shots", 1, "--seeds", 1, "--steps", 1, "--learning-rates", 0.01, *options)


def provenance(runs: Path) -> dict[str, dict]:
    (found,) = {json.dumps(run.provenance["findings"]) for run in Store(runs).runs()}
    return {one["code"]: one for one in json.loads(found)}


@pytest.mark.slow
def test_split_tears_no_pair_and_run_and_report_are_silent_of_copies(twins, tmp_path, capsys):
    assert called("split", twins, "--out", tmp_path / "split.csv") == 0
    divided = read_split(tmp_path / "split.csv", load_manifest(twins))
    sides = {}
    for sample in divided.samples:
        sides.setdefault(sample.sha256, set()).add(sample.subset)
    assert (len(sides), {len(subsets) for subsets in sides.values()}) == (24, {1})
    run(twins, tmp_path / "runs", "--split", tmp_path / "split.csv")
    assert "D507" not in provenance(tmp_path / "runs")
    assert "D507" not in capsys.readouterr().err


@pytest.mark.slow
def test_torn_copies_are_said_by_run_in_provenance_and_by_report_on_console_file_and_page(twins, tmp_path, capsys):
    assert run(twins, tmp_path / "runs") == 0
    said = capsys.readouterr().err
    found = provenance(tmp_path / "runs")
    torn = found["D507"]["count"]
    assert torn > 2
    line = f"! D507 Byte-equal files in more than one of train, val and test: {torn}, the first are "
    assert line in said
    assert "- D506 Groups unknown" in said
    assert "cells: 1 warning, 1 note." in said
    assert found["D507"]["severity"] == "warning"
    assert called("report", tmp_path / "runs", "--out", tmp_path / "report") == 0
    assert f"! D507 folder: {line[7:]}" in capsys.readouterr().err
    page = (tmp_path / "report" / "index.html").read_text()
    assert "<code>D507</code> Byte-equal files in more than one" in page
    (of_file,) = [
        one for one in json.loads((tmp_path / "report" / "findings.json").read_text()) if one["code"] == "D507"
    ]
    assert of_file == {"dataset": "folder", **found["D507"]}


@pytest.mark.slow
def test_a_grid_that_keeps_copies_together_has_other_ids_and_nothing_torn(twins, tmp_path, capsys):
    grid = tmp_path / "grid.yaml"
    smoke = (Path(cytolora.__file__).parent / "config" / "grids" / "smoke.yaml").read_text()
    grid.write_text(smoke.replace("split: {", "split: {copies: together, "))
    options = ("--dataset", "folder", "--data", f"folder={twins}", "--out", tmp_path / "runs", "--shots", 1)
    called("run", grid, *options, "--seeds", 1, "--steps", 1, "--learning-rates", 0.01)
    assert "D507" not in provenance(tmp_path / "runs")
    assert {run.spec["split"]["copies"] for run in Store(tmp_path / "runs").runs()} == {"together"}


def test_the_findings_of_fit_stand_in_json_bundle_page_and_card(twins, tmp_path, capsys):
    (tmp_path / "cells").mkdir()
    cells = shutil.copytree(twins, tmp_path / "cells" / "[red]x")
    (cells / "a" / "bad.png").write_bytes(b"no image")
    options = ("--model", "nano", "--steps", 2, "--learning-rates", 0.01, "--cache", tmp_path / "cache", "--json")
    assert called("fit", cells, "--out", tmp_path / "model", *options) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    found = {one["code"]: one for one in document["findings"]}
    assert (found["P101"]["count"], found["D501"]["count"]) == (1, 24)
    assert found["P101"]["examples"] == ["a/bad.png"]
    assert "D507" not in found
    bundle = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert bundle["training"]["findings"] == document["findings"]
    for name, between in (("report.html", "</code> "), ("card.md", ": ")):
        text = (tmp_path / "model" / name).read_text()
        for code in ("P101", "D501", "D506"):
            assert f"{code}{between}{found[code]['text'][:20]}" in text
    assert "! P101 1 unreadable file left out: a/bad.png." in said.err
    assert "[red]x: 49 images, 2 classes" in said.err


@pytest.mark.parametrize("command", ["predict", "evaluate", "export", "serve"])
def test_an_option_that_a_classifier_has_no_use_for_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    given: dict[str, tuple[object, ...]] = {
        "predict": (write_classes(tmp_path / "cells", a=1), "--out", tmp_path / "p.csv"),
        "evaluate": (tmp_path,),
        "export": ("--to", "onnx", "--out", tmp_path / "onnx"),
        "serve": (),
    }
    (tmp_path / "model").mkdir()
    assert called(command, tmp_path / "model", *given[command], "--trust-weights") == 2
    assert "--trust-weights has no meaning for a classifier" in capsys.readouterr().err
