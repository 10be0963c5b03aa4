"""Sharded checkpoints: several files of weights and the index that says which tensor lies in which; loads no torch.

A checkpoint is named by one path all the same: its file, or its index. Hash and size are those of all files together.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from cytolora.core.files import canonical_json, sha256_file, sha256_text
from cytolora.core.named_files import is_file
from cytolora.core.strict_json import read_json
from cytolora.errors import WeightsError

_SHA256 = re.compile(r"[0-9a-f]{64}")

INDEX = ".index.json"
"""How the name of an index ends: ``model.safetensors.index.json``, ``pytorch_model.bin.index.json``."""

_MAX_INDEX_BYTES = 64 * 2**20
_SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}\.(?P<kind>safetensors|bin|pt|pth)")
"""transformers' names of shards: ``model-00001-of-00004.safetensors``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardIndex:
    """Tensors of a sharded checkpoint, by shard."""

    path: Path
    tensors: Mapping[str, frozenset[str]]
    """Names of tensors by the shard's path relative to the index."""

    @property
    def shards(self) -> tuple[Path, ...]:
        """Files of the shards, in the order of their names."""
        return tuple(self.path.parent / name for name in self.tensors)


def is_index(path: Path) -> bool:
    """Whether a path is named as an index of shards."""
    return path.name.endswith(INDEX)


def read_index(path: Path) -> ShardIndex:
    """Reads an index and sees that all of its shards are there.

    Raises:
        WeightsError: If it is no index, names files outside its folder, or a shard is missing.
    """
    index = ShardIndex(path=path, tensors=_by_shard(path, _weight_map(path)))
    if missing := [shard.name for shard in index.shards if not is_file(shard)]:
        raise WeightsError(
            f"{path} lists {len(index.shards)} shards, of which {len(missing)} are not there ({_some(missing)}). "
            "Copy them into its folder: all files of a checkpoint belong together."
        )
    return index


def index_of(path: Path) -> Path | None:
    """Returns the index that lists a file as one of its shards; None where no index beside it does.

    Raises:
        WeightsError: If the file is named as one shard of several and no index is beside it.
    """
    for candidate in sorted(path.parent.glob(f"*{INDEX}")):
        if path in [candidate.parent / name for name in _listed(candidate)]:
            return candidate
    if match := _SHARD.fullmatch(path.name):
        index = f"{match['stem']}.{match['kind']}{INDEX}"
        raise WeightsError(
            f"{path} is one shard of a checkpoint, and its index {index} is not beside it. "
            f"Copy {index} and all shards into one folder and name that folder."
        )
    return None


def checkpoint_files(path: Path) -> tuple[Path, ...]:
    """Returns every file of a checkpoint, the one that names it first.

    Raises:
        WeightsError: If it is an index that cannot be read, or shards are missing.
    """
    return (path, *read_index(path).shards) if is_index(path) else (path,)


def checkpoint_sha256(path: Path) -> str:
    """Returns the SHA-256 of a checkpoint: of its file; of a sharded one, over names and hashes of index and shards.

    Raises:
        WeightsError: If it is an index that cannot be read, shards are missing, or a file of the hub's cache is not
            what the hub names it by.
    """
    if not is_index(path):
        return _file_sha256(path)
    hashes = {file.relative_to(path.parent).as_posix(): _file_sha256(file) for file in checkpoint_files(path)}
    return sha256_text(canonical_json(hashes))


def _file_sha256(file: Path) -> str:
    """Hashes a file; a large one of the hub's cache is a link to a file that is named after its SHA-256."""
    sha256, promised = sha256_file(file), file.resolve().name
    if file.is_symlink() and _SHA256.fullmatch(promised) and promised != sha256:
        raise WeightsError(
            f"{file} is damaged: its SHA-256 is {sha256[:12]}…, the hub promised {promised[:12]}…. Delete it and "
            f"{file.resolve()}; the same command then fetches it again, or `cytolora weights fetch` does."
        )
    return sha256


def checkpoint_bytes(path: Path) -> int:
    """Returns the size of a checkpoint, all files together.

    Raises:
        WeightsError: If it is an index that cannot be read, or shards are missing.
    """
    return sum(file.stat().st_size for file in checkpoint_files(path))


def _weight_map(path: Path) -> Mapping[str, str]:
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError(f"it has more than {_MAX_INDEX_BYTES // 2**20} MiB")
        names = read_json(path.read_text(encoding="utf-8"))["weight_map"]
        if not isinstance(names, Mapping) or not names:
            raise ValueError("its weight_map names no tensors")
        if odd := [file for file in names.values() if not isinstance(file, str) or not _inside(file)]:
            raise ValueError(f"its weight_map names {odd[0]!r}, which is no file in its folder")
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = getattr(error, "strerror", None) or (f"{error} is missing" if isinstance(error, KeyError) else error)
        text = " ".join(str(why).split())[:200].encode("ascii", "backslashreplace").decode()
        raise WeightsError(
            f"{path} is no index of shards: {text}. Expected {{'weight_map': {{TENSOR: FILE}}}} as transformers writes "
            "it; copy the folder again."
        ) from error
    return names


def _inside(name: str) -> bool:
    """Whether a name is a file below the index's folder, on every system."""
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    outside = bool(windows.drive or windows.root or posix.is_absolute() or ".." in windows.parts)
    return bool(name) and name.isprintable() and not outside and posix.parts != ()


def _by_shard(path: Path, weight_map: Mapping[str, str]) -> dict[str, frozenset[str]]:
    tensors: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        tensors.setdefault(file, set()).add(tensor)
    return {file: frozenset(tensors[file]) for file in sorted(tensors)}


def _listed(index: Path) -> frozenset[str]:
    try:
        return frozenset(_weight_map(index).values())
    except WeightsError:
        return frozenset()  # of something else; whoever names it is told


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
