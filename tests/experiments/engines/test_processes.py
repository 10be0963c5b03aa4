"""Several processes of one machine: the numbers of one process, whoever of them dies."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from child_processes import HEARING_CTRL_C, below, is_alive
from stand_in_runs import run_and_its_test_set, units_of
from stand_in_workers import STAND_IN, run_units

from cells import run_all, tiny_grid
from cytolora.api.grids import run_grid
from cytolora.cli.app import main
from cytolora.core.progress import SILENT
from cytolora.errors import ConfigError, EngineError
from cytolora.experiments.engines import processes
from cytolora.experiments.engines.pool import Pool, WorkerDiedError, WorkerStoppedError
from cytolora.experiments.engines.processes import ProcessCrew, sized
from cytolora.experiments.engines.registry import chosen_engine
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_worker_that_is_killed_is_replaced_and_its_unit_done(crew: ProcessCrew):
    units = run_units(crew, "die", "other")
    assert len(crew.processes) == 2
    assert [unit.key[0] for unit in units.attempts] == ["die"]


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_worker_that_dies_while_it_is_idle_is_replaced(crew: ProcessCrew):
    worker = crew.new()
    assert crew.wait([crew.start(worker)], 30) == [worker]
    worker.popen.kill()
    until = time.monotonic() + 30
    while not worker.is_gone and time.monotonic() < until:
        assert crew.wait([], 0.1) == []
    unit = units_of("one").waiting[0]
    assert crew.wait([crew.work(worker, unit)], 30) == [worker]
    with pytest.raises(WorkerDiedError, match="ended by SIGKILL"):
        crew.result(worker)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_worker_ends_its_work_at_a_boundary_when_the_command_asks_and_heeds_no_signal_itself(crew: ProcessCrew):
    worker = crew.new()
    assert crew.wait([crew.start(worker)], 30) == [worker]
    crew.work(worker, units_of("until asked").waiting[0])
    os.kill(worker.popen.pid, signal.SIGUSR1)  # a batch system may send it to all processes of a job
    assert crew.wait([worker], 0.2) == []
    crew.ask_to_stop()
    while not crew.wait([worker], 30):
        pass
    with pytest.raises(WorkerStoppedError):
        crew.result(worker)


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
@pytest.mark.slow
def test_three_workers_that_are_killed_while_idle_do_not_end_the_run(crew: ProcessCrew, tmp_path: Path):
    units = run_and_its_test_set("until told")
    pool = Pool(crew=crew, units=units, progress=SILENT)

    def kill_idle() -> None:
        while len(pool.idle) < 3:
            time.sleep(0.01)
        for worker, _ in list(pool.idle):
            worker.popen.kill()
            worker.popen.wait(30)
        (tmp_path / "died").touch()

    killing = Thread(target=kill_idle, daemon=True)
    killing.start()
    pool.run(4)
    killing.join(30)
    assert not units.waiting
    assert not units.attempts
    assert len(crew.processes) == 7


@pytest.mark.slow
def test_a_worker_that_closes_its_pipe_and_stays_is_ended_and_replaced(
    crew: ProcessCrew, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "_END_SECONDS", 0.1)
    why = r"3 workers died at .*the last: its pipe was closed, and it did not end within 0\.1 s"
    with pytest.raises(EngineError, match=why):
        run_units(crew, "close and stay")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts what is open through /proc")
@pytest.mark.slow
def test_a_run_leaves_no_pipe_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "_STARTS", STAND_IN)
    before = set(Path("/proc/self/fd").iterdir())
    crew = ProcessCrew(setup=pickle.dumps(str(tmp_path / "died")), gpus=())
    run_units(crew, "one", "die", "two", workers=2)
    assert len(list(Path("/proc/self/fd").iterdir())) > len(before)
    crew.end()
    assert set(Path("/proc/self/fd").iterdir()) == before


def test_a_process_that_the_system_does_not_end_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "_STARTS", STAND_IN)
    crew = ProcessCrew(setup=pickle.dumps(str(tmp_path / "died")), gpus=())
    workers = [crew.new(), crew.new()]
    waits = workers[0].popen.wait

    def never(seconds: float) -> int:
        raise subprocess.TimeoutExpired("worker", seconds)

    monkeypatch.setattr(workers[0].popen, "wait", never)
    crew.end()
    assert workers[1].popen.poll() is not None
    waits(10)


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_ends_the_run_with_the_last_reason(crew: ProcessCrew):
    with pytest.raises(EngineError, match=r"3 workers died at .*no memory is left.*fewer --workers"):
        run_units(crew, "always die")


@pytest.mark.slow
def test_workers_that_die_at_the_start_are_tried_three_times(crew: ProcessCrew, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "_STARTS", "{path!r}; raise SystemExit('no such package')")
    with pytest.raises(EngineError, match="3 workers died while they started, the last: exit code 1, no such package"):
        run_units(crew, "one")


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    program = f"""
import pickle, sys
from cytolora.experiments.engines import processes
from cytolora.experiments.engines.pool import Pool
from cytolora.experiments.engines.units import Unit, Units
from cytolora.core.progress import SILENT
processes._STARTS = {STAND_IN!r}
crew = processes.ProcessCrew(setup=pickle.dumps({str(tmp_path / "died")!r}), gpus=())
Pool(crew=crew, units=Units(waiting=[Unit(key=("wait", "nano"), settings=(), cost=1)]), progress=SILENT).run(1)
"""
    driver = subprocess.Popen([sys.executable, "-c", program])
    try:
        _wait_until(lambda: (tmp_path / "died").exists(), driver)
        (worker,) = below(driver.pid)
        assert is_alive(worker)  # at work
    finally:
        driver.kill()
        driver.wait(10)
    _wait_until(lambda: not is_alive(worker))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_ctrl_c_ends_the_command_and_its_workers_and_keeps_what_is_finished(drawn_cells: Path, tmp_path: Path):
    runs = tmp_path / "runs"
    plan = ("smoke", "--method", "lora", "--shots", "2", "--seeds", *map(str, range(1, 9)), "--learning-rates", "0.01")
    command = ("run", *plan, "--steps", "60", "--data", f"synthetic={drawn_cells}", "--workers", "2", "--quiet")
    driver = subprocess.Popen(
        [sys.executable, "-c", HEARING_CTRL_C, *command, "--out", str(runs)],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _wait_until(lambda: any(runs.glob("[!.]*/metrics.json")), driver)
        workers = below(driver.pid)
        assert len(workers) == 2
        assert all(map(is_alive, workers))
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
        _, said = driver.communicate(timeout=60)
    finally:
        driver.kill()
    assert driver.returncode == 130
    assert said.decode().strip() == "cytolora: stopped. Finished work is kept; the same command resumes."
    _wait_until(lambda: not any(map(is_alive, workers)))
    kept = list(Store(runs).runs())
    assert 0 < len(kept) < 8
    assert all(run.metrics["val"] for run in kept)


def _wait_until(holds: Callable[[], bool], driver: "subprocess.Popen[bytes] | None" = None) -> None:
    until = time.monotonic() + 90
    while not holds():
        assert driver is None or driver.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("count", "threads", "cpus", "expected"),
    [(None, 1, 8, (8, 1)), (None, 4, 8, (2, 4)), (None, 16, 8, (1, 8)), (2, 8, 8, (2, 4)), (3, 1, 2, (3, 1))],
)
def test_workers_times_threads_are_no_more_than_the_machine_has(
    count: int | None, threads: int, cpus: int, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(processes, "num_cpus", lambda: cpus)
    assert sized(Workers(count=count), torch.device("cpu"), threads) == expected


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("cpu", "0,1", []),
        ("cuda", None, ["0", "1", "2", "3"]),
        ("cuda", "2, GPU-5f", ["2", "GPU-5f"]),
        ("cuda:1", "2,7", ["7"]),
        ("cuda:3", None, ["3"]),
    ],
)
def test_workers_take_the_gpus_that_this_process_may_use(
    device: str, visible: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes.gpus_of(torch.device(device)) == expected
    if device != "cpu":
        assert sized(Workers(), torch.device(device), 1)[0] == len(expected)


@pytest.mark.parametrize(
    ("visible", "count", "expected"),
    [
        ("0,1,2,3", 2, ["0", "1"]),  # more names than GPUs
        ("1,0", 2, ["1", "0"]),
        ("0,-1,1", 1, ["0"]),  # CUDA reads no further than the first name that is none
        ("1,7,0", 1, ["1"]),
        ("0,,1", 1, ["0"]),
        (" 1 , 0 ", 2, ["1", "0"]),
        ("-1", 0, []),
        ("", 0, []),
        ("NoDevFiles", 0, []),
        ("0,0", 0, []),  # for CUDA a name that comes twice leaves none
        ("GPU-77bb,GPU-5f00", 2, ["GPU-77bb", "GPU-5f00"]),
        ("GPU-77,GPU-not-there,GPU-5f", 1, ["GPU-77"]),
        ("MIG-1a,MIG-2b", 2, ["MIG-1a", "MIG-2b"]),
    ],
)
def test_of_the_gpus_that_are_named_those_are_taken_that_cuda_counts(
    visible: str, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
):
    """The counts are those of torch 2.15 on a machine with the GPUs 0 (GPU-5f00aa) and 1 (GPU-77bb)."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert processes.gpus_of(torch.device("cuda")) == expected
    assert processes.gpus_of(torch.device("cuda:1")) == expected[1:2]


def test_without_a_name_the_engine_is_the_one_that_is_asked_for():
    assert chosen_engine(None, THIS_PROCESS).name == "inline"
    assert chosen_engine(None, Workers(count=2)).name == "processes"
    assert chosen_engine(None, Workers(address="127.0.0.1:1")).name == "ray"
    assert chosen_engine("ray", Workers(count=2)).name == "ray"
    with pytest.raises(ConfigError, match="--address is for --engine ray, not processes"):
        chosen_engine("processes", Workers(address="127.0.0.1:1"))
    with pytest.raises(ConfigError, match="--workers is for --engine processes, ray or slurm; inline is this process"):
        chosen_engine("inline", Workers(count=2))


@pytest.fixture(scope="module")
def inline(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small grid, run in this process."""
    runs = tmp_path_factory.mktemp("inline") / "runs"
    run_all(tiny_grid(), drawn_cells, runs)
    return runs


def _results(runs: Path) -> dict[str, bytes]:
    names = ("metrics.json", "spec.json", "predictions.parquet")
    return {str(path.relative_to(runs)): path.read_bytes() for name in names for path in runs.glob(f"[!.]*/{name}")}


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_from_a_script_without_a_guard(
    inline: Path, drawn_cells: Path, tmp_path: Path
):
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
from pathlib import Path
from cells import tiny_grid
from cytolora.api.grids import run_grid
from cytolora.experiments.engines.workers import Workers
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs
import torch
torch.set_num_threads(1)
print("once")
run_grid(tiny_grid(), Inputs(data={{"synthetic": Path({str(drawn_cells)!r})}}), Path("runs"), workers=Workers(count=2))
""")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "once\n"
    assert _results(tmp_path / "runs") == _results(inline)


@pytest.mark.slow
def test_a_bad_image_is_one_line_and_no_process_is_left(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import shutil

    cells = shutil.copytree(drawn_cells, tmp_path / "cells")
    bad = sorted(cells.rglob("*.png"))[0]
    bad.write_bytes(b"no image")
    with pytest.raises(SystemExit) as exit_:
        main(
            [
                "run",
                "smoke",
                "--method",
                "linear",
                "--shots",
                "1",
                "--data",
                f"synthetic={cells}",
                "--workers",
                "2",
                "--quiet",
                "--out",
                str(tmp_path / "runs"),
            ]
        )
    assert exit_.value.code == 2
    assert bad.name in capsys.readouterr().err
    assert not [line for line in below(os.getpid()).values() if "process_worker" in line]


@pytest.mark.slow
def test_a_run_whose_workers_are_killed_again_and_again_ends_with_the_same_numbers(
    inline: Path, drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed: list[int] = []

    class Watched(Pool):
        def _take_in(self, promise: Any) -> None:
            super()._take_in(promise)
            if self.busy and len(killed) < 2:
                victim = next(iter(self.busy))
                os.kill(victim.popen.pid, signal.SIGKILL)
                killed.append(victim.popen.pid)

    monkeypatch.setattr(processes, "Pool", Watched)
    run_grid(
        tiny_grid(),
        Inputs(data={"synthetic": drawn_cells}),
        tmp_path / "runs",
        progress=SILENT,
        workers=Workers(count=2),
    )
    assert len(killed) == 2
    assert _results(tmp_path / "runs") == _results(inline)
