"""Runs whose batches are divided: among gloo processes, and into smaller passes where memory is too little."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from cells import tiny_grid
from cytolora.cli.app import main
from cytolora.config.budget import Budget
from cytolora.config.run import RunSpec
from cytolora.core.progress import Progress
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import EngineError
from cytolora.experiments.batch_division import WHOLE, BatchDivision
from cytolora.experiments.divided_training import train_divided
from cytolora.experiments.engines.processes import ProcessCrew
from cytolora.experiments.engines.ranks import Ranks, ranks_of
from cytolora.experiments.engines.worker import WorkerSetup
from cytolora.experiments.execute import open_session
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.training.group import join
from cytolora.training.resources import Inputs
from cytolora.training.trained import Trained

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def many_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 drawn cells of 12 slides, enough for 7 training images of each class."""
    folder = tmp_path_factory.mktemp("many") / "cells"
    write_synthetic(folder, num_images=120, num_slides=12, seed=0)
    return folder


def _run_of(cells: Path, runs: Path, *, dropout: float = 0.25, steps: int = 12) -> tuple[RunSpec, Inputs]:
    """A LoRA run on 35 images in batches of 32: every other batch has 3, fewer than four processes."""
    inputs = Inputs(data={"synthetic": cells})
    grid = tiny_grid(methods=["lora"], seeds=[1], shots=[7], learning_rates=[1e-2], max_steps=steps)
    run = make_plan(grid, Store(runs), inputs).jobs[0].settings[0][0]
    assert run.adapter is not None
    train = replace(run.train, batch_size=32, budget=Budget(amount=steps // 2, unit="epochs"))
    return replace(run, adapter=replace(run.adapter, dropout=dropout), train=train), inputs


@contextmanager
def _divided(runs: Path, inputs: Inputs, run: RunSpec, division: BatchDivision) -> Iterator[tuple[Any, Store]]:
    """A session of the run whose team trains it as the division says, in one thread each."""
    store = Store(runs, division=division)
    store.make_root()
    setup = WorkerSetup(
        inputs=inputs.absolute(), root=runs, device=CPU, threads=1, backbones=[], versions={}, division=division
    )
    team = ranks_of(setup, Progress()) if division.processes > 1 else None
    try:
        yield open_session(run, inputs, store, device=CPU, progress=Progress(), team=team), store
    finally:
        if team is not None:
            team.end()


def _trained(runs: Path, inputs: Inputs, run: RunSpec, division: BatchDivision = WHOLE) -> Trained:
    with _divided(runs, inputs, run, division) as (session, store):
        return train_divided(session, store, run)


def _assert_agree(found: Trained, expected: Trained, tolerance: float) -> None:
    assert found.final_loss == pytest.approx(expected.final_loss, abs=tolerance)
    assert found.state.keys() == expected.state.keys()
    for name, tensor in expected.state.items():
        torch.testing.assert_close(found.state[name], tensor, rtol=0, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "dropout"), [(2, 0.0), (4, 0.25)])
def test_several_processes_train_what_one_trains(size: int, dropout: float, many_cells: Path, tmp_path: Path):
    run, inputs = _run_of(many_cells, tmp_path, dropout=dropout)
    found = _trained(tmp_path, inputs, run, BatchDivision(processes=size))
    assert (found.num_processes, found.images_per_pass) == (size, 16 // size)
    assert torch.get_num_threads() == 1
    _assert_agree(found, _trained(tmp_path, inputs, run), 1e-4)


@pytest.mark.slow
def test_a_lost_process_is_replaced_and_one_lost_again_and_again_ends_the_run(
    many_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, inputs = _run_of(many_cells, tmp_path, steps=6)
    division = BatchDivision(processes=2)
    with _divided(tmp_path, inputs, run, division) as (session, store):
        kills = 1
        forward = EncoderWithHead.forward

        def killing(classifier: EncoderWithHead, images: Tensor) -> Tensor:
            nonlocal kills
            if kills and classifier.training and torch.is_grad_enabled():
                kills -= 1
                os.kill(session.team.others[0].popen.pid, signal.SIGKILL)
            return forward(classifier, images)

        monkeypatch.setattr(EncoderWithHead, "forward", killing)
        found = train_divided(session, store, run)
        assert kills == 0
        kills = 99
        with pytest.raises(EngineError, match=r"were lost 3 times.*SIGKILL.*--micro-batch"):
            train_divided(session, store, run)
    monkeypatch.undo()
    _assert_agree(found, _trained(tmp_path, inputs, run), 1e-4)


def test_the_folder_where_processes_meet_is_gone_before_they_train(tmp_path: Path):
    """A process that is killed in training cannot remove it any more."""
    folder, sums = tmp_path / "meeting", list[float]()
    folder.mkdir()
    other = Thread(target=lambda: sums.append(join(folder, 1, 2).sum(torch.ones(1)).item()), daemon=True)
    other.start()
    group = Ranks(
        setup=b"", size=2, gpus=[], threads=1, progress=Progress(), crew=ProcessCrew(setup=b"", gpus=[])
    )._join(folder)
    assert not folder.exists()
    assert group.sum(torch.ones(1)).item() == 2
    other.join(60)
    assert sums == [2]


@contextmanager
def _little_memory(monkeypatch: pytest.MonkeyPatch, most: int, error: Exception) -> Iterator[list[int]]:
    """Has training fail for passes of more than ``most`` images; yields the sizes of the passes that were asked for."""
    forward, sizes = EncoderWithHead.forward, list[int]()

    def limited(classifier: EncoderWithHead, images: Tensor) -> Tensor:
        if classifier.training:
            sizes.append(len(images))
            if len(images) > most:
                raise error
        return forward(classifier, images)

    with monkeypatch.context() as patch:
        patch.setattr(EncoderWithHead, "forward", limited)
        yield sizes


_ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
_ON_A_CPU = RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried …")


@pytest.mark.slow
@pytest.mark.parametrize("error", [_ON_A_GPU, _ON_A_CPU], ids=["gpu", "cpu"])
def test_too_little_memory_halves_the_passes_and_changes_nothing_else(
    error: Exception, many_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, inputs = _run_of(many_cells, tmp_path, steps=2)
    expected = _trained(tmp_path, inputs, run)
    with _little_memory(monkeypatch, 4, error) as sizes:
        found = _trained(tmp_path, inputs, run)
    assert sizes[:2] == [16, 8]
    assert (expected.images_per_pass, found.images_per_pass) == (16, 4)
    _assert_agree(found, expected, 1e-5)
    with _little_memory(monkeypatch, 0, error) as sizes, pytest.raises(type(error)):
        _trained(tmp_path, inputs, run)
    assert sizes == [16, 8, 4, 2, 1]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--gpus-per-run", "3"], "--gpus-per-run 3 does not divide the batch of 32 images"),
        (["--gpus-per-run", "0"], "--gpus-per-run is at least 1, got 0."),
        (["--micro-batch", "0"], "--micro-batch is at least 1, got 0."),
        (
            ["--gpus-per-run", "2", "--engine", "ray"],
            "--gpus-per-run is for --engine inline, processes or slurm, not ray.",
        ),
    ],
)
def test_wrong_divisions_are_one_line(
    options: list[str], expected: str, many_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "runs"
    command = ["run", "smoke", "--data", f"synthetic={many_cells}", "--method", "lora", "--out", str(out), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*command, *options])
    assert ended.value.code == 2
    assert expected in " ".join(capsys.readouterr().err.split())
    assert not list(out.glob("synthetic*"))
