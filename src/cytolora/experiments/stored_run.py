"""A run as a value: what is stored of it, and a run folder that was read, its tables and weights still on disk."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.config.run import RunSpec
from cytolora.core.folders import Version, current_folder, folder_version
from cytolora.core.identity import Identity
from cytolora.errors import ReplacedError, StoreError
from cytolora.experiments.run_folder import (
    CHECKSUMS,
    METRICS,
    PREDICTIONS,
    PROVENANCE,
    SPEC,
    WEIGHTS,
    checksum_lines,
    damaged,
    unreadable,
    verify,
)

if TYPE_CHECKING:
    import pyarrow as pa  # slow to load, and planning needs none of it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """Everything that is stored of a run."""

    spec: RunSpec
    metrics: Mapping[str, Any]
    """``val`` and ``test`` (null until the rate is chosen): each accuracy, balanced_accuracy, macro_f1, loss, n;
    ``num_trainable``; ``train``: num_images, num_steps, final_loss; for ``linear`` also ``neighbours``: ``knn``
    (its k, val, test) and ``nearest_mean`` on the same draw; for adapters of linear weights ``intruders``: total, top,
    epsilon, layers (models/adapters/intruders.py)."""
    predictions: "pa.Table"
    """Columns path, label, subset, group, ``meta_`` and the name of each metadata column, and the probability of each
    class under the class's own name."""
    weights: bytes | None
    """A safetensors file: adapter and head, or the class embeddings of zero-shot; None for a run that was kept
    without it, as in an archive of results."""
    provenance: Mapping[str, Any]
    """The identity's hashes, the prompts of a run that has some, versions, git state, device, threads, seconds,
    spending (core/spending.py), classes, rules of the data and the counts of its groups."""


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
    checksums: Mapping[str, str] | None = None
    """SHA-256 by file name; None for a run that was stored without them, of which nobody can tell a changed byte."""

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

        content = self._content(PREDICTIONS)
        try:
            return pq.read_table(pa.BufferReader(content))
        except (MemoryError, pa.ArrowNotImplementedError) as error:
            why = " ".join(str(error).split()) or "too little memory"
            raise StoreError(
                f"Cannot read {PREDICTIONS} of stored run {self.path} with this installation: {why}. Nothing says that "
                "it is damaged: free memory, or install what is missing."
            ) from error
        except (OSError, ValueError, pa.ArrowException) as error:
            why = " ".join(str(error).split())
            raise damaged(self.path, f"{PREDICTIONS}: {why}") from error

    @property
    def has_weights(self) -> bool:
        """Whether adapter and head were kept: an archive of results may leave them out."""
        return self.file(WEIGHTS).exists()

    def weights(self) -> bytes | None:
        """Reads the safetensors file of adapter and head; None where the run was kept without it.

        Raises:
            StoreError: If it cannot be read, or the run was replaced since it was read.
        """
        if self.has_weights:
            return self._content(WEIGHTS)
        self.check_unchanged()
        return None

    def contents(self, *, weights: bool = True) -> dict[str, bytes]:
        """Reads all its files by name, checksums of them included, to put them elsewhere.

        Args:
            weights: Whether adapter and head are among them.

        Raises:
            StoreError: If one is missing or damaged, or the run was replaced since it was read.
        """
        names = [SPEC, METRICS, PREDICTIONS, PROVENANCE, *([WEIGHTS] if weights and self.has_weights else [])]
        contents = {name: self._content(name) for name in names}
        sums = {} if self.checksums is None else {CHECKSUMS: checksum_lines(contents)}
        return {**contents, **sums}

    def file(self, name: str) -> Path:
        """Returns the path of one of its files, to read it: the folder may be set aside, half replaced."""
        return current_folder(self.path) / name

    def check_unchanged(self) -> None:
        """Raises a ReplacedError if another process replaced the folder since it was read."""
        if self.version is not None and folder_version(self.path) != self.version:
            raise ReplacedError(
                f"Stored run {self.path} was replaced or removed by another process while it was in use. Run the same "
                "command again, best when the other one has ended."
            )

    def _content(self, name: str) -> bytes:
        try:
            content = self.file(name).read_bytes()
        except OSError as error:
            self.check_unchanged()
            error.filename = name
            raise unreadable(self.path, error) from error
        self.check_unchanged()
        if self.checksums is not None:
            verify(self.path, self.checksums, {name: content})
        return content
