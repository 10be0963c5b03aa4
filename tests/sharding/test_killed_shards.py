"""Workers and commands that are killed: the next one goes on, and the table is that of one that nobody killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from child_processes import below, is_alive

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.table import predict_table
from cytolora.sharding.folder import MANIFEST, ShardFolder

_CLI = [sys.executable, "-c", "from cytolora.cli.app import main; main()"]
_TIMES = 7
"""The cells are named so many times: 497 images in eight shards."""


def started(bundle: Path, cells: Path, out: Path, *engine: str) -> subprocess.Popen[str]:
    names = [str(cells)] * _TIMES
    how = [*(engine or ("--workers", "2")), "--shard-size", "64", "--threads", "1", "--quiet"]
    command = [*_CLI, "predict", str(bundle), *names, "--out", str(out), *how]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for_parts(out: Path, number: int, running: subprocess.Popen[str]) -> None:
    folder, until = ShardFolder(root=out), time.monotonic() + 300
    while not out.is_dir() or len(folder.parts()) < number:
        assert running.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")
def test_killed_workers_and_a_killed_command_lose_no_row(bundle: Path, cells: Path, tmp_path: Path):
    predict_table(Classifier.load(bundle), find_images([cells] * _TIMES), tmp_path / "whole.parquet")
    out = tmp_path / "out"

    first = started(bundle, cells, out)
    wait_for_parts(out, 1, first)
    os.kill(min(below(first.pid)), signal.SIGKILL)
    wait_for_parts(out, 3, first)
    workers = below(first.pid)
    first.kill()
    first.communicate(timeout=60)
    until = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    kept = {path: path.stat().st_mtime_ns for path in ShardFolder(root=out).parts()}
    assert 3 <= len(kept) < 8

    second = started(bundle, cells, out)
    third = started(bundle, cells, out, "--engine", "inline")  # beside it, on the same folder
    assert "497 images" in second.communicate(timeout=400)[1]
    assert "497 images" in third.communicate(timeout=400)[1]
    assert (second.returncode, third.returncode) == (0, 0)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert ds.dataset(out).to_table().to_pylist() == pq.read_table(tmp_path / "whole.parquet").to_pylist()
    parts = [path.name for path in ShardFolder(root=out).parts()]
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, *parts]
