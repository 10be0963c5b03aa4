"""Folder of shards: Parquet files that are read as one table, each written whole, and a manifest.

``_manifest.json`` says what they were made from, and ``.lists`` and ``.claims`` are there while work is going on;
readers of Parquet folders pass over names that begin with an underscore or a dot.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cytolora.core.files import staged_file, write_json
from cytolora.core.strict_json import read_json
from cytolora.core.text import counted
from cytolora.data.targets import check_target
from cytolora.errors import ConfigError, DataError

MANIFEST = "_manifest.json"
_VERSION = 1
_LISTS = ".lists"
_OF_FILES = (".csv", ".parquet", ".h5ad", ".npz", ".geojson")
"""Suffixes that no folder of shards is meant with."""
_PART = re.compile(r"part-\d{6}-[0-9a-f]{16}\.parquet")
_ABOUT = b"cytolora"
"""Key of the JSON in a part's metadata."""
_ROWS_TOGETHER = 4096
"""Rows of a row group, at least, but for the last one of a file."""


class AlreadyStoredError(Exception):
    """Another process stored the same shard first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A part of the images that one worker computes at a time: some work of an engine's queue."""

    number: int
    """From 0."""
    amount: int
    """Images, or slides."""
    digest: str
    """SHA-256 of the model, the options that change its results, and what identifies the images."""
    model: str
    unit: str = "image"

    def __str__(self) -> str:
        return f"shard {self.number + 1} ({counted(self.amount, self.unit)})"

    @property
    def key(self) -> tuple[str, str]:
        """What a worker needs loaded: one model for all of them."""
        return "", self.model

    @property
    def cost(self) -> float:
        """Images, or slides."""
        return self.amount

    @property
    def names(self) -> list[str]:
        """Its file."""
        return [self.file_name]

    @property
    def claim(self) -> str:
        """Name of what a worker claims while it computes it."""
        return f"shard_{self.number:06}_{self.digest[:16]}"

    @property
    def file_name(self) -> str:
        """Name of its file: in the order of the images, and another one where anything differs."""
        return f"part-{self.number:06}-{self.digest[:16]}.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardFolder:
    """The folder ``--out`` of a command that works in shards."""

    root: Path

    def check(self, kind: str, about: Mapping[str, Any], paths: Sequence[str], shard_size: int | None) -> int | None:
        """Compares a command with what the folder holds; returns the size of its shards, None where that is not set.

        Raises:
            ConfigError: If the folder holds other files, or shards of another model, other options or paths.
        """
        check_target(self.root)
        if self.root.is_file() or (self.root.suffix.lower() in _OF_FILES and not self.root.is_dir()):
            raise ConfigError(
                f"--out {self.root} is one file, and shards (--engine, --workers, --shard-size) are several in a "
                f"folder; name one, such as {self.root.with_suffix('')}."
            )
        found = self.manifest()
        if found is None:
            strange = [path.name for path in self.root.iterdir()] if self.root.is_dir() else []
            strange = [name for name in strange if not name.startswith(".")]
            if strange:
                raise ConfigError(
                    f"{self.root} holds other files ({sorted(strange)[0]}) and no {MANIFEST}. Choose an --out that is "
                    "empty or new."
                )
            return shard_size
        given = {"kind": kind, "about": dict(about), "paths": list(paths)}
        differing = [name for name, value in given.items() if found.get(name) != _as_read(value)]
        words = {"kind": "another command", "about": "another model or other options", "paths": "other paths"}
        if differing:
            raise ConfigError(
                f"{self.root} holds shards of {words[differing[0]]} ({MANIFEST} lists them). Choose another --out; the "
                "same command goes on with them."
            )
        if shard_size not in (None, found["shard_size"]):
            raise ConfigError(
                f"{self.root} holds shards of {found['shard_size']:,} images. Leave out --shard-size, or choose "
                "another --out."
            )
        return found["shard_size"]

    def begin(self, kind: str, about: Mapping[str, Any], paths: Sequence[str], shard_size: int) -> None:
        """Makes the folder and writes what its shards are made from.

        Raises:
            ConfigError: If nothing can be written there.
        """
        found = {"kind": kind, "about": dict(about), "paths": list(paths), "shard_size": shard_size}
        self._write({**found, "is_complete": False, "cytolora": version("cytolora")})

    def finish(self, shards: Sequence[Shard], totals: Mapping[str, Any]) -> int:
        """Lists the shards in the manifest and removes those of images that have changed; returns their number."""
        listed = {shard.file_name for shard in shards}
        old = [path for path in self.parts() if path.name not in listed]
        for path in old:
            path.unlink(missing_ok=True)
        files = [{"file": shard.file_name, f"{shard.unit}s": shard.amount, "sha256": shard.digest} for shard in shards]
        self._write({**(self.manifest() or {}), **totals, "is_complete": True, "shards": files})
        for shard in shards:
            self.listing(shard).unlink(missing_ok=True)
        with suppress(OSError):  # another command has its own there
            (self.root / _LISTS).rmdir()
        return len(old)

    def manifest(self) -> dict[str, Any] | None:
        """Reads the manifest; None where there is none.

        Raises:
            ConfigError: If it is damaged, or a newer version wrote it.
        """
        try:
            found = read_json((self.root / MANIFEST).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{self.root / MANIFEST} cannot be read: {error}. Choose another --out.") from error
        size = found.get("shard_size") if isinstance(found, dict) else None
        whole = type(size) is int and size > 0
        if not whole or found.get("version") != _VERSION:
            raise ConfigError(
                f"{self.root / MANIFEST} is no manifest of version {_VERSION}, which this version of cytolora writes. "
                "Choose another --out."
            )
        return found

    def parts(self) -> list[Path]:
        """Lists the files of shards, in the order of the images."""
        return sorted(path for path in self.root.iterdir() if _PART.fullmatch(path.name))

    def listing(self, shard: Shard) -> Path:
        """Returns the file that lists the images of a shard for its worker."""
        return self.root / _LISTS / f"{shard.file_name}.json"

    def part(self, shard: Shard) -> Path:
        """Returns the file of a shard."""
        return self.root / shard.file_name

    def _write(self, found: Mapping[str, Any]) -> None:
        try:
            write_json(self.root / MANIFEST, {"version": _VERSION, **found})
        except OSError as error:
            raise ConfigError(f"Cannot write {self.root}: {error.strerror or error}. Choose another --out.") from error


def write_part(
    path: Path, schema: pa.Schema, tables: Iterable[pa.Table], about: Callable[[], Mapping[str, Any]]
) -> None:
    """Writes a shard whole or not at all.

    Args:
        about: Told in the file's metadata; called when all tables are written.

    Raises:
        AlreadyStoredError: If another process stored it meanwhile: its file stays.
        DataError: If it cannot be written.
    """
    try:
        with staged_file(path) as staging:
            with pq.ParquetWriter(staging, schema) as writer:
                for table in _together(tables):
                    writer.write_table(table)
                writer.add_key_value_metadata({_ABOUT: json.dumps(about(), sort_keys=True).encode()})
            if path.exists():
                raise AlreadyStoredError(path.name)
    except OSError as error:
        raise DataError(
            f"Cannot write {path}: {error.strerror or error}. Nothing half-written stays there; the same command goes "
            "on."
        ) from error


def read_about(path: Path) -> dict[str, Any] | None:
    """Reads what ``write_part`` told in a file's metadata; None where the file is not there, or is damaged."""
    try:
        return read_json((pq.read_metadata(path).metadata or {})[_ABOUT])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _together(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    held, num_rows = list[pa.Table](), 0
    for table in tables:
        held.append(table)
        num_rows += len(table)
        if num_rows >= _ROWS_TOGETHER:
            yield pa.concat_tables(held).combine_chunks()
            held, num_rows = [], 0
    if held:
        yield pa.concat_tables(held).combine_chunks()


def _as_read(value: Any) -> Any:
    """Returns plain data as it comes back from JSON: lists for tuples."""
    return read_json(json.dumps(value))
