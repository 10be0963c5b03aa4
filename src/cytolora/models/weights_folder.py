"""A folder of checkpoints for sites without a network: each under its backbone's name, all hashes in one manifest."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cytolora.errors import WeightsError
from cytolora.files import recover_folders, sha256_file, staged_folder, write_json
from cytolora.models.backbone_spec import BackboneSpec

MANIFEST = "weights.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One checkpoint of the folder, with what its user must know of it."""

    name: str
    file: str
    """Relative to the folder."""
    sha256: str
    num_bytes: int
    repo: str | None
    revision: str | None
    """Commit on the hub that the file came from, where known."""
    licence: str
    gated: bool
    redistributable: bool | None
    citation: str
    others: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of files that belong to it, by path relative to the folder: a vocabulary."""


def keep(spec: BackboneSpec, checkpoint: Path, folder: Path, others: Sequence[Path] = ()) -> Kept:
    """Copies a checkpoint and what belongs to it into the folder, whole or not at all, and notes it in the manifest."""
    filename = spec.hub.filename if spec.hub is not None else checkpoint.name
    recover_folders(folder)
    with staged_folder(folder / spec.name) as staging:
        (staging / filename).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint, staging / filename)
        for other in others:
            shutil.copyfile(other, staging / other.name)
    copied = folder / spec.name / filename
    kept = Kept(
        name=spec.name,
        file=f"{spec.name}/{filename}",
        sha256=sha256_file(copied),
        num_bytes=copied.stat().st_size,
        repo=spec.hub.repo if spec.hub is not None else None,
        revision=_commit(spec, checkpoint),
        licence=spec.licence,
        gated=spec.gated,
        redistributable=spec.redistributable,
        citation=spec.citation,
        others={f"{spec.name}/{other.name}": sha256_file(folder / spec.name / other.name) for other in others},
    )
    present = [entry for entry in read_manifest(folder) if entry.name != spec.name]
    entries = sorted([*present, kept], key=lambda entry: entry.name)
    write_json(folder / MANIFEST, {"checkpoints": [asdict(entry) for entry in entries]})
    return kept


def read_manifest(folder: Path) -> list[Kept]:
    """Reads which checkpoints a folder holds; none where there is no manifest yet.

    Raises:
        WeightsError: If the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return []
    try:
        return [_kept(entry) for entry in json.loads(path.read_text())["checkpoints"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is damaged: {error}. Write it anew with `cytolora weights fetch`.") from error


def verify(folder: Path) -> dict[str, str]:
    """Hashes every checkpoint of a folder; returns what is wrong with each, empty where it is as it was written.

    Raises:
        WeightsError: If the folder has no manifest.
    """
    if not (folder / MANIFEST).is_file():
        raise WeightsError(f"{folder} holds no {MANIFEST}. Write one with `cytolora weights fetch NAME --to {folder}`.")
    return {kept.name: _problem(folder, kept) for kept in read_manifest(folder)}


def _kept(entry: Mapping[str, Any]) -> Kept:
    """Reads one entry of the manifest, which came with the folder from elsewhere."""
    kept = Kept(**entry)
    texts = (kept.name, kept.file, kept.sha256)
    if not all(isinstance(text, str) for text in texts) or not isinstance(kept.num_bytes, int):
        raise TypeError(f"{kept.name} lacks its file, size or SHA-256")
    if not isinstance(kept.others, Mapping):
        raise TypeError(f"the other files of {kept.name} are no names with a SHA-256")
    for name in (kept.file, *kept.others):
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"{name} lies outside the folder")
    return kept


def _problem(folder: Path, kept: Kept) -> str:
    path = folder / kept.file
    if not path.is_file():
        return f"{kept.file} is not there"
    if path.stat().st_size != kept.num_bytes:
        return f"{kept.file} has {path.stat().st_size:,} bytes, expected {kept.num_bytes:,}: copied in part?"
    if (found := sha256_file(path)) != kept.sha256:
        return f"{kept.file} has SHA-256 {found[:12]}…, expected {kept.sha256[:12]}…"
    for name, sha256 in kept.others.items():
        if not (folder / name).is_file() or sha256_file(folder / name) != sha256:
            return f"{name} is not there, or not as it was"
    return ""


def _commit(spec: BackboneSpec, checkpoint: Path) -> str | None:
    """The hub's cache keeps a file in ``snapshots/<commit>/``."""
    if spec.hub is None:
        return None
    parents = [parent.name for parent in checkpoint.parents]
    return parents[parents.index("snapshots") - 1] if "snapshots" in parents[1:] else spec.hub.revision
