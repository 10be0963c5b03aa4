"""The store of runs by itself: what is found, what is refused, and in which words."""

import errno
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_store import FakeData, fake_run

import cytolora.experiments.store as store_module
from cytolora.core.identity import Identity
from cytolora.core.unfinished import temporary_name
from cytolora.errors import ConfigError, ReplacedError, StoreError
from cytolora.experiments.store import Store, again_if_replaced, require_writable
from cytolora.experiments.stored_run import RunResult, StoredRun

SMALL = FakeData(num_groups=4)


def result(*, shots: int = 4, seed: int = 1, tested: bool = True, **changes: Any) -> RunResult:
    return replace(fake_run(SMALL, "uni", "linear", shots, 1e-3, seed, 1.0, tested), **changes)


@pytest.fixture
def filled(tmp_path: Path) -> Store:
    """Two seeds at 4 shots and one at 16."""
    store = Store(tmp_path / "runs")
    for shots, seed in ((4, 1), (4, 2), (16, 1)):
        store.write(result(shots=shots, seed=seed))
    return store


def test_a_stored_run_is_found_with_all_that_was_stored(filled: Store):
    stored, expected = filled.find(result().spec.run_id), result()
    assert stored is not None
    assert stored.run_id == stored.path.name == expected.spec.run_id
    assert stored.metrics == json.loads(json.dumps(expected.metrics))
    assert stored.provenance == json.loads(json.dumps(expected.provenance))
    assert stored.identity == Identity.of(expected.provenance)
    assert stored.predictions().equals(expected.predictions)
    assert stored.weights() == b"no tensors"
    assert stored.has_weights
    assert stored.version is not None
    assert set(stored.checksums or ()) == {path.name for path in stored.path.iterdir()} - {"sha256sums.txt"}


def test_no_run_is_found_where_there_is_none(filled: Store):
    assert filled.find("other") is None
    (filled.root / "notes").mkdir()
    assert filled.find("notes") is None
    (filled.root / "file.txt").write_text("mine")
    assert filled.find("file.txt") is None
    assert len(list(filled.runs())) == 3


def test_runs_are_listed_by_id_by_prefix_and_by_setting(filled: Store):
    names = [run.run_id for run in filled.runs()]
    assert names == sorted(names)
    assert len(names) == 3
    assert [run.run_id for run in filled.runs("herlev_uni_linear_16")] == [names[0]]
    assert [run.run_id for run in filled.runs_of(["herlev_uni_linear_4-shot"])] == names[1:]
    assert list(filled.runs_of(["herlev_uni_linear"])) == []


def test_a_run_kept_without_weights_has_none_and_one_that_lost_a_file_is_named(filled: Store):
    filled.write(result(weights=None))
    stored = filled.find(result().spec.run_id)
    assert stored is not None
    assert not stored.has_weights
    assert stored.weights() is None
    (stored.path / "predictions.parquet").unlink()
    lost = replace(stored, version=None)
    with pytest.raises(StoreError, match=r"is damaged: predictions\.parquet is missing\. Restore it from a copy"):
        lost.predictions()


def test_a_run_that_was_replaced_while_it_was_in_use_is_no_longer_read(filled: Store):
    stored = filled.find(result().spec.run_id)
    bare = filled.find(result(seed=2).spec.run_id)
    assert stored is not None
    assert bare is not None
    filled.write(result(tested=False))
    for read in (stored.predictions, stored.weights, stored.check_unchanged):
        with pytest.raises(StoreError, match="was replaced or removed by another process while it was in use"):
            read()
    for path in bare.path.iterdir():
        path.unlink()
    bare.path.rmdir()
    for read in (bare.predictions, bare.weights):
        with pytest.raises(StoreError, match="was replaced or removed by another process"):
            read()


def test_a_run_that_was_not_read_from_a_folder_cannot_have_been_replaced(filled: Store):
    stored = filled.find(result().spec.run_id)
    assert stored is not None
    apart = replace(stored, version=None)
    filled.write(result())
    apart.check_unchanged()


def test_predictions_that_are_no_table_are_damage_in_one_line(filled: Store):
    stored = filled.find(result().spec.run_id)
    assert stored is not None
    (stored.path / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match=r"predictions\.parquet was changed after it was written"):
        stored.predictions()
    with pytest.raises(StoreError, match=r"is damaged: predictions\.parquet: .*[^.]\. Restore") as caught:
        replace(stored, checksums=None).predictions()
    assert "\n" not in str(caught.value)


def test_what_arrow_says_of_damage_is_kept_word_for_word_in_one_line(filled: Store, monkeypatch: pytest.MonkeyPatch):
    def invalid(source: object) -> None:
        raise pa.ArrowInvalid("Not a\n  Parquet file")

    stored = next(iter(filled.runs()))
    monkeypatch.setattr(pq, "read_table", invalid)
    with pytest.raises(StoreError, match=r"is damaged: predictions\.parquet: Not a Parquet file\. Restore it"):
        stored.predictions()


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (pa.ArrowNotImplementedError("Support for codec 'zstd'\n  not built"), "Support for codec 'zstd' not built"),
        (MemoryError(), "too little memory"),
        (MemoryError("malloc of\n9 GB failed"), "malloc of 9 GB failed"),
    ],
)
def test_predictions_that_this_installation_cannot_read_are_not_called_damaged(
    fault: Exception, why: str, filled: Store, monkeypatch: pytest.MonkeyPatch
):
    def unable(source: object) -> None:
        raise fault

    stored = next(iter(filled.runs()))
    monkeypatch.setattr(pq, "read_table", unable)
    with pytest.raises(StoreError, match=f"with this installation: {why}\\. Nothing says that it is damaged"):
        stored.predictions()


def test_a_run_that_is_there_already_stays(filled: Store):
    before = filled.find(result().spec.run_id)
    filled.add(result(tested=False))
    after = filled.find(result().spec.run_id)
    assert before is not None
    assert after is not None
    assert (after.version, after.metrics) == (before.version, before.metrics)
    filled.add(result(seed=3))
    assert filled.find(result(seed=3).spec.run_id) is not None


def test_a_run_of_other_weights_data_or_splits_is_not_overwritten(filled: Store):
    other = result()
    other = replace(other, provenance={**other.provenance, "weights_sha256": "0" * 64})
    with pytest.raises(StoreError, match=r"from other weights, data or splits\. It was not overwritten"):
        filled.add(other)
    stored = filled.find(other.spec.run_id)
    assert stored is not None
    assert stored.identity == Identity.of(result().provenance)


def test_equal_results_give_equal_files_however_their_table_was_put_together(tmp_path: Path):
    whole = result()
    rows = whole.predictions
    parts = replace(whole, predictions=pa.concat_tables([rows.slice(0, 3), rows.slice(3)]))
    for name, one in (("a", whole), ("b", parts)):
        Store(tmp_path / name).write(one)
    first, second = (tmp_path / name / whole.spec.run_id for name in ("a", "b"))
    assert {path.name: path.read_bytes() for path in first.iterdir()} == {
        path.name: path.read_bytes() for path in second.iterdir()
    }
    assert pq.read_table(first / "predictions.parquet").equals(rows)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"predictions": result().predictions.drop_columns(["group"])}, "predictions.parquet has no column 'group'"),
        ({"metrics": {**result().metrics, "num_trainable": -1}}, "metrics.json has 'num_trainable' -1"),
        ({"provenance": {**result().provenance, "classes": []}}, "provenance.json has 'classes'"),
    ],
)
def test_a_run_that_would_be_called_damaged_when_read_is_not_stored(
    changes: dict[str, Any], problem: str, tmp_path: Path
):
    with pytest.raises(StoreError, match=f"cannot be stored: {re.escape(problem)}"):
        Store(tmp_path).write(result(**changes))
    assert list(Store(tmp_path).runs()) == []


def test_runs_at_once_are_read_again_where_another_process_replaces_one_meanwhile(
    filled: Store, monkeypatch: pytest.MonkeyPatch
):
    listed, readings = filled.runs, []

    def replaced_meanwhile() -> Iterator[StoredRun]:
        readings.append(1)
        yield from listed()
        if len(readings) == 1:
            filled.write(result(weights=b"other"))

    monkeypatch.setattr(filled, "runs", replaced_meanwhile)
    found = {run.run_id: run for run in filled.runs_at_once()}
    assert len(readings) == 2
    assert found[result().spec.run_id].weights() == b"other"
    assert len(found) == 3


@pytest.mark.parametrize("num_replaced", [0, 1, 4, 5])
def test_runs_that_are_replaced_again_and_again_are_read_five_times(num_replaced: int):
    readings = []

    def read() -> str:
        readings.append(1)
        if len(readings) <= num_replaced:
            raise ReplacedError("replaced")
        return "whole"

    if num_replaced < 5:
        assert again_if_replaced(read) == "whole"
        assert len(readings) == num_replaced + 1
    else:
        with pytest.raises(ReplacedError):
            again_if_replaced(read)
        assert len(readings) == 5


def test_two_blocks_of_one_store_never_overlap(filled: Store, monkeypatch: pytest.MonkeyPatch):
    """The lock is asked for with the store's own file, not with that of single replacements."""
    seen = []

    @contextmanager
    def noted(path: Path) -> Iterator[None]:
        seen.append(path)
        yield

    monkeypatch.setattr(store_module, "locked", noted)
    with filled.exclusive():
        assert seen == [filled.root / ".store.lock"]


def test_leftovers_are_taken_back_once_by_who_writes_and_never_by_who_reads(
    filled: Store, monkeypatch: pytest.MonkeyPatch
):
    calls = []
    monkeypatch.setattr(store_module, "recover_folders", calls.append)
    fresh = Store(filled.root)
    list(fresh.runs())
    assert calls == []
    fresh.write(result())
    assert calls == [fresh.root]
    fresh.make_root()
    assert calls == [fresh.root]


def test_what_a_killed_process_left_is_swept_out_of_the_store_and_of_its_caches_and_nothing_else(filled: Store):
    cached = filled.root / ".features" / "ab" / "whole.npy"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"whole")
    runs = list(filled.runs())
    temporary_name(cached).write_bytes(b"half")
    temporary_name(runs[0].path).mkdir()
    own = filled.root / "notes" / "half"
    own.parent.mkdir()
    temporary_name(own).write_bytes(b"somebody else's")
    filled.sweep()
    assert [path.name for path in cached.parent.iterdir()] == ["whole.npy"]
    assert len(list(own.parent.iterdir())) == 1
    names = [path.name for path in filled.root.iterdir() if path.is_dir()]
    assert sorted(names) == sorted([".features", "notes", *(run.run_id for run in runs)])


@pytest.mark.parametrize("kind", ["root", "parent"])
def test_a_file_in_the_way_of_the_store_is_said(kind: str, tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    root = tmp_path / "file" if kind == "root" else tmp_path / "file" / "runs"
    for write in (lambda: Store(root).write(result()), lambda: Store(root).add(result())):
        with pytest.raises(StoreError, match=r"Cannot write to .*file.*: a file is in the way\. Choose another --out"):
            write()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("name", ["staged_folder", "locked"])
def test_a_disk_that_takes_nothing_is_said_in_the_systems_words(
    name: str, filled: Store, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_module, name, full)
    with pytest.raises(StoreError, match=r"Cannot write to .*runs: No space left on device\. Choose another --out"):
        filled.add(result(seed=9))
    assert filled.find(result(seed=9).spec.run_id) is None


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_room_is_asked_for_only_where_it_is_missing(number: int):
    told = str(store_module.unwritable(Path("a"), OSError(number, "words")))
    assert told == "Cannot write to a: words. Choose another --out."


@pytest.mark.parametrize(
    "fault",
    [
        PermissionError(errno.EACCES, "Permission denied", "other/image.png"),
        OSError(errno.EIO, "Input/output error", "weights"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "other"),
    ],
)
def test_a_fault_within_an_exclusive_block_is_not_said_to_be_one_of_writing_the_store(filled: Store, fault: OSError):
    def read() -> None:
        with filled.exclusive():
            raise fault

    with pytest.raises(type(fault)) as caught:
        read()
    assert caught.value is fault


def test_an_error_without_words_is_said_as_it_is():
    assert "Cannot write to a: 5. Choose" in str(store_module.unwritable(Path("a"), OSError(5)))


def test_a_folder_that_could_be_written_is_tried_and_left_as_it_was(tmp_path: Path):
    require_writable(tmp_path / "a" / "b")
    require_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "runs"):
        with pytest.raises(StoreError, match="a file is in the way"):
            require_writable(path)


def test_a_renamed_run_is_told_by_its_own_id(filled: Store):
    name = result().spec.run_id
    (filled.root / name).rename(filled.root / "herlev_renamed")
    with pytest.raises(StoreError, match=rf"herlev_renamed holds the stored run {name}: it was copied or renamed"):
        filled.find("herlev_renamed")


def test_a_spec_of_another_version_is_left_to_its_reader_under_any_name(filled: Store):
    folder = filled.root / result().spec.run_id
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, "later": 1}))
    (folder / "sha256sums.txt").unlink()
    stored = filled.find(folder.name)
    assert stored is not None
    assert stored.spec["later"] == 1
    assert stored.checksums is None


def test_a_root_that_is_no_path_is_refused_by_its_name():
    with pytest.raises(ConfigError, match=r"^root is a path"):
        Store(3)  # pyright: ignore[reportArgumentType]


def test_a_store_is_made_with_all_folders_above_it(tmp_path: Path):
    store = Store(tmp_path / "a" / "b" / "runs")
    store.make_root()
    assert store.root.is_dir()
    Store(tmp_path / "c" / "d" / "runs").add(result())
    assert len(list(Store(tmp_path / "c" / "d" / "runs").runs())) == 1


@pytest.mark.parametrize("name", ["spec.json", "metrics.json", "provenance.json"])
def test_a_file_that_still_reads_well_but_was_changed_is_named(name: str, filled: Store):
    file = filled.root / result().spec.run_id / name
    file.write_bytes(file.read_bytes() + b"\n")
    with pytest.raises(StoreError, match=rf"{name} was changed after it was written"):
        filled.find(result().spec.run_id)


@pytest.mark.parametrize(
    "name", ["lost+found", "System Volume Information", "herlev", "old_s1", "a_lr0.1_s1_xyz", "tmp"]
)
def test_a_foreign_folder_that_may_not_be_read_is_skipped_with_one_warning(
    name: str, filled: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    names = [run.run_id for run in filled.runs()]
    (filled.root / name).mkdir()
    _forbid(monkeypatch, filled.root / name, str(filled.root / name))
    assert [run.run_id for run in filled.runs()] == names
    assert [run.run_id for run in filled.runs_at_once()] == names
    assert [record.message for record in caplog.records] == [
        f"{filled.root / name} may not be read (Permission denied) and is not named like a run: it is left out."
    ]


@pytest.mark.parametrize("file", ["", "spec.json"])
def test_a_run_that_may_not_be_read_stops_the_reading(file: str, filled: Store, monkeypatch: pytest.MonkeyPatch):
    folder = filled.root / result().spec.run_id
    _forbid(monkeypatch, folder, file or str(folder))
    with pytest.raises(StoreError, match=r"Cannot read stored run .*Permission denied"):
        list(filled.runs())


def test_a_file_that_may_not_be_read_in_a_folder_of_another_name_stops_the_reading(
    filled: Store, monkeypatch: pytest.MonkeyPatch
):
    """It may be a run that was renamed."""
    (filled.root / "renamed").mkdir()
    _forbid(monkeypatch, filled.root / "renamed", "metrics.json")
    with pytest.raises(StoreError, match=r"Cannot read stored run .*renamed: metrics.json: Permission denied"):
        list(filled.runs())


def _forbid(monkeypatch: pytest.MonkeyPatch, folder: Path, what: str) -> None:
    read = store_module.read_together

    def forbidden(path: Path, *arguments: Any, **options: Any) -> Any:
        if path == folder:
            raise PermissionError(errno.EACCES, "Permission denied", what)
        return read(path, *arguments, **options)

    monkeypatch.setattr(store_module, "read_together", forbidden)
