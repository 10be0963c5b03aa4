"""MLflow mirror: a run of the experiment ``cytolora`` for each stored run, by MLflow's own client."""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cytolora.data.targets import check_shared
from cytolora.errors import ConfigError
from cytolora.experiments.tracking.record import FINGERPRINT, RUN_ID, Record
from cytolora.experiments.tracking.registry import Mirror

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "cytolora"
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # its makers are told of nothing
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by itself 120, and 7 times
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
"""Defaults of MLflow's client that are others here, where the environment says nothing."""
_BATCH = 100
"""Parameters, metrics or tags in one request, at most (MLflow's REST API, Log Batch)."""
_MAX_CHARACTERS = 5000
"""Of a value; MLflow takes 6,000 of a parameter and 8,000 of a tag."""
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_\-. :/]")
_MILLISECONDS = 1000
_Entry = TypeVar("_Entry")


def open_store(address: str) -> Mirror:
    """Opens a tracking server or store; nobody is asked before the first run."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    if folder := _folder_of(address):
        check_shared(folder, option="--to")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        return _Experiment(MlflowClient(tracking_uri=address, registry_uri=address))
    except MlflowException as error:
        if address.partition(":")[0].partition("+")[0] in ("sqlite", "postgresql", "mysql", "mssql"):
            raise ConfigError(
                "MLflow opens a database only where the whole package mlflow is installed; the extra `mlflow` brings "
                "its client alone. Start a server, and name its address: mlflow:http://127.0.0.1:5000."
            ) from error
        raise


def _folder_of(address: str) -> Path | None:
    """Returns the folder of a store of files, a path or ``file:`` address; None of a server or database."""
    scheme = urlsplit(address).scheme
    if scheme == "file":
        return Path(url2pathname(urlsplit(address).path))
    return Path(address) if len(scheme) < 2 else None  # one letter is a disk of Windows


class _Experiment:
    """The experiment, and what it holds already."""

    def __init__(self, client: "MlflowClient") -> None:
        self._client = client
        self._id: str | None = None
        self._known: dict[str, tuple[str, str]] = {}
        """By run id: MLflow's own id and the fingerprint."""

    def __call__(self, record: Record) -> bool:
        """Mirrors a run; the fingerprint is written last, so that one that was cut off is completed the next time."""
        from mlflow.entities import Metric, Param, RunTag

        experiment = self._id or self._read()
        known, fingerprint = self._known.get(record.run_id, ("", ""))
        if fingerprint == record.fingerprint:
            return False
        at = round(record.stored_at * _MILLISECONDS)
        own = known or self._make(experiment, record, at)
        parameters = [Param(_name(name), str(value)[:_MAX_CHARACTERS]) for name, value in record.parameters.items()]
        there = self._client.get_run(own).data.metrics if known else {}  # a store of files keeps equal values twice
        told = {_name(name): value for name, value in record.metrics.items()}
        metrics = [Metric(name, value, at, 0) for name, value in told.items() if there.get(name) != value]
        tags = [RunTag(_name(name), value[:_MAX_CHARACTERS]) for name, value in record.tags.items()]
        for batch in _batches(parameters):
            self._client.log_batch(own, params=batch)
        for batch in _batches(metrics):
            self._client.log_batch(own, metrics=batch)
        for batch in _batches(tags):
            self._client.log_batch(own, tags=batch)
        self._client.set_terminated(own, "FINISHED", at)
        self._client.set_tag(own, FINGERPRINT, record.fingerprint)
        self._known[record.run_id] = (own, record.fingerprint)
        return True

    def _make(self, experiment: str, record: Record, at: int) -> str:
        made = self._client.create_run(experiment, start_time=at, tags={RUN_ID: record.run_id}, run_name=record.run_id)
        own = made.info.run_id
        self._known[record.run_id] = (own, "")
        return own

    def _read(self) -> str:
        """Finds or makes the experiment, and reads which runs it holds."""
        found = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id
        token: str | None = None
        while True:
            page: Any = self._client.search_runs([experiment], max_results=1000, page_token=token)
            for run in page:
                tags = run.data.tags
                if RUN_ID in tags:
                    self._known[tags[RUN_ID]] = (run.info.run_id, tags.get(FINGERPRINT, ""))
            token = page.token
            if not token:
                break
        self._id = experiment
        return experiment


def _name(text: str) -> str:
    """Returns a name that MLflow takes: letters, digits and ``_ - . : /`` and spaces."""
    return _NOT_IN_A_NAME.sub("_", text)


def _batches(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    for start in range(0, len(entries), _BATCH):
        yield list(entries[start : start + _BATCH])
