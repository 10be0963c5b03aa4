"""Shards written by several processes at once."""

import subprocess
import sys
from pathlib import Path

from cytolora.core.shards import ShardStore

PROGRAM = """
import sys
from pathlib import Path
from cytolora.core.shards import ShardStore

store, worker = ShardStore(Path(sys.argv[1]), key="features"), int(sys.argv[2])
for start in range(0, 60, 10):
    store.add({f"image {n}": bytes([n]) * 100 for n in range(start + worker, start + worker + 20)})
"""


def test_processes_that_write_at_once_lose_and_damage_no_entry(tmp_path: Path):
    workers = [subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path), str(number)]) for number in range(4)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0, 0, 0]
    names = [f"image {n}" for n in range(73)]
    assert ShardStore(tmp_path, key="features").read(names) == {f"image {n}": bytes([n]) * 100 for n in range(73)}


def test_entries_of_another_key_are_absent(tmp_path: Path):
    ShardStore(tmp_path, key="features").add({"image": b"1"})
    assert ShardStore(tmp_path, key="other").read(["image"]) == {}
