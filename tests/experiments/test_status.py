"""Status of a store, and its failed runs: what is done, running, waiting and failed, and what is tried again."""

import errno
import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from read_only import read_only

from cells import tiny_grid
from cytolora.api.grids import run_grid
from cytolora.cli.app import main
from cytolora.core.progress import SILENT
from cytolora.errors import DataError, EngineError, StoreError, WeightsError
from cytolora.experiments import execute as run_module
from cytolora.experiments import failures as failures_module
from cytolora.experiments.claims import claimed, of_features
from cytolora.experiments.expand import expand
from cytolora.experiments.failures import attempt, failures, lasting
from cytolora.experiments.planned import write_planned
from cytolora.experiments.status import _interval, status_of
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

GRID = tiny_grid(methods=["linear"])
IDS = [run.run_id for run in expand(GRID)]


def planned_store(root: Path, done: int = 0) -> Store:
    """A store with a plan of four runs, some of which are there by name."""
    store = Store(root)
    write_planned(store, IDS)
    for name in IDS[:done]:
        (root / name).mkdir()
    return store


def run_cells(cells: Path, out: Path, **options: Any) -> None:
    run_grid(GRID, Inputs(data={"synthetic": cells}), out, progress=SILENT, **options)


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == code
    output = capsys.readouterr()
    return output.err if code else output.out


def test_runs_are_done_running_and_waiting_and_nothing_is_counted_twice(tmp_path: Path):
    planned_store(tmp_path, done=1)
    with claimed(tmp_path, IDS[1], [IDS[1]]), claimed(tmp_path, "test_x", [IDS[0]]):
        found = status_of(tmp_path)
    assert (found.planned, found.done, found.running_runs, found.waiting, found.failed_runs) == (4, 1, 1, 2, 0)
    assert [(one.name, one.runs, one.pid) for one in found.running] == [
        (IDS[1], 1, os.getpid()),
        ("test_x", 0, os.getpid()),
    ]
    assert all(0 <= one.heartbeat_seconds < 10 for one in found.running)
    assert status_of(tmp_path).waiting == 3


def test_throughput_and_time_left_come_from_what_was_finished_since_the_command_began(tmp_path: Path):
    planned_store(tmp_path, done=3)
    (plan,) = (tmp_path / ".planned").iterdir()
    now = time.time()
    os.utime(plan, (now - 600, now - 600))
    os.utime(tmp_path / IDS[0], (now - 4000, now - 4000))  # before it began
    with claimed(tmp_path, IDS[3], [IDS[3]]):
        found = status_of(tmp_path)
    assert found.runs_per_hour == pytest.approx(12, rel=0.02)
    assert found.seconds_left == pytest.approx(300, rel=0.02)
    assert found.seconds_left_range is not None
    low, high = found.seconds_left_range
    assert low < 300 < high
    idle = status_of(tmp_path)
    assert (idle.runs_per_hour, idle.seconds_left, idle.left) == (None, None, 1)


@pytest.mark.parametrize(
    ("finished", "low", "high"), [(1, 0.0253, 5.572), (2, 0.2422, 7.225), (5, 1.623, 11.668), (20, 12.217, 30.888)]
)
def test_the_range_is_the_poisson_interval(finished: int, low: float, high: float):
    """The exact one, by chi-square."""
    shortest, longest = _interval(finished, 100, 10)
    assert shortest == pytest.approx(1000 / high, rel=0.02)
    assert longest == pytest.approx(1000 / max(low, 0.05), rel=0.5 if finished == 1 else 0.1)


@pytest.mark.slow
def test_a_run_notes_its_plan_and_its_end_leaves_nothing_to_do(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run_cells(drawn_cells, tmp_path / "runs")
    text = said(capsys, "status", tmp_path / "runs")
    assert text == "4 of 4 runs done, 0 running, 0 waiting, 0 failed.\n"
    found = json.loads(said(capsys, "status", tmp_path / "runs", "--json"))
    assert (found["planned"], found["done"], found["running"], found["failed"]) == (4, 4, [], [])
    assert said(capsys, "status", tmp_path / "runs", "--watch") == text


def test_status_names_the_worker_and_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    planned_store(tmp_path, done=1)
    idle = said(capsys, "status", tmp_path)
    assert "1 of 4 runs done, 0 running, 3 waiting, 0 failed.\nNo command is at work: the same `cytolora run`" in idle
    with claimed(tmp_path, "features_x", IDS):
        text = said(capsys, "status", tmp_path)
    assert "0 waiting" in text
    assert f"running  features_x (3 runs): {failures_module.Owner.this_process()}, seen 0 s ago" in text


@pytest.mark.parametrize(("hours", "at_work"), [(-1, 1), (0, 1), (1, 0)])
def test_who_may_not_write_is_told_that_times_are_of_the_own_clock(
    hours: int, at_work: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    planned_store(tmp_path, done=1)
    now, elsewhere = time.time_ns(), replace(failures_module.Owner.this_process(), host="node7", machine="another")
    monkeypatch.setattr(failures_module.Owner, "this_process", lambda: elsewhere)
    with claimed(tmp_path, IDS[1], [IDS[1]]):
        assert "clock" not in said(capsys, "status", tmp_path)
        with read_only(tmp_path), monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda: now + hours * 3600 * 10**9)
            text = said(capsys, "status", tmp_path)
    assert f"{at_work} running" in text
    assert "times are by this machine's clock" in text


def test_claims_that_may_not_be_read_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    planned_store(tmp_path)
    (tmp_path / ".claims").mkdir()
    listed = Path.iterdir

    def refusing(path: Path) -> Iterator[Path]:
        if path.name == ".claims":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", refusing)  # tests may run as a user who may read all
    with pytest.raises(StoreError, match=r"Cannot read .*\.claims: Permission denied\. Make it readable"):
        status_of(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("nowhere",), "No folder"),
        ((".", "--watch", "--json"), "give one of them"),
    ],
)
def test_status_of_what_is_no_store_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
):
    text = said(capsys, "status", tmp_path / arguments[0], *arguments[1:], code=2)
    assert line in text
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 1}',
        '{"version": 9, "runs": []}',
        '{"version": 1, "runs": [3]}',
        '{"version": 1, "runs": "one"}',
    ],
)
def test_a_damaged_plan_is_named(tmp_path: Path, content: str):
    planned_store(tmp_path)
    (plan,) = (tmp_path / ".planned").iterdir()
    plan.write_text(content)
    with pytest.raises(StoreError, match=r"planned runs in .*\.json: .*Remove it"):
        status_of(tmp_path)


@pytest.mark.slow
def test_a_run_that_fails_for_its_data_is_recorded_and_not_tried_again_until_asked(
    drawn_cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    out, calls, error = tmp_path / "runs", list[str](), DataError("cell.png is no image.")
    real = run_module._on_frozen_features

    def failing(*arguments: Any) -> None:
        calls.append("tried")
        raise error

    monkeypatch.setattr(run_module, "_on_frozen_features", failing)
    with pytest.raises(DataError):
        run_cells(drawn_cells, out)
    assert len(calls) == 1  # such a cause does not pass
    (failure,) = failures(out)
    assert (failure.reason, failure.attempts, failure.is_lasting) == (str(error), 1, True)
    assert set(failure.runs) == set(IDS)
    assert "0 running, 0 waiting, 4 failed" in (text := said(capsys, "status", out))
    assert f"failed   {failure.name} (4 runs): {error} ({failure.at}, {failure.by})" in text
    monkeypatch.setattr(run_module, "_on_frozen_features", real)
    with pytest.raises(
        StoreError, match=r"4 runs failed before, .* the same since: .*\. Their settings .*--retry-failed"
    ):
        run_cells(drawn_cells, out)
    assert list(Store(out).runs()) == []
    run_cells(drawn_cells, out, retry_failed=True)
    assert len(list(Store(out).runs())) == 4
    assert failures(out) == []


@pytest.mark.slow
def test_a_failed_run_is_tried_again_when_its_data_have_changed(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import shutil

    cells, out = shutil.copytree(drawn_cells, tmp_path / "cells"), tmp_path / "runs"
    bad = sorted(cells.rglob("*.png"))[0]
    good = bad.read_bytes()
    bad.write_bytes(b"no image")
    for match in ("no image|Cannot read", "failed before"):
        with pytest.raises((DataError, StoreError), match=rf"(?s).*({match})"):
            run_cells(cells, out)
    bad.write_bytes(good)
    run_cells(cells, out)
    assert len(list(Store(out).runs())) == 4


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_lacks_memory_is_tried_twice_again(
    tmp_path: Path, error: Exception, times: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failures_module, "_free_memory", lambda: freed.append("freed"))
    freed: list[str] = []
    store, runs, calls = Store(tmp_path), expand(GRID), list[str]()

    def work() -> None:
        calls.append("tried")
        if len(calls) <= times:
            raise error

    if times < 3:
        attempt(store, Inputs(data={}), "x", runs, work)
        assert failures(tmp_path) == []
    else:
        with pytest.raises(EngineError, match=r"Too little memory for x, 3 times: .*fewer --workers"):
            attempt(store, Inputs(data={}), "x", runs, work)
        (failure,) = failures(tmp_path)
        assert (failure.attempts, failure.is_lasting, failure.runs) == (3, False, tuple(IDS))
    assert len(calls) == min(times + 1, 3)
    assert len(freed) == len(calls) - 1
    assert list((tmp_path / ".claims").iterdir()) == []


def test_work_that_succeeds_forgets_that_it_failed(tmp_path: Path):
    store, runs = Store(tmp_path), expand(GRID)
    with pytest.raises(WeightsError):
        attempt(store, Inputs(data={}), "x", runs, partial(_raise, WeightsError("model.bin is damaged.")))
    (failure,) = failures(tmp_path)
    assert (failure.reason, failure.is_lasting, failure.attempts) == ("model.bin is damaged.", True, 1)
    attempt(store, Inputs(data={}), "x", runs, lambda: None)
    assert failures(tmp_path) == []


def test_an_unknown_error_is_recorded_with_the_last_line_of_its_stack_trace_and_does_not_last(tmp_path: Path):
    with pytest.raises(ZeroDivisionError):
        attempt(
            Store(tmp_path), Inputs(data={}), "x", expand(GRID), partial(_raise, ZeroDivisionError("of a\nprogram"))
        )
    (failure,) = failures(tmp_path)
    assert failure.reason == "ZeroDivisionError: of a program"
    assert not failure.is_lasting
    assert lasting(Store(tmp_path), Inputs(data={}), expand(GRID)) == []


def _raise(error: Exception) -> None:
    raise error


@pytest.mark.slow
def test_ctrl_c_is_no_failure_and_leaves_no_claim(drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stopped(*arguments: Any) -> None:
        assert list((tmp_path / ".claims").iterdir())
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "score_chosen", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_cells(drawn_cells, tmp_path)
    assert failures(tmp_path) == []
    assert list((tmp_path / ".claims").iterdir()) == []


def test_a_unit_whose_workers_died_is_recorded_as_lost(drawn_cells: Path, tmp_path: Path):
    from cytolora.experiments.engines.driver import open_units
    from cytolora.experiments.plan import make_plan

    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path)
    units = open_units(make_plan(GRID, store, inputs).jobs, inputs, store, SILENT)
    (unit,) = units.waiting
    for _ in range(2):
        units.lost(unit, "ended by SIGKILL")
        assert failures(tmp_path) == []
    with pytest.raises(EngineError, match="3 workers died"):
        units.lost(unit, "ended by SIGKILL")
    (failure,) = failures(tmp_path)
    assert failure.reason == "its workers died, the last: ended by SIGKILL"
    assert (failure.attempts, failure.is_lasting, set(failure.runs)) == (3, False, set(IDS))
    run = expand(GRID)[0]
    assert failure.name == of_features(run.dataset, run.backbone, run.split)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"version": 1}', b'{"version": 2}', b"\xff", b'{"version": 1, "x": 0}']
)
def test_a_damaged_record_of_a_failure_is_passed_over(tmp_path: Path, content: bytes):
    (tmp_path / ".failed").mkdir()
    (tmp_path / ".failed" / "x.json").write_bytes(content)
    assert failures(tmp_path) == []
