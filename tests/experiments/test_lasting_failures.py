"""Failures that last, and those that may pass: what a later command leaves out, and what it tries again."""

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cells import tiny_grid
from cytolora.config.run import RunSpec
from cytolora.errors import DataError, EngineError, WeightsError, passing
from cytolora.experiments.expand import expand
from cytolora.experiments.failures import attempt, blamed, failures, lasting
from cytolora.experiments.status import status_of
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


@pytest.fixture
def inputs(drawn_cells: Path) -> Inputs:
    return Inputs(data={"synthetic": drawn_cells})


def runs() -> list[RunSpec]:
    return list(expand(tiny_grid(methods=["linear"])))


def caused(error: Exception, cause: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error from cause

    return work


def failed(store: Store, inputs: Inputs, work: Callable[[], object], name: str = "features_x") -> None:
    with pytest.raises(Exception, match=r".+"):
        attempt(store, inputs, name, runs(), work)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_what_a_disk_or_network_did_not_give_is_tried_again(number: int, inputs: Inputs, tmp_path: Path):
    store = Store(tmp_path / "runs")
    failed(store, inputs, caused(DataError("Cannot read a.png"), OSError(number, "no")))
    assert [one.is_lasting for one in failures(store.root)] == [False]
    assert not lasting(store, inputs, runs())


@pytest.mark.parametrize("error", [passing(WeightsError("No vocabulary")), passing(DataError("has changed"))])
def test_what_lies_in_another_file_or_machine_is_tried_again(error: Exception, inputs: Inputs, tmp_path: Path):
    store = Store(tmp_path / "runs")
    failed(store, inputs, caused(error, ValueError("cut")))
    assert not lasting(store, inputs, runs())


def test_an_image_that_is_damaged_is_left_out_until_it_is_another(inputs: Inputs, tmp_path: Path):
    store = Store(tmp_path / "runs")
    failed(store, inputs, caused(DataError("a.png is damaged"), OSError("image file is truncated")))
    assert [one.name for one in lasting(store, inputs, runs())] == ["features_x"]


@pytest.mark.slow
@pytest.mark.parametrize("cause", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_too_little_memory_while_weights_are_read_is_tried_three_times(
    cause: BaseException, inputs: Inputs, tmp_path: Path
):
    store, calls = Store(tmp_path / "runs"), list[int]()

    def work() -> None:
        calls.append(1)
        raise WeightsError("Too little memory to read w.safetensors") from cause

    with pytest.raises(EngineError, match="3 times"):
        attempt(store, inputs, "features_x", runs(), work)
    assert len(calls) == 3
    assert not lasting(store, inputs, runs())


def test_of_several_runs_under_one_claim_those_at_work_are_blamed_alone(inputs: Inputs, tmp_path: Path):
    store, (first, second, *_) = Store(tmp_path / "runs"), runs()

    def work() -> None:
        with blamed([first]):
            raise DataError("a.png is damaged")

    failed(store, inputs, work)
    assert [one.runs for one in failures(store.root)] == [(first.run_id,)]
    assert lasting(store, inputs, [first])
    assert not lasting(store, inputs, [second])


def test_status_names_a_test_set_that_failed_though_its_runs_are_stored(inputs: Inputs, tmp_path: Path):
    store = Store(tmp_path / "runs")
    for run in runs():
        (store.root / run.run_id).mkdir(parents=True)
    failed(store, inputs, caused(DataError("a.png is damaged"), ValueError()), name=f"test_{runs()[0].setting_id}")
    assert [one.reason for one in status_of(store.root).failed] == ["a.png is damaged"]


_WHOLE = {"version": 1, "name": "a", "runs": ["a"], "reason": "b", "at": "c", "by": "d", "attempts": 1}
_WHOLE |= {"is_lasting": True}


@pytest.mark.parametrize("wrong", [{"attempts": "3"}, {"attempts": None}, {"at": 3}, {"by": None}, {"reason": ["b"]}])
def test_a_record_with_a_field_of_another_kind_is_left_out(wrong: dict[str, object], tmp_path: Path):
    (tmp_path / ".failed").mkdir()
    for content, count in ((_WHOLE, 1), (_WHOLE | wrong, 0)):
        (tmp_path / ".failed" / "x.json").write_text(json.dumps(content))
        assert len(failures(tmp_path)) == count


@pytest.mark.parametrize("content", ['{"version": 1, "runs": [["a"]]}', '{"version": 1, "runs": "abc"}', "[]", "{"])
def test_a_damaged_record_is_left_out(content: str, tmp_path: Path):
    (tmp_path / ".failed").mkdir()
    (tmp_path / ".failed" / "x.json").write_text(content)
    assert failures(tmp_path) == []
