"""Store of finished runs: a folder each, with spec, metrics, predictions, weights and provenance, written whole.

Several processes may work on one store. Whoever changes a stored run reads, decides and writes within ``exclusive``,
which is short; training and scoring are done outside of it.
"""

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.config.run import RunSpec, to_plain
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import (
    Version,
    current_folder,
    folder_names,
    folder_version,
    json_bytes,
    locked,
    read_together,
    recover_folders,
    staged_folder,
    write_bytes,
)
from cytolora.core.identity import Identity
from cytolora.errors import StoreError

if TYPE_CHECKING:
    import pyarrow as pa  # slow to load, and planning needs none of it

SPEC = "spec.json"
METRICS = "metrics.json"
PREDICTIONS = "predictions.parquet"
WEIGHTS = "weights.safetensors"
PROVENANCE = "provenance.json"
_LOCK = ".store.lock"
"""Not the lock of core/files.py, which is taken for each replacement within."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Everything that is stored of a run."""

    spec: RunSpec
    metrics: Mapping[str, Any]
    """``val`` and ``test`` (null until the rate is chosen): each accuracy, balanced_accuracy, macro_f1, loss, n;
    ``num_trainable``; ``train``: num_images, num_steps, final_loss; for ``linear`` also ``neighbours``: ``knn``
    (its k, val, test) and ``nearest_mean`` on the same draw."""
    predictions: "pa.Table"
    """Columns path, label, subset, group, ``meta_`` and the name of each metadata column, and the probability of each
    class under the class's own name."""
    weights: bytes | None
    """A safetensors file: adapter and head, or the class embeddings of zero-shot; None for a run that was kept
    without it, as in an archive of results."""
    provenance: Mapping[str, Any]
    """The identity's hashes, the prompts of a run that has some, versions, git state, device, threads, seconds,
    classes, rules of the data and the counts of its groups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run folder that was read: its JSON files, with the tables and weights still on disk.

    These are of the same version of the folder, or an error: another process may have replaced it.
    """

    path: Path
    spec: Mapping[str, Any]
    """``to_plain(RunSpec)``."""
    metrics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    version: Version | None = None
    """Of the folder; None for a run that was not read from one."""

    @property
    def run_id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def identity(self) -> Identity:
        """The hashes of what the run was computed from."""
        return Identity.of(self.provenance)

    def predictions(self) -> "pa.Table":
        """Reads the predictions; see RunResult.predictions.

        Raises:
            StoreError: If they are missing or damaged, or the run was replaced since it was read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(pa.BufferReader(self._content(PREDICTIONS)))
        except ValueError as error:
            raise damaged(self.path, f"{PREDICTIONS}: {error}") from error

    def weights(self) -> bytes | None:
        """Reads the safetensors file of adapter and head; None where the run was kept without it.

        Raises:
            StoreError: If it cannot be read, or the run was replaced since it was read.
        """
        if self.file(WEIGHTS).exists():
            return self._content(WEIGHTS)
        self.check_unchanged()
        return None

    def file(self, name: str) -> Path:
        """Returns the path of one of its files, to read it: the folder may be set aside, half replaced."""
        return current_folder(self.path) / name

    def check_unchanged(self) -> None:
        """Raises a StoreError if another process replaced the folder since it was read: what is there is not ours."""
        if self.version is not None and folder_version(self.path) != self.version:
            raise StoreError(
                f"Stored run {self.path} was replaced or removed by another process while it was in use. Run the same "
                "command again, best when the other one has ended."
            )

    def _content(self, name: str) -> bytes:
        try:
            content = self.file(name).read_bytes()
        except OSError as error:
            self.check_unchanged()
            raise damaged(self.path, f"{name}: {error}") from error
        self.check_unchanged()
        return content


class Store:
    """The folder RUNS, one sub-folder per finished run."""

    def __init__(self, root: AnyPath) -> None:
        self.root = as_path(root, "root")
        self._is_recovered = False

    def make_root(self) -> None:
        """Makes the folder, for processes that share it; once, recovers what killed processes left in it.

        Only who writes does: a store that is merely read is left as it is.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error
        if not self._is_recovered:
            recover_folders(self.root)
            self._is_recovered = True

    def find(self, run_id: str) -> StoredRun | None:
        """Returns a stored run, or None where there is none."""
        return _read(self.root / run_id)

    def runs(self, prefix: str = "") -> Iterator[StoredRun]:
        """Yields the stored runs whose ids begin with ``prefix``, sorted by id."""
        for name in folder_names(self.root):
            if name.startswith(prefix) and (run := self.find(name)) is not None:
                yield run

    def runs_of(self, settings: Collection[str]) -> Iterator[StoredRun]:
        """Yields the stored runs of settings, named by what their ids have before rate, seed and hash; sorted by id."""
        for name in folder_names(self.root):
            if name.rsplit("_", 3)[0] in settings and (run := self.find(name)) is not None:
                yield run

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps all other processes from entering such a block of this store: to read, decide and write, no longer.

        Not to be nested. On a file system without locks the block is entered at once: each run is still one version
        whole, but of two processes that replace the same run at the same moment one may undo what the other did,
        until the same command is run again.
        """
        self.make_root()
        try:
            with locked(self.root / _LOCK):
                yield
        except OSError as error:
            raise unwritable(self.root, error) from error

    def add(self, result: RunResult) -> None:
        """Stores a run, unless another process has stored it meanwhile: then that one stays.

        Raises:
            StoreError: If the other one was computed from something else, or the disk does not take it.
        """
        with self.exclusive():
            stored = self.find(result.spec.run_id)
            if stored is None:
                return self.write(result)
            if stored.identity != Identity.of(result.provenance):
                raise StoreError(
                    f"Stored run {stored.path} was written by another process while this one computed it from other "
                    "weights, data or splits. It was not overwritten: choose another --out."
                )

    def write(self, result: RunResult) -> None:
        """Stores a run, or replaces it whole, whatever is there; see ``exclusive`` and ``add``.

        Equal results give equal files.

        Raises:
            StoreError: If the disk does not take it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.make_root()
        sink = pa.BufferOutputStream()
        pq.write_table(result.predictions.combine_chunks(), sink)  # how it was put together leaves no trace
        contents = {
            SPEC: json_bytes(to_plain(result.spec)),
            METRICS: json_bytes(result.metrics),
            PREDICTIONS: sink.getvalue().to_pybytes(),
            PROVENANCE: json_bytes(result.provenance),
        }
        if result.weights is not None:
            contents[WEIGHTS] = result.weights
        try:
            with staged_folder(self.root / result.spec.run_id) as folder:
                for name, content in contents.items():
                    write_bytes(folder / name, content, durable=False)  # flushed whole, before the folder's rename
        except OSError as error:
            raise unwritable(self.root, error) from error


def require_writable(folder: Path) -> None:
    """Raises a StoreError if a folder cannot be made, or nothing be written in it; leaves nothing behind."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        tempfile.TemporaryDirectory(dir=existing).cleanup()
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error for a folder that nothing can be written to."""
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is in the way" if in_the_way else error.strerror or error
    return StoreError(f"Cannot write to {folder}: {why}. Choose another --out, or make room.")


def damaged(path: Path, problem: str) -> StoreError:
    """The error for a run folder that cannot be used."""
    return StoreError(f"Stored run {path} is damaged: {problem.rstrip('.')}. Remove this folder and run again.")


def _read(path: Path) -> StoredRun | None:
    """Reads a run folder, all files of one version; None where there is none, or one without a spec."""
    try:
        files, version = read_together(path, _PROBLEMS)
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and error.filename in (str(path), SPEC):
            return None
        raise damaged(path, f"{error.filename}: {error.strerror}") from error
    contents = {}
    for name, problem_in in _PROBLEMS.items():
        try:
            contents[name] = json.loads(files[name])
        except ValueError as error:
            raise damaged(path, f"{name}: {error}") from error
        if problem := problem_in(contents[name]):
            raise damaged(path, f"{name} {problem}")
    return StoredRun(
        path=path, spec=contents[SPEC], metrics=contents[METRICS], provenance=contents[PROVENANCE], version=version
    )


_Check = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and the test of it."""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_TEXT: _Check = ("a text", lambda value: isinstance(value, str))
_NUMBER: _Check = ("a finite number", _is_number)
_COUNT: _Check = ("a whole number", _is_count)
_WHOLE: _Check = ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_OBJECT: _Check = ("an object", lambda value: isinstance(value, dict))
_SCORES: _Check = ("an object or null", lambda value: value is None or isinstance(value, dict))
_NAMES: _Check = (
    "a list of texts",
    lambda value: isinstance(value, list) and bool(value) and all(isinstance(name, str) for name in value),
)

_SCORE = {"accuracy": _NUMBER, "balanced_accuracy": _NUMBER, "macro_f1": _NUMBER, "n": _COUNT}
_SPEC = {
    **{"dataset": _TEXT, "backbone": _TEXT, "method": _TEXT, "learning_rate": _NUMBER, "seed": _WHOLE},
    **{"sampling": _OBJECT, "split": _OBJECT, "train": _OBJECT},
}
_METRICS = {"val": _SCORES, "test": _SCORES, "num_trainable": _COUNT, "train": _OBJECT}
_PROVENANCE = {"weights_sha256": _TEXT, "data_fingerprint": _TEXT, "split_fingerprint": _TEXT, "classes": _NAMES}
_GROUPING = ("num_images", "num_grouped", "num_groups", "num_torn")
_COUNTS: _Check = (
    f"an object of the whole numbers {', '.join(_GROUPING)}",
    lambda value: isinstance(value, dict) and all(_is_count(value.get(name)) for name in _GROUPING),
)
_OPTIONAL = {"grouping": _COUNTS, "seconds": _NUMBER, "num_repeated": _COUNT, "threads": _COUNT}
"""Of provenance: earlier runs may lack them."""


def _problem_in_spec(content: Any) -> str:
    """Names what is missing or wrong in a run's spec; empty where nothing is."""
    return _problem(content, _SPEC)


def _problem_in_metrics(content: Any) -> str:
    """Names what is missing or wrong in a run's metrics; empty where nothing is."""
    train = {"num_images": _COUNT, "num_steps": _COUNT}
    problem = _problem(content, _METRICS) or _problem(content["train"], train, "train.")
    for name, checks in (("val", _SCORE | {"loss": _NUMBER}), ("test", _SCORE)):
        if not problem and content[name] is not None:
            problem = _problem(content[name], checks, f"{name}.")
    return problem


def _problem_in_provenance(content: Any) -> str:
    """Names what is missing or wrong in a run's provenance; empty where nothing is."""
    return _problem(content, _PROVENANCE) or _problem(
        content, {name: check for name, check in _OPTIONAL.items() if content.get(name)}
    )


def _problem(content: Any, checks: Mapping[str, _Check], prefix: str = "") -> str:
    for name, (kind, is_right) in checks.items():
        if not isinstance(content, dict) or name not in content:
            return f"has no {prefix + name!r}"
        if not is_right(content[name]):
            return f"has {prefix + name!r} {content[name]!r:.40}, which is not {kind}"
    return ""


_PROBLEMS = {SPEC: _problem_in_spec, METRICS: _problem_in_metrics, PROVENANCE: _problem_in_provenance}
"""What keeps a folder from being a run; unknown fields are ignored."""
