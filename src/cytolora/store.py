"""One folder per run: spec, metrics, predictions, weights, provenance; written by one rename, never half."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytolora.errors import StoreError
from cytolora.files import recover_folders, staged_folder, write_bytes, write_json
from cytolora.specs import RunSpec, to_plain

SPEC = "spec.json"
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
WEIGHTS = "weights.safetensors"
PROVENANCE = "provenance.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is computed from; a stored run counts only while all three are today's. None: not known here."""

    weights_sha256: str | None
    data_fingerprint: str | None
    split_fingerprint: str | None
    """Of the images that this run sees: after the draw."""

    def agrees_with(self, today: "Identity") -> bool:
        """Whether nothing that is known today differs."""
        names = self.__dataclass_fields__
        return all(getattr(today, name) in (None, getattr(self, name)) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Everything that is kept of a run."""

    spec: RunSpec
    metrics: Mapping[str, Any]
    """``val`` and ``test`` (null until the rate is chosen): each accuracy, balanced_accuracy, macro_f1, loss, n;
    ``num_trainable``; ``train``: num_images, num_steps, final_loss."""
    predictions: pa.Table
    """Columns path, label, subset, group, ``meta_`` and the name of each metadata column, and the probability of each
    class under the class's own name."""
    weights: bytes
    """A safetensors file: adapter and head, or the class embeddings of zero-shot."""
    provenance: Mapping[str, Any]
    """The identity's three hashes, versions, git state, device, threads, seconds, classes and rules of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run folder that was read: its JSON files, with the tables and weights still on disk."""

    path: Path
    spec: Mapping[str, Any]
    """``to_plain(RunSpec)``."""
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def identity(self) -> Identity:
        """The three hashes that the run was computed from."""
        return Identity(**{name: self.provenance[name] for name in Identity.__dataclass_fields__})

    def predictions(self) -> pa.Table:
        """Reads the predictions; see RunResult.predictions."""
        return pq.read_table(self.path / PREDICTIONS)

    def weights(self) -> bytes:
        """Reads the safetensors file of adapter and head."""
        return (self.path / WEIGHTS).read_bytes()


class Store:
    """The folder RUNS, one sub-folder per finished run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        recover_folders(root)

    def find(self, run_id: str) -> StoredRun | None:
        """Returns a stored run, or None where there is none."""
        path = self.root / run_id
        return _read(path) if (path / SPEC).is_file() else None

    def runs(self, prefix: str = "") -> Iterator[StoredRun]:
        """Yields the stored runs whose ids begin with ``prefix``, sorted by id."""
        for spec in sorted(self.root.glob(f"{escape(prefix) if prefix else '[!.]'}*/{SPEC}")):
            yield _read(spec.parent)

    def write(self, result: RunResult) -> None:
        """Stores a run, or replaces it whole."""
        with staged_folder(self.root / result.spec.run_id) as folder:
            write_json(folder / SPEC, to_plain(result.spec))
            write_json(folder / METRICS, result.metrics)
            sink = pa.BufferOutputStream()
            pq.write_table(result.predictions, sink)
            write_bytes(folder / PREDICTIONS, sink.getvalue().to_pybytes())
            write_bytes(folder / WEIGHTS, result.weights)
            write_json(folder / PROVENANCE, result.provenance)


def _read(path: Path) -> StoredRun:
    contents = {}
    for name in (SPEC, METRICS, PROVENANCE):
        try:
            contents[name] = json.loads((path / name).read_text())
        except (OSError, ValueError) as error:
            raise StoreError(
                f"Stored run {path} is damaged: {name}: {error}. Remove this folder and run again."
            ) from error
    return StoredRun(path=path, spec=contents[SPEC], metrics=contents[METRICS], provenance=contents[PROVENANCE])
