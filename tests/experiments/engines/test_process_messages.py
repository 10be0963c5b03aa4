"""Messages of worker processes: errors as one process raises them, and notices that are shown once."""

import errno
import os
import pickle
import sys
import warnings
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from stand_in_runs import units_of
from stand_in_workers import run_units

from cytolora.cli.app import main
from cytolora.core.findings import RefusedDataError
from cytolora.core.progress import SILENT
from cytolora.errors import ConfigError, DataError, EngineError
from cytolora.experiments.engines import processes
from cytolora.experiments.engines.processes import ProcessCrew
from cytolora.experiments.engines.workers import Workers
from cytolora.experiments.store import Store
from cytolora.training.resources import Inputs


def test_units_are_done_and_what_a_library_prints_is_no_answer(crew: ProcessCrew):
    run_units(crew, "one", "two", "three", workers=2)
    assert len(crew.processes) == 2


def test_what_workers_log_is_shown_once_by_the_driver_under_its_name(
    crew: ProcessCrew, caplog: pytest.LogCaptureFixture
):
    run_units(crew, "log", "one", "log", "two", "log", workers=2)
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        ("cytolora.core.cache", "WARNING", "a.png is damaged: it is made anew."),
        ("somelibrary", "ERROR", "a library says so"),
    ]


def test_what_workers_warn_of_is_shown_once_by_the_driver_with_its_place(crew: ProcessCrew):
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        run_units(crew, "warn", "one", "warn", workers=2)
    assert [(one.category, str(one.message), one.filename, one.lineno) for one in shown] == [
        (FutureWarning, "will change", "/lib/site-packages/other/a.py", 7),
        (UserWarning, "also", "/lib/site-packages/other/a.py", 8),
    ]


def test_what_is_told_and_cannot_be_read_is_named_by_the_error(crew: ProcessCrew):
    crew.setup = pickle.dumps(_Unreadable())
    with pytest.raises(EngineError, match=r"3 workers died while they started, the last: exit code 1, ZeroDivision"):
        run_units(crew, "one")


class _Unreadable:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


@pytest.mark.parametrize("what", [lambda: 0, Lock(), (one for one in ()), sys, memoryview(b""), type("A", (), {})])
def test_a_setup_that_cannot_be_sent_is_one_line(what: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "worker_setup", lambda *_, **__: what)
    monkeypatch.setattr(processes, "open_units", lambda *_: units_of("one"))
    options: Any = {"device": torch.device("cpu"), "progress": SILENT, "workers": Workers(count=1)}
    with pytest.raises(
        ConfigError,
        match=r"^What workers need cannot be sent to another process: .*leave out --workers and --gpus-per-run\.$",
    ):
        processes.run_jobs([], Inputs(data={}), Store(tmp_path), **options)


def test_what_a_worker_refuses_is_the_error_of_the_run(crew: ProcessCrew):
    with pytest.raises(DataError, match=r"^cell\.png is no image\.$"):
        run_units(crew, "refuse")


def test_what_a_worker_refuses_keeps_its_kind_whatever_its_class_takes(crew: ProcessCrew):
    with pytest.raises(RefusedDataError, match=r"^Some images have a subset\.$") as raised:
        run_units(crew, "refuse with a code")
    assert raised.value.code == "D509"


@pytest.mark.parametrize(
    ("dataset", "number", "filename"),
    [
        ("full disk", errno.ENOSPC, "runs/metrics.json"),
        ("read-only disk", errno.EROFS, "runs/metrics.json"),
        ("unreachable", errno.ENOTCONN, None),
    ],
)
def test_an_error_of_the_system_in_a_worker_is_the_drivers_with_its_place(
    crew: ProcessCrew, dataset: str, number: int, filename: str | None
):
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        run_units(crew, dataset)
    assert (raised.value.errno, raised.value.filename) == (number, filename)
    assert "in work" in raised.value.__notes__[0]


def test_a_package_that_a_worker_lacks_is_named_by_the_driver(crew: ProcessCrew):
    with pytest.raises(ModuleNotFoundError) as raised:
        run_units(crew, "no package")
    assert raised.value.name == "peft"


@pytest.mark.parametrize(("dataset", "said"), [("broken pipe", "Broken pipe"), ("odd error", "of a kind of its own")])
def test_an_error_that_the_driver_cannot_raise_as_its_own_is_a_fault_with_its_stack_trace(
    crew: ProcessCrew, dataset: str, said: str
):
    with pytest.raises(RuntimeError, match=rf"A worker failed:\n(.|\n)*{said}"):
        run_units(crew, dataset)


@pytest.mark.parametrize(
    ("dataset", "line"),
    [
        ("full disk", "cytolora: Cannot write runs/metrics.json: No space left on device. Make room, and run the same"),
        ("read-only disk", "cytolora: Cannot write runs/metrics.json: Read-only file system. Name a folder on a disk"),
        ("no package", "cytolora: This command needs peft, which is not installed here."),
    ],
)
def test_run_says_in_one_line_what_a_worker_lacks(
    dataset: str,
    line: str,
    crew: ProcessCrew,
    drawn_cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(processes, "worker_setup", lambda *_, **__: str(tmp_path / "died"))
    monkeypatch.setattr(processes, "open_units", lambda *_: units_of(dataset))
    options = ("--shots", "1", "--data", f"synthetic={drawn_cells}", "--out", str(tmp_path / "runs"), "--quiet")
    with pytest.raises(SystemExit) as exit_:
        main(["run", "smoke", *options, "--workers", "1"])
    assert exit_.value.code == 2
    assert " ".join(capsys.readouterr().err.split()).startswith(line)


def test_a_fault_of_the_program_keeps_its_stack_trace(crew: ProcessCrew):
    with pytest.raises(RuntimeError, match=r"A worker failed:\n(.|\n)*of a programmer") as raised:
        run_units(crew, "fail")
    assert "in work" in str(raised.value)
