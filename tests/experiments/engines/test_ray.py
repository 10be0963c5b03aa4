"""The same numbers on a cluster of two nodes as in one process, also when workers are killed."""

import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from dry_run import DryRun, dry_run

from cells import contents
from cytolora.cli.app import main

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PART = ("exp2", "--dataset", "mlcc", "--model", "clip-vit-b16", "uni", "--shots", "1", "--seeds", "1", "--steps", "2")
NUM_RUNS, NUM_KILLS = 10, 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DryRun]:
    with dry_run(tmp_path_factory.mktemp("dry_run")) as found:
        yield found


@pytest.fixture(scope="module")
def whole(made: DryRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The part of the dry run, run in this process."""
    runs = tmp_path_factory.mktemp("inline") / "runs"
    _run(made, runs)
    assert len(contents(runs)) == NUM_RUNS
    return runs


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU, whose door is shut."""
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    assert "ray" not in sys.modules, "Ray reads its settings when it is imported"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on the loopback address
        from ray.cluster_utils import Cluster

        options = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
        made = Cluster(initialize_head=True, head_node_args=options)
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        made.wait_for_nodes()
        yield made
        made.shutdown()


def _run(made: DryRun, runs: Path, *options: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["run", *PART, *made.options("mlcc"), "--threads", "1", "--quiet", "--out", str(runs), *options])
    assert exit_.value.code == 0


def _same(one: Path, other: Path) -> None:
    for name in ("metrics.json", "spec.json"):
        assert contents(one, name) == contents(other, name)


def _at_work() -> list[int]:
    """The workers below this process that are at a unit just now."""
    parents, working = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            number = int(folder.name)
            parents[number] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if (folder / "cmdline").read_bytes().startswith(b"ray::Worker.work"):
                working.append(number)
        except OSError:
            continue
    return [number for number in working if os.getpid() in _ancestors(number, parents)]


def _ancestors(number: int, parents: dict[int, int]) -> Iterator[int]:
    while number := parents.get(number, 0):
        yield number


def test_ten_runs_give_the_same_metrics_on_two_nodes(made, whole, cluster, tmp_path):
    _run(made, tmp_path / "runs", "--engine", "ray", "--address", cluster.address)
    _same(tmp_path / "runs", whole)


def test_workers_killed_while_they_work_change_no_number(made, whole, cluster, tmp_path):
    runs, killed, ended = tmp_path / "runs", [], threading.Event()

    def kill() -> None:
        """Kills a worker each time that some more runs are stored."""
        while not ended.is_set() and len(killed) < NUM_KILLS:
            if len(list(runs.glob("[!.]*/spec.json"))) > 3 * len(killed) and (working := _at_work()):
                os.kill(working[0], signal.SIGKILL)
                killed.append(working[0])
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        _run(made, runs, "--engine", "ray", "--address", cluster.address)
    finally:
        ended.set()
        killer.join()
    assert len(killed) == NUM_KILLS
    _same(runs, whole)


def test_a_cluster_of_its_own_leaves_no_process_and_no_folder(made, whole, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    _run(made, tmp_path / "runs", "--engine", "ray", "--workers", "2")
    _same(tmp_path / "runs", whole)
    assert not list(tmp_path.glob("cytolora-ray-*"))
    assert not _at_work()
