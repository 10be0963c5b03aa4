"""Store of finished runs: a folder each, with spec, metrics, predictions, weights and provenance, written whole.

Several processes may work on one store. Whoever changes a stored run reads, decides and writes within ``exclusive``,
which is short; training and scoring are done outside of it.
"""

import errno
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cytolora.config.run import RunSpec, to_plain
from cytolora.config.yaml import parse_spec
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import json_bytes, write_bytes
from cytolora.core.folders import (
    current_folder,
    folder_names,
    nearest_existing,
    read_together,
    recover_folders,
    staged_folder,
)
from cytolora.core.identity import Identity
from cytolora.core.locks import locked
from cytolora.core.strict_json import read_json
from cytolora.core.unfinished import sweep_below, temporary_name
from cytolora.errors import ConfigError, ReplacedError, StoreError
from cytolora.experiments.batch_division import WHOLE, BatchDivision
from cytolora.experiments.run_folder import (
    CHECKSUMS,
    METRICS,
    PREDICTIONS,
    PROBLEMS,
    PROVENANCE,
    SPEC,
    WEIGHTS,
    checksum_lines,
    damaged,
    problem_in_table,
    read_checksums,
    unreadable,
    verify,
)
from cytolora.experiments.stored_run import RunResult, StoredRun

log = logging.getLogger(__name__)

_LOCK = ".store.lock"
"""Not the lock of core/folders.py, which is taken for each replacement within."""
_STATES = ".training"
_RUN_ID = re.compile(r".+_lr[^_]+_s\d+_[0-9a-f]{8}")
_MAX_READINGS = 5
"""How often results are read that another process replaces at the same time."""
_Value = TypeVar("_Value")


class Store:
    """The folder RUNS, one sub-folder per finished run."""

    def __init__(
        self,
        root: AnyPath,
        *,
        checkpoint_minutes: float = 10.0,
        division: BatchDivision = WHOLE,
        packages: Mapping[str, str] | None = None,
    ) -> None:
        """Opens a store; nothing is made or read yet.

        Args:
            checkpoint_minutes: Between two states that a long run keeps of its training; 0: after every step.
            division: Of the batches of adapter runs.
            packages: Version of the package that the engine is a plug-in of, by its name.
        """
        self.division = division
        self.packages = dict(packages or {})
        self.root = as_path(root, "root")
        self.checkpoint_minutes = checked_minutes(checkpoint_minutes)
        self._is_recovered = False
        self._left_out: set[str] = set()

    @property
    def states(self) -> Path:
        """The folder of the states that unfinished runs keep of their training."""
        return self.root / _STATES

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

    def sweep(self) -> None:
        """Removes what killed processes left in the store and its caches; nothing where nothing may be written."""
        recover_folders(self.root)
        for path in self.root.glob(".*/"):
            sweep_below(path)
        for path in self.states.glob("*.safetensors"):
            if current_folder(self.root / path.stem).is_dir():  # stored since
                with suppress(OSError):
                    path.unlink()

    def find(self, run_id: str) -> StoredRun | None:
        """Returns a stored run, or None where there is none."""
        return _read(self.root / run_id)

    def runs(self, prefix: str = "") -> Iterator[StoredRun]:
        """Yields the stored runs whose ids begin with ``prefix``, sorted by id."""
        for name in folder_names(self.root):
            if name.startswith(prefix) and (run := self._find_listed(name)) is not None:
                yield run

    def _find_listed(self, name: str) -> StoredRun | None:
        """Like ``find``; None with a warning for a folder of others, such as lost+found, that may not be opened."""
        try:
            return self.find(name)
        except StoreError as error:
            why = error.__cause__
            if not isinstance(why, PermissionError) or why.filename in (*PROBLEMS, CHECKSUMS):
                raise
            if is_run_id(name):
                raise
            if name not in self._left_out:
                self._left_out.add(name)
                path = self.root / name
                log.warning("%s may not be read (%s) and is not named like a run: it is left out.", path, why.strerror)
            return None

    def runs_of(self, settings: Collection[str]) -> Iterator[StoredRun]:
        """Yields the stored runs of settings, named by what their ids have before rate, seed and hash; sorted by id."""
        for name in folder_names(self.root):
            if name.rsplit("_", 3)[0] in settings and (run := self.find(name)) is not None:
                yield run

    def runs_at_once(self) -> list[StoredRun]:
        """Returns the stored runs as they were at one moment, though another process may be replacing some.

        Raises:
            ReplacedError: If some are replaced again and again.
        """
        return again_if_replaced(self._runs_unchanged)

    def _runs_unchanged(self) -> list[StoredRun]:
        runs = list(self.runs())
        for run in runs:
            run.check_unchanged()
        return runs

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keeps all other processes from entering such a block of this store: to read, decide and write, no longer.

        Not to be nested. On a file system without locks the block is entered at once: each run is still one version
        whole, but of two processes that replace the same run at the same moment one may undo what the other did,
        until the same command is run again.
        """
        self.make_root()
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self.root / _LOCK))
            except OSError as error:
                raise unwritable(self.root, error) from error
            yield

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

    def copy(self, run: StoredRun) -> None:
        """Stores a run of another store as it is there, unless another process has stored it meanwhile.

        Of one that was replaced there since it was read, the newer version is stored, if it is of the same data,
        weights and split.

        Raises:
            StoreError: If it is damaged there, or the disk does not take it.
        """
        contents = newest_contents(run)
        with self.exclusive():
            if self.find(run.run_id) is None:
                self.put(run.run_id, contents)

    def put(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        """Stores the files of a run, or replaces it by them; see ``exclusive`` and ``copy``.

        Raises:
            StoreError: If the disk does not take it.
        """
        try:
            with staged_folder(self.root / run_id) as folder:
                for name, content in contents.items():
                    write_bytes(folder / name, content, durable=False)  # flushed whole, before the folder's rename
        except OSError as error:
            raise unwritable(self.root, error) from error

    def write(self, result: RunResult) -> None:
        """Stores a run, or replaces it whole, whatever is there; see ``exclusive`` and ``add``.

        Equal results give equal files.

        Raises:
            StoreError: If the disk does not take it.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.make_root()
        _check_storable(result)
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
        contents[CHECKSUMS] = checksum_lines(contents)
        self.put(result.spec.run_id, contents)


def newest_contents(run: StoredRun) -> dict[str, bytes]:
    """Reads all files of a run; of one that another process replaced since it was read, those of its newest version.

    Raises:
        StoreError: If it is damaged, was removed, or is of other data, weights or splits by now.
    """
    return again_if_replaced(_Contents(run).read)


@dataclass
class _Contents:
    """Files of a run that another process may replace between two readings."""

    run: StoredRun

    def read(self) -> dict[str, bytes]:
        """Reads them; looks for the newer version first where there is one."""
        try:
            return self.run.contents()
        except ReplacedError:
            newer = _read(self.run.path)
            if newer is not None and newer.identity == self.run.identity:
                self.run = newer
            raise


def _check_storable(result: RunResult) -> None:
    """Raises a StoreError if a run is not what reading expects: it would be called damaged ever after."""
    parts = {SPEC: to_plain(result.spec), METRICS: result.metrics, PROVENANCE: result.provenance}
    wrong = [f"{name} {problem}" for name, problem_in in PROBLEMS.items() if (problem := problem_in(parts[name]))]
    wrong += filter(None, [problem_in_table(result.predictions, result.provenance.get("classes", ()))])
    if wrong:
        raise StoreError(f"Run {result.spec.run_id} cannot be stored: {wrong[0]}.")


def checked_minutes(minutes: float) -> float:
    """Returns ``checkpoint_minutes``, or raises a ConfigError if it is no span of time."""
    if not minutes >= 0:
        raise ConfigError(f"--checkpoint-minutes is at least 0 (after every step), got {minutes:g}.")
    return minutes


def is_run_id(name: str) -> bool:
    """Whether a folder in a store is named like a run."""
    return _RUN_ID.fullmatch(name) is not None


def again_if_replaced(read: Callable[[], _Value]) -> _Value:
    """Returns what ``read`` makes of stored runs; again where another process replaced one of them meanwhile.

    Raises:
        ReplacedError: If that happens again and again.
    """
    for _ in range(_MAX_READINGS - 1):
        with suppress(ReplacedError):
            return read()
    return read()


def require_writable(folder: Path) -> None:
    """Raises a StoreError if a folder cannot be made, or nothing be written in it; leaves nothing behind."""
    existing = nearest_existing(folder)
    try:
        tried = temporary_name(existing / "writable")  # swept where this is killed
        tried.mkdir()
        tried.rmdir()
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error for a folder that nothing can be written to."""
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is in the way" if in_the_way else error.strerror or error
    room = ", or make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
    return StoreError(f"Cannot write to {folder}: {why}. Choose another --out{room}.")


def _read(path: Path) -> StoredRun | None:
    """Reads a run folder, all files of one version; None where there is none, or one without a spec."""
    try:
        files, version = read_together(path, PROBLEMS, optional=[CHECKSUMS])
    except OSError as error:
        if isinstance(error, FileNotFoundError | NotADirectoryError) and error.filename in (str(path), SPEC):
            return None
        raise unreadable(path, error) from error
    contents = {}
    for name, problem_in in PROBLEMS.items():
        try:
            contents[name] = read_json(files[name])
        except ValueError as error:
            raise damaged(path, f"{name}: {error}") from error
        if problem := problem_in(contents[name]):
            raise damaged(path, f"{name} {problem}")
    if (run_id := _run_id(contents[SPEC])) not in (path.name, None):
        raise StoreError(
            f"Folder {path} holds the stored run {run_id}: it was copied or renamed, or its {SPEC} was changed. Move "
            "it out of the store."
        )
    sums = None
    if CHECKSUMS in files:
        sums = read_checksums(path, files.pop(CHECKSUMS))
        verify(path, sums, files)
    return StoredRun(
        path=path,
        spec=contents[SPEC],
        metrics=contents[METRICS],
        provenance=contents[PROVENANCE],
        version=version,
        checksums=sums,
    )


def _run_id(spec: Mapping[str, Any]) -> str | None:
    """Recomputes a run's id from its spec; None for a spec of another version, which whoever reads it refuses."""
    try:
        return parse_spec(spec, RunSpec, SPEC).run_id
    except ConfigError:
        return None
