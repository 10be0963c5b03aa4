"""Several processes of one machine: the numbers of one process, whoever of them dies."""

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from child_processes import below
from stand_in_runs import run_and_its_test_set, units_of

from cells import run_all, tiny_grid
from cytolora.api.grids import run_grid
from cytolora.cli.app import main
from cytolora.core.findings import RefusedDataError
from cytolora.core.progress import SILENT
from cytolora.errors import ConfigError, DataError, EngineError
from cytolora.experiments.engines import processes
from cytolora.experiments.engines.pool import Pool, WorkerDiedError
from cytolora.experiments.engines.processes import ProcessCrew, sized
from cytolora.experiments.engines.registry import chosen_engine
from cytolora.experiments.engines.units import Units
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers
from cytolora.training.resources import Inputs

_STAND_IN = """
import os, signal, sys, time
sys.path[:] = {path!r}
sys.modules['cytolora.experiments.engines.worker'] = own = type(sys)('worker')
class Worker:
    def __init__(self, setup): self.setup = setup
    def start(self): print('a library prints', flush=True)
    def work(self, unit):
        key = unit.key[0]
        if key == 'die' and not os.path.exists(self.setup):
            open(self.setup, 'w').close()
            os.kill(os.getpid(), signal.SIGKILL)
        if key == 'always die': sys.exit('no memory is left')
        if key == 'refuse':
            from cytolora.errors import DataError
            raise DataError('cell.png is no image.')
        if key == 'refuse with a code':
            from cytolora.core.findings import RefusedDataError
            raise RefusedDataError('D509', 'Some images have a subset.')
        if key == 'full disk': raise OSError(28, 'No space left on device', 'runs/metrics.json')
        if key == 'read-only disk': raise OSError(30, 'Read-only file system', 'runs/metrics.json')
        if key == 'unreachable': raise OSError(107, 'Transport endpoint is not connected')
        if key == 'broken pipe': raise BrokenPipeError(32, 'Broken pipe')
        if key == 'no package': raise ModuleNotFoundError("No module named 'peft'", name='peft')
        if key == 'odd error':
            class OddError(OSError):
                def __init__(self, one, *, two): super().__init__(one)
            raise OddError('of a kind of its own', two=2)
        if key == 'fail': raise ZeroDivisionError('of a programmer')
        if key == 'wait': time.sleep(60)
        while key == 'until told' and not os.path.exists(self.setup): time.sleep(0.02)
        return 7
own.Worker = Worker
from cytolora.experiments.engines.process_worker import main
main()
"""
"""A worker without torch, which does what the dataset's name says."""


@pytest.fixture
def crew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessCrew]:
    monkeypatch.setattr(processes, "_STARTS", _STAND_IN)
    made = ProcessCrew(setup=pickle.dumps(str(tmp_path / "died")), gpus=())
    yield made
    made.end()
    assert all(process.popen.poll() is not None for process in made.processes)


def _run(crew: ProcessCrew, *names: str, workers: int = 1) -> Units:
    units = units_of(*names)
    Pool(crew=crew, units=units, progress=SILENT).run(workers)
    assert not units.waiting
    return units


def test_units_are_done_and_what_a_library_prints_is_no_answer(crew: ProcessCrew):
    _run(crew, "one", "two", "three", workers=2)
    assert len(crew.processes) == 2


@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_a_worker_that_is_killed_is_replaced_and_its_unit_done(crew: ProcessCrew):
    units = _run(crew, "die", "other")
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
def test_a_unit_that_kills_every_worker_ends_the_run_with_the_last_reason(crew: ProcessCrew):
    with pytest.raises(EngineError, match=r"3 workers died at .*no memory is left.*fewer --workers"):
        _run(crew, "always die")


def test_what_a_worker_refuses_is_the_error_of_the_run(crew: ProcessCrew):
    with pytest.raises(DataError, match=r"^cell\.png is no image\.$"):
        _run(crew, "refuse")


def test_what_a_worker_refuses_keeps_its_kind_whatever_its_class_takes(crew: ProcessCrew):
    with pytest.raises(RefusedDataError, match=r"^Some images have a subset\.$") as raised:
        _run(crew, "refuse with a code")
    assert raised.value.code == "D509"


@pytest.mark.parametrize(
    ("dataset", "number", "filename"),
    [
        ("full disk", errno.ENOSPC, "runs/metrics.json"),
        ("read-only disk", errno.EROFS, "runs/metrics.json"),
        ("unreachable", errno.ENOTCONN, None),
    ],
)
def test_an_error_of_the_system_in_a_worker_is_the_drivers_with_its_place(
    crew: ProcessCrew, dataset: str, number: int, filename: str | None
):
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        _run(crew, dataset)
    assert (raised.value.errno, raised.value.filename) == (number, filename)
    assert "in work" in raised.value.__notes__[0]


def test_a_package_that_a_worker_lacks_is_named_by_the_driver(crew: ProcessCrew):
    with pytest.raises(ModuleNotFoundError) as raised:
        _run(crew, "no package")
    assert raised.value.name == "peft"


@pytest.mark.parametrize(("dataset", "said"), [("broken pipe", "Broken pipe"), ("odd error", "of a kind of its own")])
def test_an_error_that_the_driver_cannot_raise_as_its_own_is_a_fault_with_its_stack_trace(
    crew: ProcessCrew, dataset: str, said: str
):
    with pytest.raises(RuntimeError, match=rf"A worker failed:\n(.|\n)*{said}"):
        _run(crew, dataset)


@pytest.mark.parametrize(
    ("dataset", "line"),
    [
        ("full disk", "cytolora: Cannot write runs/metrics.json: No space left on device. Make room, and run the same"),
        ("read-only disk", "cytolora: Cannot write runs/metrics.json: Read-only file system. Name a folder on a disk"),
        ("no package", "cytolora: This command needs peft, which is not installed here."),
    ],
)
def test_run_says_in_one_line_what_a_worker_lacks(
    dataset: str,
    line: str,
    crew: ProcessCrew,
    drawn_cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(processes, "worker_setup", lambda *_, **__: str(tmp_path / "died"))
    monkeypatch.setattr(processes, "open_units", lambda *_: units_of(dataset))
    options = ("--shots", "1", "--data", f"synthetic={drawn_cells}", "--out", str(tmp_path / "runs"), "--quiet")
    with pytest.raises(SystemExit) as exit_:
        main(["run", "smoke", *options, "--workers", "1"])
    assert exit_.value.code == 2
    assert " ".join(capsys.readouterr().err.split()).startswith(line)


def test_a_fault_of_the_program_keeps_its_stack_trace(crew: ProcessCrew):
    with pytest.raises(RuntimeError, match=r"A worker failed:\n(.|\n)*of a programmer") as raised:
        _run(crew, "fail")
    assert "in work" in str(raised.value)


@pytest.mark.slow
def test_workers_that_die_at_the_start_are_tried_three_times(crew: ProcessCrew, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "_STARTS", "{path!r}; raise SystemExit('no such package')")
    with pytest.raises(EngineError, match="3 workers died while they started, the last: exit code 1, no such package"):
        _run(crew, "one")


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path):
    program = f"""
import pickle, sys
from cytolora.experiments.engines import processes
from cytolora.experiments.engines.pool import Pool
from cytolora.experiments.engines.units import Unit, Units
from cytolora.core.findings import RefusedDataError
from cytolora.core.progress import SILENT
processes._STARTS = {_STAND_IN!r}
crew = processes.ProcessCrew(setup=pickle.dumps({str(tmp_path / "died")!r}), gpus=())
Pool(crew=crew, units=Units(waiting=[Unit(key=("wait", "nano"), settings=(), cost=1)]), progress=SILENT).run(1)
"""
    driver = subprocess.Popen([sys.executable, "-c", program])
    try:
        until = time.monotonic() + 60
        while not (started := below(driver.pid)):
            assert driver.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        time.sleep(0.5)
    finally:
        driver.kill()
        driver.wait(10)
    until = time.monotonic() + 20
    while any(Path(f"/proc/{number}").exists() for number in started):
        assert time.monotonic() < until
        time.sleep(0.1)


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
    with pytest.raises(ConfigError, match="--workers is for --engine processes or ray; inline is this process alone"):
        chosen_engine("inline", Workers(count=2))


def _results(runs: Path) -> dict[str, bytes]:
    names = ("metrics.json", "spec.json", "predictions.parquet")
    return {str(path.relative_to(runs)): path.read_bytes() for name in names for path in runs.glob(f"[!.]*/{name}")}


@pytest.mark.slow
def test_two_processes_give_the_numbers_of_one_from_a_script_without_a_guard(drawn_cells: Path, tmp_path: Path):
    run_all(tiny_grid(), drawn_cells, tmp_path / "inline")
    script = tmp_path / "script.py"
    script.write_text(f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2] / "support")!r})
from pathlib import Path
from cells import tiny_grid
from cytolora.api.grids import run_grid
from cytolora.experiments.engines.workers import Workers
from cytolora.training.resources import Inputs
import torch
torch.set_num_threads(1)
print("once")
run_grid(tiny_grid(), Inputs(data={{"synthetic": Path({str(drawn_cells)!r})}}), Path("runs"), workers=Workers(count=2))
""")
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "once\n"
    assert _results(tmp_path / "runs") == _results(tmp_path / "inline")


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
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run_all(tiny_grid(), drawn_cells, tmp_path / "inline")
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
    assert _results(tmp_path / "runs") == _results(tmp_path / "inline")
