"""Trackers as mirrors of a store: each run once, as the tracker's own reader sees it, and never in the way of a run."""

import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fake_store import FakeData, write_runs

from cytolora.cli.app import main
from cytolora.config.run import RunSpec
from cytolora.config.yaml import parse_spec
from cytolora.core.progress import SILENT
from cytolora.errors import ConfigError, StoreError
from cytolora.experiments.run_folder import SPEC
from cytolora.experiments.store import Store
from cytolora.experiments.stored_run import RunResult
from cytolora.experiments.tracking.record import FINGERPRINT, RUN_ID, Record, record_of
from cytolora.experiments.tracking.registry import TRACKERS, Target, Tracker, parse_target
from cytolora.experiments.tracking.track import mirrored, track

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
needs_trackio = pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow-skinny is not installed")
needs_mlflow_server = pytest.mark.skipif(
    find_spec("mlflow") is None or find_spec("sqlalchemy") is None or find_spec("flask") is None,
    reason="the whole package mlflow, which has the server, is not installed",
)


def cli(*arguments: str | Path) -> int | None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code  # pyright: ignore[reportReturnType]


def write(root: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "models": ("uni",),
        "methods": ("lora",),
        "shots": (1,),
        "seeds": (1, 2),
        "rates": (1e-3,),
    }
    write_runs(Store(root), **settings | changes)
    return root


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return write(tmp_path / "runs")


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Takes connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def closed_port() -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def target_of(mirror, check=lambda address, seconds: None) -> Target:
    tracker = Tracker(name="mine", description="", address="PLACE", open=lambda address: mirror, check=check)
    return Target(tracker, "place")


def test_a_record_holds_spec_metrics_and_hashes_and_names_no_image(runs: Path):
    run = next(Store(runs).runs())
    record = record_of(run)
    assert record.parameters["backbone"] == "uni"
    assert record.parameters["sampling.shots"] == 1
    assert record.parameters["adapter.targets"] == '["q","v"]'
    assert "sampling.fraction" not in record.parameters
    assert record.metrics["test.accuracy"] == run.metrics["test"]["accuracy"]
    assert record.metrics["train.num_steps"] == run.metrics["train"]["num_steps"]
    assert record.tags[RUN_ID] == run.run_id
    assert record.tags["cytolora.data_fingerprint"] == run.provenance["data_fingerprint"]
    assert record.tags["version.torch"] == run.provenance["versions"]["torch"]
    told = json.dumps([dict(record.parameters), dict(record.metrics), dict(record.tags)])
    names = run.predictions()["path"].to_pylist()
    assert names
    assert not [name for name in names if name in told or Path(name).name in told]
    assert str(runs) not in told
    assert abs(record.stored_at - time.time()) < 60


def test_a_fingerprint_changes_with_the_metrics_and_not_with_the_time(runs: Path):
    record = record_of(next(Store(runs).runs()))
    assert replace(record, stored_at=0.0).fingerprint == record.fingerprint
    assert replace(record, metrics={**record.metrics, "test.accuracy": 0.1}).fingerprint != record.fingerprint


@needs_tensorboard
@pytest.mark.slow
def test_tensorboards_own_reader_finds_each_run_once_and_its_latest_scores(runs: Path, tmp_path: Path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # pyright: ignore[reportAttributeAccessIssue]

    logs = tmp_path / "logs"
    assert cli("track", runs, "--to", f"tensorboard:{logs}", "--quiet") == 0
    files = {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()}
    assert cli("track", runs, "--to", f"tensorboard:{logs}", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "2 runs mirrored, 0 there already" in printed
    assert "0 runs mirrored, 2 there already" in printed
    assert {path: path.read_bytes() for path in logs.rglob("*") if path.is_file()} == files
    stored = list(Store(runs).runs())
    for run in stored:
        read = EventAccumulator(str(logs / run.run_id)).Reload()
        scalars = read.Tags()["scalars"]
        assert {"test/accuracy", "val/loss", "num_trainable"} <= set(scalars)
        (event,) = read.Scalars("test/accuracy")
        assert event.value == pytest.approx(run.metrics["test"]["accuracy"], abs=1e-7)
        plugin = read.summary_metadata["_hparams_/session_start_info"].plugin_data
        session = HParamsPluginData.FromString(plugin.content).session_start_info
        assert session.hparams["learning_rate"].number_value == 1e-3
        assert session.hparams["backbone"].string_value == "uni"
        (text,) = read.Tensors("tags")
        assert run.provenance["data_fingerprint"].encode() in text.tensor_proto.string_val[0]
    write(runs, rates=(1e-3,), tested=False)  # stored again, without test scores
    last = logs / stored[-1].run_id
    others = last / "events.out.tfevents.1.somebody"
    others.write_bytes(b"")
    assert track(runs, parse_target(f"tensorboard:{logs}")).num_mirrored == 2
    others.unlink()
    read = EventAccumulator(str(last)).Reload()
    assert "test/accuracy" not in read.Tags()["scalars"]
    assert len(list(last.iterdir())) == 1


@needs_tensorboard
def test_a_store_is_no_folder_for_event_files(runs: Path):
    before = sorted(path for path in runs.rglob("*"))
    with pytest.raises(ConfigError, match="is a folder of stored runs"):
        track(runs, parse_target(f"tensorboard:{runs}"))
    assert sorted(path for path in runs.rglob("*")) == before


@needs_mlflow
@pytest.mark.slow
def test_mlflows_own_client_finds_each_run_once_and_completes_one_that_was_cut_off(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    check_mlflow(runs, str(tmp_path / "mlflow"), capsys)


@needs_mlflow_server
@pytest.mark.slow
def test_an_mlflow_server_holds_each_run_once(runs: Path, tmp_path: Path, capsys):
    port = int(closed_port().rpartition(":")[2])
    database = ("--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *database]
    address = f"http://127.0.0.1:{port}"
    with subprocess.Popen([*command, "--workers", "1"], cwd=tmp_path) as server:
        try:
            until = time.monotonic() + 300
            while time.monotonic() < until:
                try:
                    parse_target(f"mlflow:{address}").check(1.0)
                    break
                except ConfigError:
                    time.sleep(0.5)
            check_mlflow(runs, address, capsys)
        finally:
            server.terminate()


def check_mlflow(runs: Path, address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Mirrors twice, cuts one off, and reads what is there."""
    assert cli("track", runs, "--to", f"mlflow:{address}", "--quiet") == 0
    assert cli("track", runs, "--to", f"mlflow:{address}", "--quiet") == 0
    printed = capsys.readouterr().out
    assert "2 runs mirrored, 0 there already" in printed
    assert "0 runs mirrored, 2 there already" in printed

    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=address, registry_uri=address)

    def found() -> dict[str, Any]:
        experiment = client.get_experiment_by_name("cytolora")
        assert experiment is not None
        listed = client.search_runs([experiment.experiment_id])
        assert len(listed) == 2
        return {one.data.tags[RUN_ID]: one for one in listed}

    stored = list(Store(runs).runs())
    for run in stored:
        one = found()[run.run_id]
        assert one.info.run_name == run.run_id
        assert one.info.status == "FINISHED"
        assert one.data.params["sampling.shots"] == "1"
        assert one.data.params["adapter.targets"] == '["q","v"]'
        assert one.data.metrics["test.accuracy"] == pytest.approx(run.metrics["test"]["accuracy"])
        assert one.data.tags["cytolora.weights_sha256"] == run.provenance["weights_sha256"]
    last = stored[-1]
    own = found()[last.run_id].info.run_id
    client.set_tag(own, FINGERPRINT, "")  # as where a call was cut off
    assert track(runs, parse_target(f"mlflow:{address}")).num_mirrored == 1
    assert found()[last.run_id].info.run_id == own
    assert len(client.get_metric_history(own, "val.loss")) == 1
    write(runs, data=FakeData(num_groups=50))  # the same runs with other scores
    assert track(runs, parse_target(f"mlflow:{address}")).num_mirrored == 2
    changed = Store(runs).find(last.run_id)
    assert changed is not None
    assert changed.metrics["test"]["n"] != last.metrics["test"]["n"]
    assert found()[last.run_id].data.metrics["test.n"] == changed.metrics["test"]["n"]


def wandb_run(folder: Path) -> dict[str, Any]:
    """Reads the file of an offline run: framed like LevelDB's log, each record a message of W&B's own schema."""
    from wandb.proto import wandb_internal_pb2  # pyright: ignore[reportMissingImports]

    (path,) = folder.glob("run-*.wandb")
    content, at, whole, found = path.read_bytes(), 7, b"", {"config": {}, "summary": {}}
    while at + 7 <= len(content):
        if (left := 32_768 - at % 32_768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind not in (1, 4):  # whole, last part
            continue
        record = wandb_internal_pb2.Record.FromString(whole)
        whole = b""
        if record.HasField("run"):
            found |= {"id": record.run.run_id, "project": record.run.project, "host": record.run.host}
        for name, updates in (("config", record.run.config.update), ("summary", record.summary.update)):
            found[name] |= {one.key: json.loads(one.value_json) for one in updates if one.key}
    return found


def check_files(runs: Path, target: str, read: Callable[[], dict[str, dict[str, Any]]], capsys: Any) -> None:
    """A tracker of files holds each run once, and of one that was stored anew the newest scores.

    Args:
        read: Returns config and summary of each run there, by its id.
    """
    assert not cli("track", runs, "--to", target, "--quiet")
    assert "2 runs mirrored, 0 there already" in capsys.readouterr().out
    stored = {run.run_id: run for run in Store(runs).runs()}
    there = read()
    assert there.keys() == stored.keys()
    for name, run in stored.items():
        config, summary = there[name]["config"], there[name]["summary"]
        record = record_of(run)
        assert summary.items() >= record.metrics.items()
        assert config.items() >= {**record.parameters, **record.tags}.items()
    assert not cli("track", runs, "--to", target, "--quiet")
    assert "0 runs mirrored, 2 there already" in capsys.readouterr().out
    first = next(iter(stored.values()))
    better = {**first.metrics, "test": {**first.metrics["test"], "accuracy": 0.999}}
    change_metrics(runs, first.run_id, better)
    assert not cli("track", runs, "--to", target, "--quiet")
    assert "1 run mirrored, 1 there already" in capsys.readouterr().out
    there = read()
    assert there.keys() == stored.keys()
    assert there[first.run_id]["summary"]["test.accuracy"] == 0.999


def change_metrics(runs: Path, run_id: str, metrics: dict[str, Any]) -> None:
    store = Store(runs)
    run = store.find(run_id)
    assert run is not None
    spec = parse_spec(run.spec, RunSpec, SPEC)
    table, own = run.predictions(), run.provenance
    store.write(RunResult(spec=spec, metrics=metrics, predictions=table, weights=None, provenance=own))


@needs_wandb
@pytest.mark.slow
def test_an_offline_run_of_wandb_holds_each_run_once_and_names_no_machine(runs: Path, tmp_path: Path, capsys):
    folder = tmp_path / "cytology"

    def read() -> dict[str, dict[str, Any]]:
        found = [wandb_run(one) for one in sorted(folder.glob("offline-run-*"))]
        assert {(one["project"], one["host"]) for one in found} == {("cytology", "none")}
        return {one["id"]: one for one in found}

    check_files(runs, f"wandb:{folder}", read, capsys)
    kept = {path.suffix for path in folder.glob("offline-run-*/**/*") if path.is_file()}
    assert kept == {".wandb", ".txt"}  # no log, which names folders of the machine
    assert cli("track", runs, "--to", f"wandb:{runs}", "--quiet") == 2
    assert "is a folder of stored runs" in capsys.readouterr().err


@needs_trackio
@pytest.mark.slow
def test_a_project_of_trackio_holds_each_run_once(runs: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    from trackio import sqlite_storage, utils  # pyright: ignore[reportMissingImports]
    from trackio.api import Api  # pyright: ignore[reportMissingImports]

    for module in (utils, sqlite_storage):  # the variable is read once, when trackio is loaded
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")

    def read() -> dict[str, dict[str, Any]]:
        found = {}
        for one in Api().runs("cytology"):
            (log,) = sqlite_storage.SQLiteStorage.get_logs("cytology", one.name, run_id=one.id)
            assert one.name not in found
            found[one.name] = {"config": one.config, "summary": log}
        return found

    check_files(runs, "trackio:cytology", read, capsys)


@needs_mlflow
def test_an_address_that_does_not_answer_is_one_line(runs: Path, silent_server: str, capsys):
    server = closed_port().replace("http://", "http://me:secret@")
    assert cli("track", runs, "--to", f"mlflow:{server}", "--quiet") == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert "does not answer (no answer over HTTP within 5 s)" in printed.err
    assert "secret" not in printed.err
    began = time.monotonic()
    with pytest.raises(ConfigError, match="does not answer"):
        parse_target(f"mlflow:{silent_server}").check(0.2)
    assert time.monotonic() - began < 20  # it would be silent for ever


@pytest.mark.parametrize(
    ("to", "says"),
    [
        ("mlfow:http://127.0.0.1", r"Unknown tracker 'mlfow'\. Did you mean 'mlflow'\? Known: mlflow, tensorboard"),
        ("mlflow", "'mlflow' names no place in the tracker. Expected mlflow:URI"),
        ("tensorboard:", "Expected tensorboard:FOLDER"),
    ],
)
def test_a_wrong_target_says_what_was_expected(to: str, says: str):
    with pytest.raises(ConfigError, match=says):
        parse_target(to)


def test_a_package_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cytolora.experiments.tracking.registry.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs mlflow, which is not installed. Install the extra `mlflow`"):
        parse_target("mlflow:http://127.0.0.1:5000")


def test_an_empty_store_is_an_error(tmp_path: Path):
    with pytest.raises(StoreError, match="No finished runs"):
        track(tmp_path, target_of(lambda record: True))


def test_what_a_library_raises_is_one_line_without_passwords(runs: Path):
    def refuse(record: Record) -> bool:
        raise RuntimeError("refused by http://me:secret@host\n  at once")

    with pytest.raises(ConfigError, match=r"mine:place did not take run .*: refused by http://host at once\. "):
        track(runs, target_of(refuse))


def test_runs_are_mirrored_while_others_are_at_work_and_untested_ones_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cytolora.experiments.tracking.track._LOOK_SECONDS", 0.02)
    seen: list[Record] = []
    root = tmp_path / "runs"
    with mirrored(root, [target_of(lambda record: seen.append(record) or True)], SILENT):
        write(root, seeds=(1,))
        write(root, seeds=(2,), tested=False)
        until = time.monotonic() + 20
        while not seen and time.monotonic() < until:
            time.sleep(0.01)
        assert [record.parameters["seed"] for record in seen] == [1]
    assert [record.parameters["seed"] for record in seen] == [1, 2]


def test_a_tracker_that_hangs_keeps_the_end_by_a_second_and_is_told_of_once(runs: Path):
    told: list[str] = []
    progress = replace(SILENT, find=told.append)
    hangs = target_of(lambda record: time.sleep(30) or True)
    silent = target_of(lambda record: True, check=lambda address, within: time.sleep(30))
    began = time.monotonic()
    with mirrored(runs, [hangs, silent], progress):
        pass
    assert time.monotonic() - began < 20  # a second, and what a busy machine adds; they hang for 30
    assert len(told) == 2
    assert all("has not answered for" in line and f"cytolora track {runs} --to mine:place" in line for line in told)


def test_a_tracker_that_fails_stops_no_block_and_hides_no_error_of_it(runs: Path):
    told: list[str] = []

    def refuse(record: Record) -> bool:
        raise RuntimeError("full")

    with (
        pytest.raises(StoreError, match="of the block"),
        mirrored(runs, [target_of(refuse)], replace(SILENT, find=told.append)),
    ):
        raise StoreError("of the block")
    (line,) = told
    assert "did not take run" in line
    assert "full" in line


@needs_mlflow
@pytest.mark.slow
def test_a_run_ends_well_beside_a_tracker_that_does_not_answer(
    drawn_cells: Path, silent_server: str, tmp_path: Path, capsys
):
    one = ("--method", "linear", "--shots", "1", "--seeds", "1", "--learning-rates", "0.01", "--steps", "2", "--quiet")
    out = tmp_path / "runs"
    tracks = ("--track", f"mlflow:{silent_server}", "--track", f"tensorboard:{tmp_path / 'logs'}")
    assert cli("run", "smoke", *one, "--data", f"synthetic={drawn_cells}", "--out", out, *tracks) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("!")]
    assert len(warned) == 1
    assert f"mlflow:{silent_server} does not answer" in warned[0]
    names = sorted(path.parent.name for path in out.glob(f"*/{SPEC}"))
    assert names
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == names


def test_the_trackers_are_found_by_name():
    assert [tracker.name for tracker in TRACKERS] == ["mlflow", "tensorboard", "trackio", "wandb"]
