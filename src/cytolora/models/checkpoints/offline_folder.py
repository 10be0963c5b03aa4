"""Offline folder of checkpoints for sites without a network, with the hashes of all files in one manifest."""

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cytolora.core.files import sha256_file, write_json
from cytolora.core.folders import recover_folder, staged_folder
from cytolora.core.locks import locked
from cytolora.core.named_files import is_file
from cytolora.core.strict_json import read_json
from cytolora.errors import WeightsError
from cytolora.models.backbones.spec import BackboneSpec
from cytolora.models.checkpoints.hub_cache import commit_of
from cytolora.models.checkpoints.shards import checkpoint_bytes, checkpoint_files, checkpoint_sha256, is_index

MANIFEST = "weights.json"
_LOCK = ".weights.lock"
"""Not the lock of core/folders.py, which is taken for each replacement."""

_NAME = r"[A-Za-z0-9._-]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """One checkpoint of the folder: its files, hashes, licence and source."""

    name: str
    file: str
    """Relative to the folder; of a sharded checkpoint its index."""
    sha256: str
    num_bytes: int
    """Of all files of the checkpoint."""
    repo: str | None
    revision: str | None
    """Commit on the hub that the file came from, where known."""
    licence: str
    gated: bool
    redistributable: bool | None
    citation: str
    others: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files that belong to it, by path relative to the folder: a vocabulary, configurations."""


def keep(spec: BackboneSpec, checkpoint: Path, folder: Path, others: Sequence[Path] = ()) -> CheckpointRecord:
    """Copies a checkpoint and what belongs to it into the folder, whole or not at all, and notes it in the manifest.

    Raises:
        WeightsError: If the folder cannot be written to, or its manifest is damaged.
    """
    try:
        return _keep(spec, checkpoint, folder, others)
    except OSError as error:
        raise _unwritable(folder, error) from error


def prepare(folder: Path) -> None:
    """Makes the folder; better now than after a download of gigabytes.

    Raises:
        WeightsError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> WeightsError:
    return WeightsError(f"Cannot write to {folder}: {error.strerror or error}. Name a folder that can be: --to DIR.")


def _keep(spec: BackboneSpec, checkpoint: Path, folder: Path, others: Sequence[Path]) -> CheckpointRecord:
    filename = spec.hub.filename if spec.hub is not None and not is_index(checkpoint) else checkpoint.name
    first, *shards = checkpoint_files(checkpoint)
    recover_folder(folder / spec.name)
    with staged_folder(folder / spec.name) as staging:
        for name, file in [(filename, first), *((shard.relative_to(first.parent), shard) for shard in shards)]:
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, staging / name)
        for other in others:
            shutil.copyfile(other, staging / other.name)
    copied = folder / spec.name / filename
    record = CheckpointRecord(
        name=spec.name,
        file=f"{spec.name}/{filename}",
        sha256=checkpoint_sha256(copied),
        num_bytes=checkpoint_bytes(copied),
        repo=spec.hub.repo if spec.hub is not None else None,
        revision=_commit(spec, checkpoint),
        licence=spec.licence,
        gated=spec.gated,
        redistributable=spec.redistributable,
        citation=spec.citation,
        others={f"{spec.name}/{other.name}": sha256_file(folder / spec.name / other.name) for other in others},
    )
    with locked(folder / _LOCK):  # another process may add another checkpoint
        present = [entry for entry in read_manifest(folder) if entry.name != spec.name]
        entries = sorted([*present, record], key=lambda entry: entry.name)
        write_json(folder / MANIFEST, {"checkpoints": [asdict(entry) for entry in entries]})
    return record


def read_manifest(folder: Path) -> list[CheckpointRecord]:
    """Reads which checkpoints a folder holds; none where there is no manifest yet.

    Raises:
        WeightsError: If the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        entries = [_record(entry) for entry in read_json(path.read_text(encoding="utf-8"))["checkpoints"]]
        if twice := {entry.name for entry in entries if [other.name for other in entries].count(entry.name) > 1}:
            raise ValueError(f"{min(twice)} is listed twice")
    except OSError as error:
        raise WeightsError(
            f"Cannot read {path}: {error.strerror or error}. Nothing says that it is damaged: make it readable."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}, {error}".encode("ascii", "backslashreplace").decode()
        raise WeightsError(
            f"{path} is damaged: {why}. Move it away and fetch again: `cytolora weights fetch NAME --to {folder}`."
        ) from error
    return entries


def carried(folder: Path) -> list[CheckpointRecord]:
    """Reads which checkpoints a folder holds that was written before.

    Raises:
        WeightsError: If there is no such folder, or its manifest is absent or damaged.
    """
    if not (folder / MANIFEST).is_file():
        problem = "holds no" if folder.is_dir() else "is no folder with a"
        raise WeightsError(
            f"{folder} {problem} {MANIFEST}. Name a folder that `cytolora weights fetch NAME --to DIR` wrote."
        )
    return read_manifest(folder)


def find_carried(folder: Path, name: str) -> Path | None:
    """Returns the file of a backbone in a folder that was carried over; None where it holds none of it.

    Raises:
        WeightsError: If the folder is none, or does not hold what its manifest says, or more.
    """
    record = next((entry for entry in carried(folder) if entry.name == name), None)
    if record is None and (folder / name).is_dir():
        raise WeightsError(
            f"{folder / name} is not listed in {MANIFEST}: written in part? Fetch it again: "
            f"`cytolora weights fetch {name} --to {folder}`."
        )
    if record is not None and not is_file(folder / record.file):
        raise WeightsError(f"{folder / record.file} is not there, though {MANIFEST} lists it. Copy the folder again.")
    return None if record is None else folder / record.file


def check_carried(folder: Path, checkpoint: Path, sha256: str) -> None:
    """Compares a file's SHA-256, and the files that belong to it, with what the folder's manifest promised.

    Raises:
        WeightsError: If one is not as it was written.
    """
    for record in carried(folder):
        if folder / record.file != checkpoint:
            continue
        problem = _difference(record.file, sha256, record.sha256) or _problem_of_others(folder, record)
        if problem:
            raise WeightsError(f"{folder}: {problem}. Copy the folder again; `cytolora weights verify` checks it.")


def verify(folder: Path) -> dict[str, str]:
    """Hashes every checkpoint of a folder; returns what is wrong with each, empty where it is as it was written.

    Raises:
        WeightsError: If the folder has no manifest.
    """
    return {record.name: _problem(folder, record) for record in carried(folder)}


def _record(entry: Mapping[str, Any]) -> CheckpointRecord:
    """Reads one entry of the manifest, which came with the folder from elsewhere."""
    record = CheckpointRecord(**entry)
    texts = (record.name, record.file, record.sha256)
    if not all(isinstance(text, str) for text in texts) or not isinstance(record.num_bytes, int):
        raise TypeError(f"{record.name!r} lacks its file, size or SHA-256")
    if not re.fullmatch(_NAME, record.name):
        raise ValueError(f"{record.name!r} is no name of a backbone")
    if not isinstance(record.others, Mapping):
        raise TypeError(f"the other files of {record.name} are no names with a SHA-256")
    for sha256 in (record.sha256, *record.others.values()):
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            raise ValueError(f"{sha256!r} is no SHA-256")
    for name in (record.file, *record.others):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name!r} lies outside the folder")
        if not name.isprintable():
            raise ValueError(f"{name!r} is no name of a file")
    return record


def _problem(folder: Path, record: CheckpointRecord) -> str:
    path = folder / record.file
    if not is_file(path):
        return f"{record.file} is not there"
    try:
        num_bytes, sha256 = checkpoint_bytes(path), checkpoint_sha256(path)
    except WeightsError as error:  # an index that is damaged or lacks shards
        return str(error).rstrip(".")
    if num_bytes != record.num_bytes:
        return f"{record.file} has {num_bytes:,} bytes, expected {record.num_bytes:,}: copied in part?"
    return _difference(record.file, sha256, record.sha256) or _problem_of_others(folder, record)


def _difference(file: str, sha256: str, promised: str) -> str:
    return "" if sha256 == promised else f"{file} has SHA-256 {sha256[:12]}…, expected {promised[:12]}…"


def _problem_of_others(folder: Path, record: CheckpointRecord) -> str:
    for name, sha256 in record.others.items():
        if not is_file(folder / name) or sha256_file(folder / name) != sha256:
            return f"{name} is not there, or not as it was"
    return ""


def _commit(spec: BackboneSpec, checkpoint: Path) -> str | None:
    return None if spec.hub is None else commit_of(checkpoint) or spec.hub.revision
