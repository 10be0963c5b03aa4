"""Whatever fails while something is written, the previous content or the new one is there whole."""

import random
from pathlib import Path

import pytest
from disk_writers import Bench, Writer, library_writers
from faulty_files import FAULTS, choose
from small_bundle import write_small_bundle

NAMES = [
    "write_bytes", "write_json", "staged_file", "staged_folder", "staged_together", "store a run", "replace a run",
    "names of settings", "split file of a store", "leakage of a store", "bundle", "bundle, zip", "split file", "shard",
    "decoded image", "evaluation", "cached adapter", "offline weights", "unpacked zip", "unpacked images",
]  # fmt: skip


@pytest.fixture(scope="module")
def writers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Writer]:
    folder = tmp_path_factory.mktemp("writers")
    return {one.name: one for one in library_writers(write_small_bundle(folder / "model"), folder)}


def test_every_writer_is_tried(writers: dict[str, Writer]):
    assert list(writers) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_fault_leaves_the_old_content_or_the_new_one_and_a_second_try_leaves_nothing_else(
    writers: dict[str, Writer], tmp_path: Path, name: str
):
    bench, moment = Bench.of(writers[name], tmp_path), random.Random(name)
    found = [bench.inject(*choose(moment, len(bench.steps))) for _ in range(3)]
    assert [str(one) for one in found if one.problems] == []


@pytest.mark.parametrize("name", ["write_bytes", "staged_file", "staged_folder", "staged_together"])
@pytest.mark.slow
def test_no_fault_at_any_step_breaks_that(writers: dict[str, Writer], tmp_path: Path, name: str):
    bench = Bench.of(writers[name], tmp_path)
    found = [bench.inject(at, fault) for at in range(len(bench.steps)) for fault in FAULTS]
    assert [str(one) for one in found if one.problems] == []
