"""Several commands on one store share its work by claims: nothing is computed twice, whoever dies."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from contention import at_once, command, forked, leftovers

from cells import contents, run_all, tiny_grid
from cytolora.core.progress import SILENT
from cytolora.errors import StoreError
from cytolora.experiments import claims
from cytolora.experiments import execute as run_module
from cytolora.experiments.claims import ClaimedError, claimed
from cytolora.experiments.engines import queue as queue_module
from cytolora.experiments.engines.pool import Pool
from cytolora.experiments.engines.units import Unit, Units, split_up
from cytolora.experiments.expand import expand
from cytolora.experiments.plan import make_plan
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs

_AXES = ("--shots", "2", "--seeds", "1", "2", "--learning-rates", "0.001", "0.01", "--steps", "3")


@pytest.fixture
def computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Counter[str]]:
    """Notes each run and test score that this process, or one forked from it, computes; returns how often each was."""
    log = tmp_path / "computed"

    def note(name: str) -> None:
        with log.open("a") as file:
            file.write(name + "\n")

    validated, tested = run_module._validated, run_module._test_score

    def noting(session: Any, store: Any, run: Any, *others: Any) -> Any:
        note(run.run_id)
        return validated(session, store, run, *others)

    def noting_test(session: Any, result: Any, tracker: Any) -> Any:
        note(f"test of {result.spec.run_id}")
        return tested(session, result, tracker)

    monkeypatch.setattr(run_module, "_validated", noting)
    monkeypatch.setattr(run_module, "_test_score", noting_test)
    return lambda: Counter(log.read_text().splitlines())


def run_command(cells: Path, out: Path, *more: str) -> Callable[[], object]:
    options = ("--threads", "1", "--quiet", "--data", f"synthetic={cells}", "--out", out, *more)
    return command("run", "smoke", *_AXES, *options)


def claims_in(runs: Path) -> list[str]:
    return [path.name for path in (runs / ".claims").iterdir()]


@pytest.mark.slow
def test_four_commands_at_once_compute_every_run_once(
    drawn_cells: Path, tmp_path: Path, computed: Callable[[], Counter[str]]
):
    out = tmp_path / "four" / "runs"
    ended = at_once([run_command(drawn_cells, out)] * 4, tmp_path)
    assert [one.code for one in ended] == [0] * 4, ended
    counts = computed()
    runs = list(Store(out).runs())
    assert len(runs) == 8
    assert {run.run_id for run in runs} == {name for name in counts if not name.startswith("test")}
    assert set(counts.values()) == {1}
    assert sum(name.startswith("test") for name in counts) == sum(run.metrics["test"] is not None for run in runs) == 4
    assert claims_in(out) == []
    assert leftovers(out.parent) == []


@pytest.mark.slow
def test_a_command_and_one_with_workers_share_a_store_and_end_with_the_bytes_of_one(drawn_cells: Path, tmp_path: Path):
    run_all(tiny_grid(), drawn_cells, tmp_path / "alone")
    out = tmp_path / "shared"
    ended = at_once([run_command(drawn_cells, out), run_command(drawn_cells, out, "--workers", "2")], tmp_path)
    assert [one.code for one in ended] == [0, 0], ended
    assert contents(out) == contents(tmp_path / "alone")
    assert claims_in(out) == []


@pytest.mark.slow
def test_of_three_commands_two_die_and_the_third_does_what_they_had_claimed(
    drawn_cells: Path, tmp_path: Path, computed: Callable[[], Counter[str]]
):
    run_all(tiny_grid(), drawn_cells, tmp_path / "alone")
    out = tmp_path / "three"
    works = [lambda: run_all(tiny_grid(), drawn_cells, out)] * 3
    ended = at_once(works, tmp_path, kills=[0.4, 0.8])
    assert [one.code for one in ended if not one.was_killed] == [0] * sum(not one.was_killed for one in ended)
    assert contents(out) == contents(tmp_path / "alone")
    claims.sweep(out)
    assert claims_in(out) == []


@pytest.mark.slow
def test_ctrl_c_leaves_no_claim_of_workers_that_it_ends(drawn_cells: Path, tmp_path: Path):
    out = tmp_path / "runs"
    process = forked(run_command(drawn_cells, out, "--workers", "2", "--method", "lora"), tmp_path)
    until = time.monotonic() + 120
    while not list((out / ".claims").glob("*.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    ended = process.end()
    assert (ended.code, "stopped. Finished work is kept" in ended.said) == (130, True), ended
    assert claims_in(out) == []


@pytest.mark.slow
def test_a_job_that_another_command_is_at_work_at_is_waited_for_and_said(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computed: Callable[[], Counter[str]]
):
    """Another thread claims the frozen features until this one waits; then it gives up, and this one does the work."""
    import torch

    from cytolora.experiments.engines.inline import run_jobs

    monkeypatch.setattr(claims, "_LOOK_SECONDS", 0.01)
    inputs, store = Inputs(data={"synthetic": drawn_cells}), Store(tmp_path / "runs")
    plan = make_plan(tiny_grid(methods=["linear"]), store, inputs)
    (job,) = plan.jobs
    is_held, may_end, said = threading.Event(), threading.Event(), list[str]()

    def hold() -> None:
        with claimed(store.root, claims.of_features(job.dataset, job.backbone, job.split)):
            is_held.set()
            may_end.wait(30)

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("waiting"):
            assert not store.root.joinpath(job.runs[0].run_id).exists()
            may_end.set()

    other = threading.Thread(target=hold)
    other.start()
    assert is_held.wait(30)
    run_jobs(plan.jobs, inputs, store, device=torch.device("cpu"), progress=replace(SILENT, say=say))
    other.join()
    assert [text for text in said if text.startswith("waiting")] == [
        f"waiting for what other commands compute: {claims.of_features(job.dataset, job.backbone, job.split)}, claimed "
        f"by {claims.Owner.this_process()}"
    ]
    assert {run.run_id for run in plan.runs} == {run.run_id for run in store.runs()}


def test_a_newer_claim_ends_the_command_with_one_line(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    grid = tiny_grid(methods=["linear"])
    run = expand(grid)[0]
    with claimed(tmp_path, claims.of_features(run.dataset, run.backbone, run.split)):
        (path,) = (tmp_path / ".claims").iterdir()
        path.write_text('{"version": 99}')
        with pytest.raises(StoreError, match="claims of version 99"):
            run_all(grid, drawn_cells, tmp_path)


class _Crew:
    """Workers without processes; the first ``refusals`` answers are that another command is at work at it."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.done, self.answers = refusals, list[str](), list[tuple[int, Any]]()

    def new(self) -> object:
        return object()

    def start(self, worker: object) -> int:
        return self._promise(0)

    def work(self, worker: object, unit: Any) -> int:
        self.refusals -= 1
        return self._promise(unit if self.refusals < 0 else ClaimedError("it, claimed by ann on node7"))

    def _promise(self, answer: Any) -> int:
        self.answers.append((len(self.answers), answer))
        return len(self.answers) - 1

    def wait(self, promises: Sequence[int], seconds: float) -> list[int]:
        assert promises, "nothing to wait for"
        return list(promises)[:1]

    def result(self, promise: int) -> int:
        answer = self.answers[promise][1]
        if isinstance(answer, ClaimedError):
            raise answer
        if isinstance(answer, Unit):
            self.done.append(answer.run_ids[0])
        return 0

    def is_gone(self, worker: object) -> bool:
        return False

    def ask_to_stop(self) -> None: ...

    def has_room(self) -> bool:
        return True


def test_a_pool_gives_out_later_what_another_command_is_at_work_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(queue_module, "_AGAIN_SECONDS", 0.01)
    runs = expand(tiny_grid(methods=["lora"]))
    settings = (tuple(runs),)
    units = Units(waiting=[Unit(key=("synthetic", "nano"), settings=settings, only=run, cost=1) for run in runs])
    units.num_missing[runs[0].setting_id] = len(runs)
    crew, said = _Crew(refusals=3), list[str]()
    Pool(crew=crew, units=units, progress=replace(SILENT, say=said.append)).run(2)
    assert Counter(crew.done[:-1]) == Counter(run.run_id for run in runs)
    assert crew.done[-1] == runs[0].run_id  # the setting's test set
    assert said[1:] == ["waiting for what other commands compute: it, claimed by ann on node7"]
    assert units.attempts == Counter()


def test_units_of_two_grids_claim_the_same_frozen_features_and_runs():
    def names(**axes: Any) -> set[str]:
        grid = tiny_grid(**axes)
        plan = make_plan(grid, Store(Path("nowhere")), Inputs(data={}))
        return {
            unit.claim for unit in split_up(plan.jobs, is_stored=lambda run: False, num_images=lambda run: 1).waiting
        }

    few, more = names(seeds=[1]), names(seeds=[1, 2])
    assert few < more
    assert len([name for name in more if name.startswith("features_synthetic_nano_")]) == 1
    assert len(more) == 1 + 4


def test_waiting_costs_nothing_where_the_claim_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(claims.time, "sleep", lambda seconds: pytest.fail(f"waits for {seconds} s"))
    claims.wait_for_any(tmp_path, SILENT, [ClaimedError("x", "x")])
    assert os.listdir(tmp_path) == []  # noqa: PTH208
