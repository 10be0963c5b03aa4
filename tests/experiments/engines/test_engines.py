"""Promises of every engine before anything is run."""

import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import cytolora
from cytolora.cli.app import main
from cytolora.errors import ConfigError, EngineError
from cytolora.experiments.engines import ray_cluster
from cytolora.experiments.engines.ray_cluster import check_address, running_cluster
from cytolora.experiments.engines.registry import ENGINES
from cytolora.experiments.engines.slurm import _run
from cytolora.experiments.engines.workers import THIS_PROCESS, Workers


def _refused(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        main(["run", "smoke", "--quiet", *options])
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


def test_ls_lists_the_engines_and_no_other(capsys):
    with pytest.raises(SystemExit):
        main(["ls", "engines", "--json"])
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["inline", "processes", "ray", "slurm"]


def test_an_engine_that_does_not_exist_is_refused_in_one_line(capsys):
    assert "Unknown engine 'dask'. Known: inline, processes, ray, slurm." in _refused(capsys, "--engine", "dask")


def test_the_options_of_a_cluster_are_refused_without_one(capsys):
    said = _refused(capsys, "--engine", "inline", "--workers", "2")
    assert "--workers is for --engine processes, ray or slurm; inline is this process alone" in said
    assert "--address is for --engine ray" in _refused(capsys, "--engine", "processes", "--address", "127.0.0.1:1")
    assert "--slurm is for --engine slurm" in _refused(capsys, "--engine", "ray", "--slurm", "partition=gpu")
    ENGINES.get("inline").check(THIS_PROCESS)


def test_options_of_sbatch_are_long_ones_that_the_engine_does_not_set(capsys):
    assert "NAME=VALUE or NAME, got '-p gpu'. Write partition=gpu" in _refused(capsys, "--slurm=-p gpu")
    assert "--slurm array is set by cytolora itself" in _refused(capsys, "--workers", "2", "--slurm", "array=0-9")


def test_slurm_needs_a_number_of_jobs_a_command_and_sbatch(drawn_cells, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    options = {"engine": "slurm", "data": {"synthetic": drawn_cells}, "out": tmp_path / "runs", "shots": 1}
    with pytest.raises(ConfigError, match="needs --workers N"):
        cytolora.run("smoke", **options)
    with pytest.raises(ConfigError, match="works from the command line"):
        cytolora.run("smoke", workers=2, **options)
    with pytest.raises(EngineError, match="sbatch is not on this machine"):
        _run(["sbatch"])


def test_fewer_than_one_worker_is_refused():
    with pytest.raises(ConfigError, match="at least 1, got 0"):
        Workers(count=0)


@pytest.mark.parametrize("given", [{"gpus_per_run": "2"}, {"micro_batch": 1.5}, {"workers": 2.0}])
def test_a_number_from_python_that_is_not_whole_is_one_line(given: dict[str, Any], tmp_path: Path):
    with pytest.raises(ConfigError, match="is a whole number, got "):
        cytolora.run("smoke", out=tmp_path / "runs", **given)


def test_a_missing_ray_is_one_line_that_says_how_to_install_it(capsys, monkeypatch, drawn_cells, tmp_path):
    monkeypatch.setattr(ray_cluster, "find_spec", lambda name: None)
    options = ("--engine", "ray", "--shots", "1", "--data", f"synthetic={drawn_cells}", "--out", str(tmp_path))
    assert "pip install '.[ray]'" in _refused(capsys, *options)


@pytest.mark.parametrize("address", ["auto", "10.0.0.1", "ray://head:10001", "head:port", ":6379"])
def test_an_address_is_a_host_and_a_port(address):
    with pytest.raises(ConfigError, match="expects HOST:PORT"):
        check_address(address)


def test_loopback_is_known_by_name_and_by_number():
    assert all(map(check_address, ["127.0.0.1:6379", "localhost:6379", "[::1]:6379", "127.3.0.1:1"]))
    assert not any(map(check_address, ["10.0.0.1:6379", "head.cluster:6379", "[fe80::1]:6379"]))


def test_a_cluster_of_other_machines_that_lets_anyone_in_is_not_joined(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_without_token", lambda address: ray_cluster._OPEN)
    with pytest.raises(ConfigError, match="lets in anyone"), running_cluster("10.0.0.1:6379"):
        pass


def test_an_open_cluster_that_listens_beyond_loopback_is_not_joined_by_its_loopback_address(monkeypatch):
    with socket.socket() as listening:
        listening.bind(("0.0.0.0", 0))
        listening.listen()
        port = listening.getsockname()[1]
        monkeypatch.setattr(ray_cluster, "_without_token", lambda address: ray_cluster._OPEN)
        monkeypatch.setattr(ray_cluster, "_network_addresses", lambda: {"127.0.0.1"})  # stands for one of a network
        with (
            pytest.raises(ConfigError, match=r"or on 127\.0\.0\.1 alone: docs/scale\.md"),
            running_cluster(f"127.0.0.1:{port}"),
        ):
            pass


def test_a_port_of_loopback_alone_is_not_reached_by_the_machines_network_addresses():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert not ray_cluster._answers_from_outside(listening.getsockname()[1])
    assert not any(map(ray_cluster._is_local_ip, ray_cluster._network_addresses()))


@pytest.mark.parametrize(
    ("is_shut", "said"),
    [
        (True, r"asks for a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN .* Ray says: Nobody is there\."),
        (False, r"from this machine: Nobody is there\. Run this on one of its nodes\."),
    ],
)
def test_where_a_cluster_asks_for_a_token_a_failure_to_join_names_it(is_shut: bool, said: str):
    error = ray_cluster._not_joined("10.0.0.1:6379", ConnectionError("Nobody is there.\nMore."), is_shut=is_shut)
    assert re.search(said, str(error))
    assert ("RAY_AUTH_TOKEN" in str(error)) == is_shut


def test_an_address_where_nobody_answers_is_said_so(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_without_token", lambda address: 4)
    with pytest.raises(ConfigError, match="No Ray cluster answers"), running_cluster("127.0.0.1:6379"):
        pass


def test_naming_engines_loads_neither_torch_nor_ray():
    import subprocess

    program = "import sys, cytolora.experiments.engines.registry; print({'torch', 'ray'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_of_rays_many_lines_the_one_that_names_the_cause_is_shown():
    from cytolora.experiments.engines.ray_driver import reason

    died = RuntimeError("The actor died.\n  File x.py\nImportError: no module named timm\n\nThe worker ended.")
    assert reason(died) == "ImportError: no module named timm"
    assert reason(RuntimeError("The actor died.\nMaybe memory.")) == "The actor died."
    assert reason(RuntimeError()) == "RuntimeError"
