"""The engine ``slurm`` on a real controller and two nodes of this machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from child_processes import HEARING_CTRL_C
from slurm_cluster import ask, missing, slurm_cluster, states

from cells import contents
from cytolora.core.strict_json import read_json
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import EngineError
from cytolora.experiments.engines.slurm import SCRIPT, _log_folder
from cytolora.experiments.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_PLAN = ("run", "smoke", "--shots", "1", "--seeds", "1", "2", "--learning-rates", "0.01", "--threads", "1")
_PATIENCE_SECONDS = 400


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    if why := missing():
        pytest.skip(why)
    with slurm_cluster() as environment:
        yield environment


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(cluster: dict[str, str], drawn_cells: Path) -> Start:
    def started(out: Path, *options: str) -> "subprocess.Popen[str]":
        command = [
            sys.executable,
            "-c",
            HEARING_CTRL_C,
            *_PLAN,
            "--data",
            f"synthetic={drawn_cells}",
            "--out",
            str(out),
        ]
        return subprocess.Popen([*command, *options], env=cluster, stderr=subprocess.PIPE, text=True)

    return started


def _until(is_so: Callable[[], object]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.2)


def _claimed(out: Path) -> list[Path]:
    return list((out / ".claims").glob("synthetic_*.json"))


def _same(one: Path, other: Path) -> None:
    assert contents(one)
    for name in ("metrics.json", "spec.json"):
        assert contents(one, name) == contents(other, name)
    tables = [{path.parent.name: path.read_bytes() for path in root.glob("[!.]*/*.parquet")} for root in (one, other)]
    assert tables[0] == tables[1]


def test_jobs_give_the_files_of_one_process_though_one_is_cancelled_and_one_queued_again(
    start: Start, cluster: dict[str, str], tmp_path: Path
):
    plan = ("--method", "lora", "--steps", "150", "--checkpoint-minutes", "60")
    alone = start(tmp_path / "alone", *plan, "--quiet")
    assert alone.communicate(timeout=_PATIENCE_SECONDS)[1].endswith("--out report\n")
    out = tmp_path / "runs"
    process = start(out, *plan, "--engine", "slurm", "--workers", "2", "--slurm", "partition=test", "time=10")
    _until(lambda: len(_claimed(out)) == 2)
    job = max(states(cluster)).partition("_")[0]
    ask(["scancel", f"{job}_1"], cluster)
    ask(["scancel", "--signal=USR1", "--batch", f"{job}_0"], cluster)  # as near the time limit
    log = next(out.glob(".slurm-*")) / f"{job}_0.log"
    _until(lambda: "stopped by a signal" in log.read_text())
    assert list((out / ".training").iterdir())
    _until(lambda: states(cluster)[f"{job}_0"] == "PENDING")
    time.sleep(3)  # a node refuses the credential of a job that it ended within the same second
    ask(["scontrol", "update", f"JobId={job}_0", "StartTime=now"], cluster)  # SLURM lets it wait for two minutes
    said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert (process.returncode, f"SLURM job {job}_1: CANCELLED" in said) == (0, True), said + log.read_text()
    assert states(cluster)[f"{job}_0"] == "COMPLETED"
    _same(out, tmp_path / "alone")
    assert list((out / ".claims").iterdir()) == list((out / ".training").iterdir()) == []
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_ctrl_c_cancels_the_jobs(start: Start, cluster: dict[str, str], tmp_path: Path):
    process = start(
        tmp_path / "runs", "--steps", "4000", "--engine", "slurm", "--workers", "1", "--slurm", "partition=test"
    )
    before = set(states(cluster))
    _until(lambda: set(states(cluster)) - before)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert (process.returncode, "stopped" in said) == (130, True), said
    (task,) = set(states(cluster)) - before
    _until(lambda: states(cluster)[task] == "CANCELLED")


def test_an_unknown_partition_is_one_line(start: Start, tmp_path: Path):
    process = start(tmp_path / "runs", "--quiet", "--engine", "slurm", "--workers", "2", "--slurm", "partition=nowhere")
    said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert process.returncode == 2
    assert said.splitlines() == [
        "cytolora: sbatch refused the job: invalid partition specified: nowhere; Batch job submission failed: Invalid "
        "partition name specified. Nothing was started."
    ]


def test_the_batch_file_of_the_guide_works_as_printed(cluster: dict[str, str], drawn_cells: Path, tmp_path: Path):
    guide = (Path(__file__).parents[3] / "docs" / "scale.md").read_text()
    script = "#!/bin/bash" + guide.partition("#!/bin/bash")[2].partition("```")[0]
    line = next(line for line in script.splitlines() if line.startswith("cytolora run"))
    assert (
        script.partition("trap")[2].splitlines()[2:] == SCRIPT.format(command=line.removesuffix(" &")).splitlines()[3:]
    )
    plan = f"smoke --method linear --shots 1 --seeds 1 --threads 1 --data synthetic={drawn_cells} --out runs"
    program = f"{sys.executable} -c 'from cytolora.cli.app import main; main()'"
    text = script.replace(line, f"{program} run {plan} &").replace("--partition=gpu --gres=gpu:1", "--partition=test")
    file = tmp_path / "sweep.sh"
    file.write_text(text.replace("--cpus-per-task=8 --mem=32G", "").replace("--array=1-8", "--array=1-2"))
    job = subprocess.run(
        ["sbatch", "--parsable", str(file)], cwd=tmp_path, env=cluster, capture_output=True, text=True, check=True
    ).stdout.strip()
    _until(
        lambda: [state for task, state in states(cluster).items() if task.startswith(f"{job}_")] == ["COMPLETED"] * 2
    )
    assert contents(tmp_path / "runs")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_and_a_link_are_refused(tmp_path: Path):
    folder = _log_folder(tmp_path)
    os.chown(folder, 65534, 65534)
    with pytest.raises(EngineError, match="is not a folder of this user"):
        _log_folder(tmp_path)
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(EngineError, match="is not a folder of this user"):
        _log_folder(tmp_path)


def test_shards_by_jobs_are_those_of_one_process(cluster: dict[str, str], tmp_path: Path):
    write_synthetic(tmp_path / "cells", num_images=200, num_slides=4, seed=0)
    command = [sys.executable, "-m", "cytolora", "embed", str(tmp_path / "cells"), "--unlabelled", "--model", "nano"]
    command += ["--threads", "1", "--shard-size", "64", "--out"]

    def embedded(out: Path, *options: str) -> str:
        done = subprocess.run([*command, out, *options], env=cluster, capture_output=True, text=True, check=False)
        return f"{done.returncode}: {done.stderr}"

    assert embedded(tmp_path / "alone").startswith("0: ")
    engine = ("--engine", "slurm", "--workers", "2", "--slurm")
    refused = embedded(tmp_path / "jobs", *engine, "partition=nowhere")
    assert refused.startswith("2: ")
    assert "invalid partition specified: nowhere" in refused
    said = embedded(tmp_path / "jobs", *engine, "partition=test", "time=10")
    assert said.startswith("0: ")
    assert "of 2 tasks" in said
    parts = [sorted(folder.glob("part-*.parquet")) for folder in (tmp_path / "alone", tmp_path / "jobs")]
    assert [path.name for path in parts[0]] == [path.name for path in parts[1]]
    assert len(parts[0]) == 4
    assert [path.read_bytes() for path in parts[0]] == [path.read_bytes() for path in parts[1]]
    assert read_json((tmp_path / "jobs" / "_manifest.json").read_text())["is_complete"] is True
    assert sorted(path.name for path in (tmp_path / "jobs").glob(".*") if path.is_dir())[0].startswith(".slurm-")
    (log,) = (tmp_path / "jobs").glob(".slurm-*")
    assert len(list(log.iterdir())) == 2


def test_a_job_trains_a_run_in_several_processes(start: Start, tmp_path: Path):
    plan = ("--method", "lora", "--seeds", "1", "--steps", "3", "--gpus-per-run", "2")
    out = tmp_path / "runs"
    process = start(out, *plan, "--engine", "slurm", "--workers", "1", "--slurm", "partition=test", "time=10")
    said = process.communicate(timeout=_PATIENCE_SECONDS)[1]
    assert process.returncode == 0, said
    found = [read_json((out / run.run_id / "provenance.json").read_text())["processes"] for run in Store(out).runs()]
    assert found
    assert set(found) == {2}
