"""One folder per run: spec, metrics, predictions, weights, provenance; written by one rename, never half."""

import json
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.arguments import AnyPath, as_path
from cytolora.errors import StoreError
from cytolora.files import canonical_json, json_bytes, recover_folders, sha256_text, staged_folder, write_bytes
from cytolora.specs import RunSpec, to_plain
from cytolora.stored_fields import problem_in_metrics, problem_in_provenance, problem_in_spec

if TYPE_CHECKING:
    import pyarrow as pa  # slow to load, and planning needs none of it

SPEC = "spec.json"
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
WEIGHTS = "weights.safetensors"
PROVENANCE = "provenance.json"
_PROBLEMS = {SPEC: problem_in_spec, METRICS: problem_in_metrics, PROVENANCE: problem_in_provenance}
"""What keeps a folder from being a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What a run is computed from; a stored run counts only while all of it is today's. None: not known here."""

    weights_sha256: str | None
    data_fingerprint: str | None
    split_fingerprint: str | None
    """Of the images that this run sees: after the draw."""
    prompts_sha256: str | None = None
    """Of what the text tower is asked; None for a run that asks nothing."""

    def agrees_with(self, today: "Identity") -> bool:
        """Whether nothing that is known today differs."""
        names = self.__dataclass_fields__
        return all(getattr(today, name) in (None, getattr(self, name)) for name in names)


def prompts_hash(prompts: Mapping[str, Any] | None) -> str | None:
    """Returns the hash of class prompts; another wording of one class is another hash."""
    return None if prompts is None else sha256_text(canonical_json(prompts))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Everything that is kept of a run."""

    spec: RunSpec
    metrics: Mapping[str, Any]
    """``val`` and ``test`` (null until the rate is chosen): each accuracy, balanced_accuracy, macro_f1, loss, n;
    ``num_trainable``; ``train``: num_images, num_steps, final_loss; for ``linear`` also ``neighbours``: ``knn``
    (its k, val, test) and ``nearest_mean`` on the same draw."""
    predictions: "pa.Table"
    """Columns path, label, subset, group, ``meta_`` and the name of each metadata column, and the probability of each
    class under the class's own name."""
    weights: bytes
    """A safetensors file: adapter and head, or the class embeddings of zero-shot."""
    provenance: Mapping[str, Any]
    """The identity's hashes, the prompts of a run that has some, versions, git state, device, threads, seconds, classes
    and rules of the data."""


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
        """The hashes of what the run was computed from."""
        return Identity(
            weights_sha256=self.provenance["weights_sha256"],
            data_fingerprint=self.provenance["data_fingerprint"],
            split_fingerprint=self.provenance["split_fingerprint"],
            prompts_sha256=prompts_hash(self.provenance.get("prompts")),
        )

    def predictions(self) -> "pa.Table":
        """Reads the predictions; see RunResult.predictions.

        Raises:
            StoreError: If they are missing or damaged.
        """
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self.path / PREDICTIONS)
        except (OSError, ValueError) as error:
            raise damaged(self.path, f"{PREDICTIONS}: {error}") from error

    def weights(self) -> bytes:
        """Reads the safetensors file of adapter and head."""
        return (self.path / WEIGHTS).read_bytes()


class Store:
    """The folder RUNS, one sub-folder per finished run."""

    def __init__(self, root: AnyPath) -> None:
        self.root = as_path(root, "root")
        recover_folders(self.root)

    def make_root(self) -> None:
        """Makes the folder, for processes that share it."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def find(self, run_id: str) -> StoredRun | None:
        """Returns a stored run, or None where there is none."""
        path = self.root / run_id
        return _read(path) if (path / SPEC).is_file() else None

    def runs(self, prefix: str = "") -> Iterator[StoredRun]:
        """Yields the stored runs whose ids begin with ``prefix``, sorted by id."""
        for spec in sorted(self.root.glob(f"{escape(prefix) if prefix else '[!.]'}*/{SPEC}")):
            yield _read(spec.parent)

    def runs_of(self, cells: Collection[str]) -> Iterator[StoredRun]:
        """Yields the stored runs of cells, named by what their ids have before rate, seed and hash; sorted by id."""
        names = sorted(path.name for path in self.root.iterdir()) if self.root.is_dir() else []
        for name in names:
            if name.rsplit("_", 3)[0] in cells and (self.root / name / SPEC).is_file():
                yield _read(self.root / name)

    def write(self, result: RunResult) -> None:
        """Stores a run, or replaces it whole.

        Raises:
            StoreError: If the disk does not take it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(result.predictions, sink)
        contents = {
            SPEC: json_bytes(to_plain(result.spec)),
            METRICS: json_bytes(result.metrics),
            PREDICTIONS: sink.getvalue().to_pybytes(),
            WEIGHTS: result.weights,
            PROVENANCE: json_bytes(result.provenance),
        }
        try:
            with staged_folder(self.root / result.spec.run_id) as folder:
                for name, content in contents.items():
                    write_bytes(folder / name, content, durable=False)  # flushed whole, before the folder's rename
        except OSError as error:
            raise unwritable(self.root, error) from error


def require_writable(folder: Path) -> None:
    """Raises a StoreError if a folder cannot be made, or nothing be written in it; leaves nothing behind."""
    here = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryDirectory(dir=here).cleanup()
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error for a place where nothing can be written."""
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is in the way" if in_the_way else error.strerror or error
    return StoreError(f"Cannot write to {folder}: {why}. Choose another --out, or make room.")


def damaged(path: Path, problem: str) -> StoreError:
    """The error for a run folder that cannot be used."""
    return StoreError(f"Stored run {path} is damaged: {problem.rstrip('.')}. Remove this folder and run again.")


def _read(path: Path) -> StoredRun:
    contents = {}
    for name, problem_in in _PROBLEMS.items():
        try:
            contents[name] = json.loads((path / name).read_text())
        except (OSError, ValueError) as error:
            raise damaged(path, f"{name}: {error}") from error
        if problem := problem_in(contents[name]):
            raise damaged(path, f"{name} {problem}")
    return StoredRun(path=path, spec=contents[SPEC], metrics=contents[METRICS], provenance=contents[PROVENANCE])
