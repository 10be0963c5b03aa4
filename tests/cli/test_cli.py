"""The command line as users meet it: one clear line for a mistake, exit code 2, nothing half-written."""

import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from cytolora.cli.app import _COMMANDS, main


def run(*arguments: str, capture: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    printed = capture.readouterr()
    return int(stop.value.code or 0), printed.out, printed.err


TINY = ("--shots", "2", "--seeds", "1", "--learning-rates", "0.001", "0.01", "--steps", "2", "--quiet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "smok"], "Unknown grid 'smok'. Did you mean 'smoke'?"),
        (["plan", "smoke", "--model", "nanoo"], "Unknown model 'nanoo'. Did you mean 'nano'?"),
        (["plan", "smoke", "--dataset", "herlv"], "Unknown dataset 'herlv'. Did you mean 'herlev'?"),
        (["plan", "smoke", "--method", "lorra"], "'lorra'. Did you mean 'lora'?"),
        (["plan", "smoke", "--shots", "many"], "shots is a number of images per class or the word all, got 'many'."),
        (["plan", "smoke", "--shotz", "4"], "Did you mean --shots"),
        (["plan", "exp2", "--shots", "all"], "a budget in steps_per_shot needs shots"),
        (["plan", "smoke", "--learning-rates", "nan"], "Grid 'smoke': learning_rates is a finite number, got nan."),
        (
            ["plan", "smoke", "--learning-rates", "0.1", "inf"],
            "Grid 'smoke': learning_rates is a finite number, got inf.",
        ),
        (["plan", "smoke", "--seeds", "-1"], "a seed is a whole number from 0 to 2^63 - 1, got -1."),
        (["run", "smoke", "--method", "lora", "--seeds", "-1"], "got -1."),
        (["plan", "smoke", "--seeds", str(2**63)], "got 9223372036854775808."),
        (["plan", "exp2", "--preset", "paper-code-2023"], "Unknown preset 'paper-code-2023'. Did you mean"),
        (["plan", "exp2", "--method", "linear"], "Unknown method of grid exp2: 'linear'."),
        (["plan", "smoke", "--data", "herlev=x"], "--data names 'herlev', but the grid's datasets are synthetic."),
        (["plan", "smoke", "--data", "synthetic"], "--data expects NAME=PATH, got 'synthetic'."),
        (["run", "exp2", "--dataset", "herlev", "--model", "nano"], "Where is herlev? Name its folder with --data"),
        (["fit", "nowhere", "--ensemble", "--out", "model"], "--ensemble requires at least 1 element. Got 0."),
        (["report", "nowhere", "--checklist"], "--checklist requires at least 1 element. Got 0."),
        (["check", "nowhere"], "nowhere does not exist"),
        (["report", "nowhere"], "nowhere"),
        (["ls", "modls"], "modls"),
        (["nonsense"], "nonsense"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments, capture=capsys)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.name != ".lock"]


@pytest.mark.parametrize("inside", ["", "below/deep"])
@pytest.mark.parametrize("command", [["run", "smoke"], ["run", "smoke", "--engine", "ray"]])
def test_a_file_in_the_place_of_the_store_is_one_line_before_anything_is_run(command, inside, capsys, tmp_path):
    (tmp_path / "file").write_text("mine")
    code, _, err = run(*command, "--out", str(tmp_path / "file" / inside), *TINY, capture=capsys)
    assert (code, err.count("\n")) == (2, 1)
    assert f"Cannot write to {tmp_path / 'file' / inside}: a file is in the way. Choose another --out" in err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("kind", ["models", "datasets", "grids", "presets", "methods", "engines"])
def test_ls_prints_a_table_or_a_list_of_objects_with_names(kind, capsys):
    code, out, _ = run("ls", kind, "--json", capture=capsys)
    names = [row["name"] for row in json.loads(out)]
    assert code == 0
    assert len(names) == len(set(names)) > 0
    code, out, _ = run("ls", kind, capture=capsys)
    assert (code, names[0] in out) == (0, True)


@pytest.mark.parametrize("preset", ["paper", "paper-code-2024", "paper-code-2025"])
def test_plan_lists_the_papers_experiments_with_every_preset(preset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    linear = 480 if preset == "paper" else 300  # the code has five rates, the grid eight
    for grid, expected in (("exp1", (linear, 20)), ("exp2", (1800, 20)), ("exp3", (165, 1))):
        code, out, _ = run("plan", grid, "--preset", preset, "--json", capture=capsys)
        plan = json.loads(out)
        assert (code, plan["runs"], plan["to_do"], len(plan["groups"])) == (0, expected[0], *expected)
    _, out, _ = run("plan", "exp2", "--preset", preset, "--model", "uni", "--json", capture=capsys)
    assert json.loads(out)["runs"] == 360
    _, out, _ = run("plan", "exp1", "--preset", preset, "--learning-rates", "0.5", "--json", capture=capsys)
    assert json.loads(out)["runs"] == 60  # the user's rates replace the grid's and the preset's


def test_plan_run_report_and_plan_again(drawn_cells, tmp_path, capsys):
    data, runs = f"synthetic={drawn_cells}", str(tmp_path / "runs")
    _, out, _ = run("plan", "smoke", "--data", data, "--out", runs, "--json", *TINY[:-1], capture=capsys)
    plan = json.loads(out)
    assert (plan["runs"], plan["stored"], plan["to_do"], len(plan["groups"])) == (4, 0, 4, 1)
    assert run("run", "smoke", "--data", data, "--out", runs, *TINY, capture=capsys)[0] == 0
    _, out, _ = run("plan", "smoke", "--data", data, "--out", runs, "--json", *TINY[:-1], capture=capsys)
    assert (json.loads(out)["stored"], json.loads(out)["to_do"]) == (4, 0)
    code, out, _ = run("report", runs, "--out", str(tmp_path / "report"), "--data", data, capture=capsys)
    assert code == 0
    assert {"index.html", "tables.csv", "tables.md", "tables.tex", "figures"} <= {
        path.name for path in (tmp_path / "report").iterdir()
    }


def test_stale_runs_stop_a_run_before_it_starts(drawn_cells, tmp_path, capsys):
    import shutil

    cells, runs = tmp_path / "cells", str(tmp_path / "runs")
    shutil.copytree(drawn_cells, cells)
    arguments = ("run", "smoke", "--data", f"synthetic={cells}", "--out", runs, "--method", "linear", *TINY)
    assert run(*arguments, capture=capsys)[0] == 0
    before = {path: path.read_bytes() for path in Path(runs).rglob("*") if path.is_file()}
    images = sorted(cells.rglob("*.png"))
    shutil.copy(images[0], images[1])
    code, _, err = run(*arguments, capture=capsys)
    assert code == 2
    assert "data_fingerprint" in err
    assert "neither used nor overwritten" in err
    assert {path: path.read_bytes() for path in Path(runs).rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "damage", ["truncated image", "text named .png", "empty class folder", "missing key", "pickle"]
)
def test_damaged_inputs_are_one_line_and_leave_no_run(damage, tmp_path, capsys, drawn_cells):
    import shutil

    from safetensors.torch import load_file, save_file

    from cytolora.models.backbones.registry import BACKBONES

    cells, runs, extra = tmp_path / "cells", tmp_path / "runs", []
    for image in sorted(drawn_cells.rglob("*.png")):
        target = cells / image.stem.split("_", 1)[1] / f"{image.parent.name}_{image.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, target)
    victim = next(cells.rglob("*.png"))
    if damage == "truncated image":
        victim.write_bytes(victim.read_bytes()[:100])
    elif damage == "text named .png":
        victim.write_text("no image")
    elif damage == "empty class folder":
        (cells / "nothing").mkdir()
    else:
        nano = BACKBONES.get("nano").weights
        assert nano is not None
        weights = tmp_path / "w.safetensors"
        state = load_file(str(nano))
        state.pop("cls_token")
        save_file(state, str(weights))
        if damage == "pickle":
            import torch

            torch.save({"cls_token": torch.zeros(1)}, weights)
        extra = ["--weights", f"nano={weights}"]
    code, _, err = run(
        "run", "smoke", "--dataset", "folder", "--data", f"folder={cells}", "--out", str(runs), *extra, *TINY,
        capture=capsys,
    )  # fmt: skip
    assert code == 2
    found = [line for line in err.splitlines() if not re.match(r"[!-] [A-Z]\d{3} |cells: ", line)]
    assert len(found) == 1, "one line, below the findings"
    expected = {"empty class folder": "nothing", "missing key": "cls_token", "pickle": "w.safetensors"}
    assert str(expected.get(damage, victim.name)) in err
    assert not list(runs.glob("*/spec.json"))
    assert not list(runs.glob(".staging*"))


def test_doctor_says_what_is_here_and_that_the_hub_is_out_of_reach(capsys, monkeypatch):
    from huggingface_hub import constants

    code, out, _ = run("doctor", "--offline", "--json", capture=capsys)
    found = json.loads(out)
    assert code == 0
    assert {"python", "torch", "gpus", "disk_free_gb", "hub", "weights", "problems"} <= found.keys()
    assert next(row for row in found["weights"] if row["name"] == "nano")["file"].endswith("nano.safetensors")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    code, out, _ = run("doctor", "--online", capture=capsys)
    assert (code, "not reachable" in out) == (1, True)


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            KeyboardInterrupt(),
            130,
            "cytolora: stopped. Finished work is kept; the same command resumes.",
        ),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            2,
            "cytolora: This command needs torch, which is",
        ),
    ],
)
def test_ctrl_c_and_a_missing_package_end_in_one_line(raised, code, said, capsys, tmp_path, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr("cytolora.classifier.inference.image_sources.find_images", stop)
    found, _, err = run("predict", "model", "cells", "--out", str(tmp_path / "a.csv"), capture=capsys)
    assert (found, len(err.splitlines())) == (code, 1)
    assert err.startswith(said)


@pytest.mark.parametrize("name", sorted(_COMMANDS))
def test_the_help_of_every_command_has_its_examples(name: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert "Example" in said or "Commands" in said
    assert f"cytolora {name}" in said


def test_the_package_is_a_program_too():
    """For environments whose scripts are not on the path."""
    done = subprocess.run([sys.executable, "-m", "cytolora", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, version("cytolora"))
