"""The engine ``slurm`` against commands that only answer: what a real controller of a test does not say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cytolora.cli.app import main
from cytolora.cli.command_line import command_line, same_command
from cytolora.core import stopping
from cytolora.core.folders import folder_names
from cytolora.core.progress import SILENT
from cytolora.errors import EngineError
from cytolora.experiments.claim_owner import Owner
from cytolora.experiments.engines import slurm
from cytolora.experiments.engines.slurm import _Array, _Awaited, _log_folder, _submit
from cytolora.experiments.engines.workers import Workers

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SLURM is for POSIX")


def _answering(monkeypatch: pytest.MonkeyPatch, *answers: str) -> list[list[str]]:
    """Has SLURM's commands give some answers, one after the other; returns what is asked."""
    asked, left = list[list[str]](), iter(answers)

    def run(command: list[str], script: str | None = None) -> "subprocess.CompletedProcess[str]":
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, next(left, ""), "")

    monkeypatch.setattr(slurm, "_run", run)
    return asked


def _command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_task_that_the_controller_forgot_keeps_the_state_that_it_ended_in(monkeypatch: pytest.MonkeyPatch):
    _answering(monkeypatch, "12_0 FAILED None\n12_1 RUNNING None\n12_2 RUNNING None", "12_1 COMPLETED None")
    array = _Array(job_id="12", size=3)
    for _ in range(3):
        assert array._ask()
    assert array.states == {"12_0": "FAILED", "12_1": "COMPLETED", "12_2": "GONE"}


def test_jobs_of_another_cluster_are_asked_for_and_cancelled_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked = _answering(monkeypatch, "12;north\n", "CLUSTER: north\n12_0 RUNNING None")
    array = _submit(Workers(count=1, command=("true",)), 1, tmp_path)
    array._ask()
    array.cancel()
    assert array.states == {"12_0": "RUNNING"}
    assert asked[1][:2] == ["squeue", "--clusters=north"]
    assert asked[2] == ["scancel", "--clusters=north", "12"]


def test_what_is_no_number_of_a_job_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _answering(monkeypatch, "Usage: sbatch [OPTIONS(0)...] [executable [args(0)...]]\nmore")
    with pytest.raises(EngineError, match=r"gave no job's number, but: 'Usage: sbatch"):
        _submit(Workers(count=1, batch=("--usage",), command=("true",)), 1, tmp_path)


def test_a_stop_request_ends_the_wait_for_jobs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _answering(monkeypatch)
    array = _Array(job_id="12", size=1)
    with stopping.heeding_signals():
        stopping.ask()
        with pytest.raises(stopping.StoppedError):
            array.watch(_Awaited(root=tmp_path, amounts={}, names=folder_names), SILENT)


def test_arguments_of_any_bytes_come_to_the_job_as_they_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _command(tmp_path, "sbatch", f"cat > '{tmp_path}/script'; echo 7")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    odd = os.fsdecode(b"out\xff $(touch a)\n'x'")
    check = "import os, sys; sys.exit(os.fsencode(sys.argv[1]) != bytes.fromhex(sys.argv[2]))"
    command = (sys.executable, "-c", check, odd, os.fsencode(odd).hex())
    assert _submit(Workers(count=1, command=command), 1, tmp_path).job_id == "7"
    assert subprocess.run(["bash", tmp_path / "script"], cwd=tmp_path).returncode == 0
    assert not (tmp_path / "a").exists()


def test_a_user_of_a_domain_gets_a_folder_whose_name_sbatch_leaves_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("LOGNAME", "LAB\\jane/../../%j")
    assert Owner.this_process().user == "LAB\\jane/../../%j"
    folder = _log_folder(tmp_path)
    assert folder == tmp_path / f".slurm-LAB-jane-..-..--j-{os.getuid()}"
    monkeypatch.setenv("LOGNAME", "jane.doe@lab")
    assert _log_folder(tmp_path).name == ".slurm-jane.doe@lab"


def test_the_flag_of_a_job_stands_before_what_ends_the_options():
    with command_line(["run", "--out", "runs", "--", "smoke"]):
        assert same_command("--slurm-worker")[-6:] == ("run", "--slurm-worker", "--out", "runs", "--", "smoke")
    assert same_command("--slurm-worker") == ()


def test_without_sbatch_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("PATH", str(tmp_path))
    out = tmp_path / "runs"
    options = ("--shots", "1", "--seeds", "1", "--data", f"synthetic={drawn_cells}", "--out", str(out), "--quiet")
    with pytest.raises(SystemExit) as ended:
        main(["run", "smoke", *options, "--engine", "slurm", "--workers", "2"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("cytolora: sbatch is not on this machine.")
    assert said.count("\n") == 1
    assert not list(out.glob(".[!c]*"))
