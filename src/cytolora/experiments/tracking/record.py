"""Record of a stored run as experiment trackers take it: parameters, metrics and tags, all flat."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cytolora.core.files import canonical_json, sha256_text
from cytolora.experiments.stored_run import StoredRun

RUN_ID = "cytolora.run_id"
"""Tag by which a tracker finds the run again."""
FINGERPRINT = "cytolora.fingerprint"
"""Tag of what was mirrored; another one means that the stored run has changed since, or that a call was cut off."""
_NANOSECONDS = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a tracker is told of a run; no image, no prediction, and no name of a file, patient or slide."""

    run_id: str
    parameters: Mapping[str, str | int | float | bool]
    """The run's spec by dotted name, ``train.batch_size``; what it leaves open is left out."""
    metrics: Mapping[str, float]
    """The numbers of its metrics by dotted name, ``test.accuracy``."""
    tags: Mapping[str, str]
    """Its id, versions of packages, hashes of weights, data and split."""
    stored_at: float
    """When the run was stored, in seconds since 1970; 0 where it is not known."""

    @property
    def fingerprint(self) -> str:
        """A hash of all but the time: 16 hexadecimal digits."""
        told = {"parameters": self.parameters, "metrics": self.metrics, "tags": self.tags}
        return sha256_text(canonical_json(told))[:16]


def record_of(run: StoredRun) -> Record:
    """Makes the record of a stored run."""
    own = run.provenance
    hashes = {name: own[name] for name in ("data_fingerprint", "split_fingerprint", "weights_sha256")}
    versions = own.get("versions")
    versions = versions if isinstance(versions, dict) else {}
    tags = {RUN_ID: run.run_id, **{f"cytolora.{name}": value for name, value in hashes.items()}}
    metrics = {name: value for name, value in _flat(run.metrics) if isinstance(value, int | float)}
    return Record(
        run_id=run.run_id,
        parameters=dict(_flat(run.spec)),
        metrics={name: float(value) for name, value in metrics.items() if not isinstance(value, bool)},
        tags=tags | {f"version.{name}": str(value) for name, value in versions.items()},
        stored_at=0.0 if run.version is None else run.version[2] / _NANOSECONDS,
    )


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the leaves of nested objects by dotted name, lists as JSON; nulls are left out."""
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{name}.")
        elif isinstance(inner, list | tuple):
            yield name, canonical_json(inner)
        elif inner is not None:
            yield name, inner
