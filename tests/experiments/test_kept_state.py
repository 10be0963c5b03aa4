"""A killed run goes on from the last state of its training, and ends with the bytes of one that nobody killed."""

import json
import logging
import os
import signal
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from adapter_training import ADAPTERS

from cells import contents, tiny_grid
from cytolora.cli.app import main
from cytolora.config.budget import Budget, EarlyStopping
from cytolora.config.grid import GridSpec
from cytolora.config.yaml import load_grid
from cytolora.core import stopping
from cytolora.core.progress import Progress
from cytolora.experiments.engines.inline import run_jobs
from cytolora.experiments.expand import narrowed
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.training import loop
from cytolora.training.resources import Inputs

FILES = ("spec.json", "metrics.json", "predictions.parquet", "weights.safetensors")
NUM_STEPS = 6
WHOLE_RUN = 99


class _Killed(BaseException):
    pass


def _grid(method: str = "lora", rates: tuple[float, ...] = (1e-3,)) -> GridSpec:
    return tiny_grid(methods=[method], seeds=[1], shots=[4], learning_rates=list(rates), max_steps=NUM_STEPS)


def _run(grid: GridSpec, cells: Path, out: Path, *, steps: int = WHOLE_RUN, minutes: float = 0) -> int:
    """Runs a grid until so many optimiser steps were taken; returns how many were taken in this process."""
    taken = 0
    rate_at = loop.rate_at

    def counted(*arguments: object) -> float:
        nonlocal taken
        if taken == steps:
            raise _Killed
        taken += 1
        return rate_at(*arguments)  # pyright: ignore[reportArgumentType]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "rate_at", counted)
        with suppress(_Killed):
            _train(grid, cells, out, minutes)
    return taken


def _train(grid: GridSpec, cells: Path, out: Path, minutes: float) -> None:
    inputs, store = Inputs(data={"synthetic": cells}), Store(out, checkpoint_minutes=minutes)
    jobs = make_plan(grid, store, inputs).jobs
    run_jobs(jobs, inputs, store, device=torch.device("cpu"), progress=Progress())


def _bytes(runs: Path) -> dict[str, bytes]:
    return {str(path.relative_to(runs)): path.read_bytes() for name in FILES for path in runs.glob(f"[!.]*/{name}")}


def _states(runs: Path) -> list[Path]:
    return sorted((runs / ".training").glob("*"))


@pytest.fixture(scope="module")
def whole(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of the run that nobody killed, and that kept no state."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    assert _run(_grid(), drawn_cells, runs, minutes=10) == NUM_STEPS
    assert _states(runs) == []
    return _bytes(runs)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 5])
def test_a_run_killed_after_some_steps_takes_only_the_others_and_ends_with_the_same_bytes(
    drawn_cells: Path, tmp_path: Path, whole: dict[str, bytes], steps: int
):
    assert _run(_grid(), drawn_cells, tmp_path, steps=steps) == steps
    assert len(_states(tmp_path)) == 1
    assert _bytes(tmp_path) == {}
    assert _run(_grid(), drawn_cells, tmp_path) == NUM_STEPS - steps
    assert _bytes(tmp_path) == whole
    assert _states(tmp_path) == []


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_keeps_its_state_though_none_is_due(
    drawn_cells: Path, tmp_path: Path, whole: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    answers = iter([False, False, True])
    monkeypatch.setattr(stopping, "is_asked", lambda: next(answers, False))
    with pytest.raises(stopping.StoppedError):
        _train(_grid(), drawn_cells, tmp_path, minutes=10)
    assert len(_states(tmp_path)) == 1
    assert not [path for folder in (".claims", ".failed") for path in tmp_path.glob(f"{folder}/*")]
    assert _run(_grid(), drawn_cells, tmp_path) == NUM_STEPS - 3
    assert _bytes(tmp_path) == whole


@pytest.mark.slow
def test_a_run_killed_after_every_single_step_ends_with_the_same_bytes(
    drawn_cells: Path, tmp_path: Path, whole: dict[str, bytes]
):
    while not _bytes(tmp_path):
        assert _run(_grid(), drawn_cells, tmp_path, steps=1) <= 1
    assert _bytes(tmp_path) == whole


@pytest.mark.slow
def test_a_search_over_rates_keeps_the_finished_one_and_goes_on_within_the_other(drawn_cells: Path, tmp_path: Path):
    grid = _grid(rates=(1e-3, 1e-2))
    assert _run(grid, drawn_cells, tmp_path / "whole") == 2 * NUM_STEPS
    killed = tmp_path / "killed"
    _run(grid, drawn_cells, killed, steps=NUM_STEPS + 2)
    assert len(contents(killed)) == len(_states(killed)) == 1
    assert _run(grid, drawn_cells, killed) == NUM_STEPS - 2
    assert _bytes(killed) == _bytes(tmp_path / "whole")


def _changed(method: str, early: EarlyStopping | None = None) -> GridSpec:
    grid = narrowed(load_grid("smoke"), methods=["lora"], seeds=[1], shots=[4], learning_rates=[1e-2])
    budget = Budget(amount=12, unit="epochs", early_stopping=early)
    spec = replace(
        grid.methods["lora"], adapter=replace(ADAPTERS[method], alpha=float(ADAPTERS[method].alpha)), budget=budget
    )
    return replace(grid, methods={method: spec})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["adalora", "dora", "vera", "full"])
def test_every_kind_of_adapter_goes_on_with_the_same_bytes(drawn_cells: Path, tmp_path: Path, method: str):
    assert _run(_changed(method), drawn_cells, tmp_path / "whole", minutes=10) == 12
    for steps in (2, 4, 3):
        _run(_changed(method), drawn_cells, tmp_path / "killed", steps=steps)
    assert _run(_changed(method), drawn_cells, tmp_path / "killed") == 12 - 9
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


@pytest.mark.slow
def test_early_stopping_goes_on_with_its_patience_and_the_best_weights_until_then(drawn_cells: Path, tmp_path: Path):
    grid = _changed("lora", EarlyStopping(patience=3, uncounted_epochs=1))
    taken = _run(grid, drawn_cells, tmp_path / "whole", minutes=10)
    for _ in range(taken - 1):
        assert _run(grid, drawn_cells, tmp_path / "killed", steps=1) == 1
    assert _run(grid, drawn_cells, tmp_path / "killed") == 1
    assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "another step"])
def test_a_state_that_is_damaged_or_of_other_threads_is_told_of_once_and_the_run_begins_anew(
    drawn_cells: Path, tmp_path: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture, damage: str
):
    _run(_grid(), drawn_cells, tmp_path, steps=4)
    (path,) = _states(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-5] ^= 1
    elif damage == "another step":
        content = bytearray(bytes(content).replace(b'"steps":"4"', b'"steps":"3"'))
    elif damage == "other":
        length = int.from_bytes(content[:8], "little")
        key = json.loads(content[8 : 8 + length])["__metadata__"]["key"]
        content = bytearray(bytes(content).replace(key.encode(), key[::-1].encode()))
    path.write_bytes(content[:-100] if damage == "cut" else content)
    with caplog.at_level(logging.WARNING):
        assert _run(_grid(), drawn_cells, tmp_path) == NUM_STEPS
    (notice,) = [one.getMessage() for one in caplog.records if "training state" in one.getMessage()]
    assert "begins anew" in notice
    assert _bytes(tmp_path) == whole
    assert _states(tmp_path) == []


@pytest.mark.slow
def test_a_state_that_cannot_be_written_costs_a_line_and_not_the_run(
    drawn_cells: Path, tmp_path: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
):
    (tmp_path / ".training").write_text("a file is in the way")
    assert _run(_grid(), drawn_cells, tmp_path) == NUM_STEPS
    assert any("The run goes on without it" in one.getMessage() for one in caplog.records)
    assert _bytes(tmp_path) == whole


@pytest.mark.slow
def test_the_state_of_a_run_that_was_stored_since_is_swept(drawn_cells: Path, tmp_path: Path):
    _run(_grid(), drawn_cells, tmp_path, steps=2)
    (path,) = _states(tmp_path)
    content = path.read_bytes()
    _run(_grid(), drawn_cells, tmp_path)
    path.write_bytes(content)
    Store(tmp_path).sweep()
    assert _states(tmp_path) == []


def test_the_time_of_a_run_counts_what_it_took_before_it_was_killed(drawn_cells: Path, tmp_path: Path):
    _run(_grid(), drawn_cells, tmp_path, steps=3)
    (path,) = _states(tmp_path)
    header = path.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert metadata["steps"] == "3"
    _run(_grid(), drawn_cells, tmp_path)
    (stored,) = Store(tmp_path).runs()
    assert stored.provenance["seconds"] > float(metadata["seconds"]) > 0


@pytest.mark.parametrize("given", ["-1", "nan"])
def test_minutes_that_are_no_span_of_time_end_with_exit_code_2(
    given: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        main(["run", "smoke", "--out", str(tmp_path / "runs"), "--checkpoint-minutes", given])
    assert ended.value.code == 2
    assert "--checkpoint-minutes" in capsys.readouterr().err


def _killed_by_signal(grid: GridSpec, cells: Path, out: Path, steps: int) -> None:
    torch.set_num_threads(1)
    rate_at, taken = loop.rate_at, 0

    def counted(*arguments: object) -> float:
        nonlocal taken
        if taken == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        taken += 1
        return rate_at(*arguments)  # pyright: ignore[reportArgumentType]

    loop.rate_at = counted  # pyright: ignore[reportAttributeAccessIssue]
    _train(grid, cells, out, 0)


@pytest.mark.slow
def test_a_process_ended_by_sigkill_leaves_a_state_that_the_next_one_goes_on_from(drawn_cells: Path, tmp_path: Path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _run(_grid(), drawn_cells, tmp_path / "whole")
        process = get_context("spawn").Process(
            target=_killed_by_signal, args=(_grid(), drawn_cells, tmp_path / "killed", 4)
        )
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert _run(_grid(), drawn_cells, tmp_path / "killed") == NUM_STEPS - 4
        assert _bytes(tmp_path / "killed") == _bytes(tmp_path / "whole")
    finally:
        torch.set_num_threads(threads)
