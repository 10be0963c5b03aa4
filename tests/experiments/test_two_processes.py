"""Two processes at work on one store: forced into each other's way within this process, or started at once."""

import fcntl
import json
import multiprocessing
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from cells import run_all, tiny_grid
from cytolora.cli.app import main
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.unfinished import temporary_name
from cytolora.errors import StoreError
from cytolora.experiments import execute as run_module
from cytolora.experiments.select import by_setting, choose_rate
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult, StoredRun
from cytolora.reporting.pages.build import build_report

GRID = tiny_grid(methods=["linear"])
NUM_VALIDATED = 4
"""How often ``probabilities`` is asked in a run of it before the test set is scored."""


@pytest.fixture(scope="module")
def whole(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The grid run by one process."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    run_all(GRID, drawn_cells, runs)
    return runs


def files_of(runs: Path) -> dict[str, bytes]:
    found = [path for name in ("metrics.json", "predictions.parquet") for path in runs.glob(f"[!.]*/{name}")]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in found}


def interrupt_once(monkeypatch: pytest.MonkeyPatch, runs: Path, at: int, other: Callable[[], Any]) -> None:
    """Lets another process do all its work while this one, suspended until its claims are void, computes its ``at``-th
    probabilities."""
    compute, calls = run_module.probabilities, iter(range(10_000))

    def interrupted(*arguments: Any, **options: Any) -> Any:
        found = compute(*arguments, **options)
        if next(calls) == at:
            for claim in (runs / ".claims").glob("*.json"):
                claim.unlink()
            other()
        return found

    monkeypatch.setattr(run_module, "probabilities", interrupted)


@pytest.mark.parametrize(
    "at", [1, NUM_VALIDATED, *(pytest.param(at, marks=pytest.mark.slow) for at in (0, NUM_VALIDATED + 1))]
)
@pytest.mark.slow
def test_another_process_that_does_the_same_grid_meanwhile_changes_no_byte(
    whole: Path, drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    runs = tmp_path / "runs"
    interrupt_once(monkeypatch, runs, at, lambda: run_all(GRID, drawn_cells, runs))
    run_all(GRID, drawn_cells, runs)
    assert files_of(runs) == files_of(whole)
    if at == NUM_VALIDATED:
        assert build_report(runs, tmp_path / "report").is_file()


@pytest.mark.parametrize("at", [NUM_VALIDATED, pytest.param(NUM_VALIDATED + 1, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_further_seed_stored_meanwhile_leaves_one_rate_tested_with_all_seeds(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
):
    """Seed 6 makes another rate the best."""
    few, more = (tiny_grid(methods=["linear"], seeds=seeds) for seeds in ([1, 2], [1, 2, 6]))
    run_all(few, drawn_cells, tmp_path / "few")
    (alone,) = by_setting(Store(tmp_path / "few").runs()).values()
    interrupt_once(monkeypatch, tmp_path / "runs", at, lambda: run_all(more, drawn_cells, tmp_path / "runs"))
    run_all(few, drawn_cells, tmp_path / "runs")
    (runs,) = by_setting(Store(tmp_path / "runs").runs()).values()
    assert choose_rate(runs) != choose_rate(alone)
    tested = [(run.spec["learning_rate"], run.spec["seed"]) for run in runs if run.metrics["test"]]
    assert tested == [(choose_rate(runs), seed) for seed in (1, 2, 6)]
    assert run_all(few, drawn_cells, tmp_path / "runs").jobs == ()


@pytest.mark.slow
def test_a_run_that_was_stored_meanwhile_from_other_images_is_not_overwritten(
    whole: Path, drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from cytolora.data.synthetic.dataset import write_synthetic

    write_synthetic(tmp_path / "others", num_images=60, num_slides=6, seed=1)
    runs = tmp_path / "runs"
    interrupt_once(monkeypatch, runs, 0, lambda: run_all(GRID, tmp_path / "others", runs))
    with pytest.raises(StoreError, match=r"written by another process .* not overwritten: choose another --out"):
        run_all(GRID, drawn_cells, runs)
    assert files_of(runs).keys() == files_of(whole).keys()
    assert files_of(runs) != files_of(whole)


@pytest.mark.slow
def test_a_run_is_found_while_its_folder_is_being_replaced(whole: Path, tmp_path: Path):
    runs = copied(whole, tmp_path)
    store, names = Store(runs), sorted(run.run_id for run in Store(runs).runs())
    target, aside = runs / names[1], runs / f".cytolora-replaced-{names[1]}"
    (tmp_path / "new").mkdir()
    for file in target.iterdir():
        (tmp_path / "new" / file.name).write_bytes(file.read_bytes())
    with (runs / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        target.rename(aside)
        finish = threading.Timer(0.3, lambda: ((tmp_path / "new").rename(target), lock.close()))
        finish.start()
        assert store.find(names[1]) is not None
        finish.join()
    shutil.rmtree(aside)  # the end of a replacement; another process is killed before it comes so far
    target.rename(aside)
    assert [run.run_id for run in store.runs()] == names
    assert aside.exists()


def with_leftovers(whole: Path, folder: Path) -> tuple[Path, list[str]]:
    """A store in which processes were killed: before a run's second rename, after another's, and while writing."""
    runs = copied(whole, folder)
    names = sorted(run.run_id for run in Store(runs).runs())
    (runs / names[0]).rename(runs / f".replaced-{names[0]}")
    for left in (runs / f".replaced-{names[1]}", temporary_name(runs / names[2])):
        left.mkdir()
        (left / "spec.json").write_text("half")
    return runs, names


def entries_of(runs: Path) -> dict[str, tuple[int, bytes | None]]:
    """Every file and folder of a store, less the cache."""
    return {
        str(path.relative_to(runs)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [runs, *runs.rglob("*")]
        if ".cache" not in path.parts
    }


@pytest.mark.parametrize("command", ["plan", "report"])
@pytest.mark.slow
def test_plan_and_report_change_no_byte_of_a_store_with_leftovers(
    whole: Path, drawn_cells: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
):
    runs, names = with_leftovers(whole, tmp_path)
    (runs / ".cache").mkdir()  # the report's own: it is no part of the runs
    before = entries_of(runs)
    if command == "plan":
        axes = ("--shots", "2", "--seeds", "1", "2", "--learning-rates", "0.001", "0.01", "--steps", "3")
        options = ("--method", "linear", *axes, "--data", f"synthetic={drawn_cells}", "--json")
        with pytest.raises(SystemExit, match="0"):
            main(["plan", "smoke", *options, "--out", str(runs)])
        assert json.loads(capsys.readouterr().out)["stored"] == len(names)
    else:
        build_report(runs, tmp_path / "report")
        build_report(whole, tmp_path / "of_whole")
        assert (tmp_path / "report" / "tables.csv").read_text() == (tmp_path / "of_whole" / "tables.csv").read_text()
    assert entries_of(runs) == before


def test_leftovers_of_killed_processes_are_recovered_before_a_run_is_written(whole: Path, tmp_path: Path):
    runs, names = with_leftovers(whole, tmp_path)
    store = Store(runs)
    stored = store.find(names[3])
    assert stored is not None
    store.write(result_of(stored, "val"))
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == names
    assert entries_of(runs / names[0]).keys() == entries_of(whole / names[0]).keys()


def test_a_run_set_aside_by_a_killed_process_is_read_whole(whole: Path, tmp_path: Path):
    runs, names = with_leftovers(whole, tmp_path)
    stored, other = Store(runs).find(names[0]), Store(whole).find(names[0])
    assert stored is not None
    assert other is not None
    assert stored.predictions().equals(other.predictions())
    assert (stored.weights(), stored.metrics) == (other.weights(), other.metrics)


def test_predictions_of_another_version_than_the_metrics_are_refused(whole: Path, tmp_path: Path):
    store = Store(copied(whole, tmp_path))
    tested = next(run for run in store.runs() if run.metrics["test"])
    store.write(result_of(tested, "val"))
    for read in (tested.predictions, tested.weights):
        with pytest.raises(StoreError, match=r"was replaced or removed by another process .* command again"):
            read()
    again = store.find(tested.run_id)
    assert again is not None
    assert set(again.predictions()["subset"].to_pylist()) == {"val"}


@pytest.mark.slow
def test_readers_and_writers_of_one_run_never_meet_two_versions_of_it(whole: Path, tmp_path: Path):
    """Two processes give a run its test score and take it away, again and again; this one reads, another starts up."""
    store = Store(copied(whole, tmp_path))
    tested = next(run for run in store.runs() if run.metrics["test"])
    versions = result_of(tested, "val"), result_of(tested, "val", "test")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=replace_often, args=(store, *versions)) for _ in range(2)]
    for writer in writers:
        writer.start()
    num_read = 0
    while any(writer.is_alive() for writer in writers):
        run = Store(store.root).find(tested.run_id)
        assert run is not None
        assert tested.run_id in [one.run_id for one in store.runs()]
        try:
            subsets = set(run.predictions()["subset"].to_pylist())
        except StoreError as error:
            assert "was replaced" in str(error)  # noqa: PT017  (either is right)
            continue
        assert subsets == ({"val"} if run.metrics["test"] is None else {"val", "test"})
        num_read += 1
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert num_read
    assert not [path for path in store.root.glob(".[rs]*") if path.is_dir()]


def replace_often(store: Store, *versions: RunResult) -> None:
    for _ in range(20):
        for version in versions:
            store.write(version)


def result_of(stored: StoredRun, *subsets: str) -> RunResult:
    """A stored run with the scores and predictions of some subsets alone."""
    return RunResult(
        spec=parse_spec(stored.spec, RunSpec, "spec"),
        metrics={**stored.metrics, "test": stored.metrics["test"] if "test" in subsets else None},
        predictions=stored.predictions().filter(pc.field("subset").isin(subsets)),
        weights=stored.weights(),
        provenance=stored.provenance,
    )


def copied(runs: Path, folder: Path) -> Path:
    for file in runs.glob("[!.]*/*"):
        (folder / "runs" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / "runs" / file.parent.name / file.name).write_bytes(file.read_bytes())
    return folder / "runs"


COMMAND = (
    "run",
    "smoke",
    "--shots",
    "1",
    "--seeds",
    "1",
    "2",
    "--learning-rates",
    "0.01",
    "0.03",
    "--steps",
    "6",
    "--quiet",
)


def options(cells: Path, runs: Path) -> tuple[str, ...]:
    return ("--data", f"synthetic={cells}", "--out", str(runs), "--threads", "1")


def start(cells: Path, runs: Path) -> subprocess.Popen[bytes]:
    program = f"from cytolora.cli.app import main; main({[*COMMAND, *options(cells, runs)]!r})"
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE)


@pytest.mark.slow
def test_three_commands_started_at_once_end_with_the_bytes_of_one(drawn_cells: Path, tmp_path: Path):
    with pytest.raises(SystemExit, match="0"):
        main([*COMMAND, *options(drawn_cells, tmp_path / "alone")])
    processes = [start(drawn_cells, tmp_path / "three") for _ in range(3)]
    said = [process.communicate(timeout=600)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, said
    assert files_of(tmp_path / "three") == files_of(tmp_path / "alone")
    assert build_report(tmp_path / "three", tmp_path / "report").is_file()
