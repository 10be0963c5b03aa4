"""Features of a folder of images as one Parquet file, with what they were computed from."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cytolora.config.reading import STANDARD, Decoding
from cytolora.config.run import to_plain
from cytolora.core.arguments import AnyPath, as_path
from cytolora.core.files import canonical_json, sha256_text, staged_file
from cytolora.core.strict_json import read_json
from cytolora.core.zip_members import MAX_RATIO, unpacks_too_far
from cytolora.data.manifest import METADATA_PREFIX, Manifest
from cytolora.data.own_files import FileKind
from cytolora.data.targets import check_replaceable_file
from cytolora.data.unlabelled import images_below
from cytolora.errors import ConfigError, DataError
from cytolora.training.embedding_files import OTHER_SUFFIXES, is_embedding, write_embedding
from cytolora.training.features import Chunk
from cytolora.training.session import Session

_METADATA = b"cytolora"
"""Key of the JSON in the file's metadata."""
_FEATURES = "features"
_SHA256 = "cytolora_sha256"
"""Key of the checksum in the file's metadata."""
_PARQUET = ".parquet"
_ROWS_READ = 32
"""At once."""


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What an embedding file holds."""

    table: pa.Table
    """Columns path, label, subset, group, sha256 (of the image), ``meta_`` and the name of each metadata column, and
    features: a list of float32 of one fixed length."""
    made_from: dict[str, Any]
    """backbone, weights_sha256, preprocess, recipe (and precision, unless fp32), dataset, data_fingerprint, classes,
    cytolora (version)."""

    @property
    def features(self) -> NDArray[np.float32]:
        """Images x feature_dim."""
        column = self.table[_FEATURES].combine_chunks()
        return column.flatten().to_numpy(zero_copy_only=False).reshape(len(self.table), column.type.list_size)


def embed(session: Session, out: AnyPath, *, on_images: Callable[[int], None] = lambda images: None) -> tuple[int, int]:
    """Writes the frozen features of every image of a session to a Parquet file, a row group at a time.

    A file that ends in ``.h5ad`` or ``.npz`` is one of AnnData or NumPy, for which all features are held in memory.

    Equal images, weights and versions give equal bytes. Whole or not at all: an interruption leaves no file, but the
    features that were computed are kept in the session's cache, and the next call goes on from there.

    Returns:
        Number of images, and width of a feature vector.

    Raises:
        ConfigError: If the file is to be of another kind, or one of another kind is there.
        DataError: If an image cannot be read, or the file cannot be written.
    """
    out = as_path(out, "out")
    check_out(out)
    if out.suffix.lower() in OTHER_SUFFIXES:
        embedding = collected(session, on_images=on_images)
        write_embedding(embedding, out)
        return embedding.features.shape
    parts = session.feature_chunks(on_images)
    first = next(parts)
    feature_dim = first.features.shape[1]
    schema = _schema(session, feature_dim)
    try:
        with staged_file(out) as staging, pq.ParquetWriter(staging, schema) as writer:
            sums = _Checksum(schema)
            for part in _chained(first, parts):
                table = _table(part, schema)
                writer.write_table(table)
                sums.add(table)
            writer.add_key_value_metadata({_SHA256: sums.hexdigest()})
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Nothing half-written stays there.") from error
    return len(session.manifest.samples), feature_dim


def check_out(out: Path) -> None:
    """Raises a ConfigError if features are not written to such a file, or another file is there, which would be lost.

    Better before the work than after it.
    """
    suffix, known = out.suffix.lower(), (_PARQUET, *OTHER_SUFFIXES)
    if suffix not in known:
        raise ConfigError(f"--out {out.name} is a file of features; its name ends in {', '.join(known)}.")
    is_own = _is_own if suffix == _PARQUET else is_embedding
    check_replaceable_file(out, FileKind(name="file of features", is_own=is_own))


def _is_own(path: Path) -> bool:
    return _METADATA in (pq.read_schema(path).metadata or {})


def collected(session: Session, *, on_images: Callable[[int], None] = lambda images: None) -> Embedding:
    """Returns the frozen features of every image of a session.

    Raises:
        DataError: If an image cannot be read.
    """
    parts = list(session.feature_chunks(on_images))
    schema = _schema(session, parts[0].features.shape[1])
    table = pa.concat_tables(_table(part, schema) for part in parts)
    return Embedding(table=table, made_from=read_json((schema.metadata or {})[_METADATA]))


def read_embedding(path: AnyPath) -> Embedding:
    """Reads what ``embed`` wrote, and compares it with its checksum; files of earlier versions have none.

    Raises:
        DataError: If the file is no such file, or was changed after it was written.
    """
    try:
        table, promised = _read_table(as_path(path))
        made_from = read_json((table.schema.metadata or {})[_METADATA])
        sums = _Checksum(table.schema)
        sums.add(table)
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no file of features; expected what `cytolora embed DATA --out` wrote.") from error
    if promised is not None and promised != sums.hexdigest().encode():
        raise DataError(f"{path} was changed after it was written: its SHA-256 differs. Run `cytolora embed` again.")
    return Embedding(table=table, made_from=made_from)


def _read_table(path: Path) -> tuple[pa.Table, bytes | None]:
    """Reads a Parquet file whose features are as many as it says, some rows at a time; and the checksum it states.

    Raises:
        ValueError: If it has no features or no rows, or is a bomb: repeated values take no place in the file.
    """
    size, num_bytes, batches = path.stat().st_size, 0, []
    with pq.ParquetFile(path) as file:
        features = file.schema_arrow.field(_FEATURES).type
        is_list = pa.types.is_fixed_size_list(features) and features.list_size > 0
        if not is_list or not pa.types.is_float32(features.value_type):
            raise ValueError(f"features are {features}, expected lists of one length of float")
        groups = (file.metadata.row_group(number) for number in range(file.metadata.num_row_groups))
        stated = sum(max(0, group.total_byte_size) for group in groups)
        if unpacks_too_far(max(stated, file.metadata.num_rows * features.list_size * 4), size):
            raise ValueError(f"it would unpack to more than {MAX_RATIO} times its size")
        for batch in file.iter_batches(batch_size=_ROWS_READ):
            num_bytes += batch.nbytes
            if unpacks_too_far(num_bytes, size):
                raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")
            batches.append(batch)
        if not 0 < file.metadata.num_rows == sum(map(len, batches)):
            raise ValueError("it has no rows, or others than it states")
        table = pa.Table.from_batches(batches, file.schema_arrow)
        return table, (file.metadata.metadata or {}).get(_SHA256.encode())


def unlabelled(folder: AnyPath, decoding: Decoding = STANDARD) -> Manifest:
    """Lists every image below a folder, whatever sub-folder it stands in, without labels, groups or subsets.

    Raises:
        DataError: If there is none, or one cannot be read.
    """
    folder = as_path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; --unlabelled takes the images below one.")
    return images_below(folder, decoding).with_hashes()


class _Checksum:
    """SHA-256 of a table and of what it was made from, however its rows come in parts."""

    def __init__(self, schema: pa.Schema) -> None:
        about = canonical_json([schema.names, (schema.metadata or {})[_METADATA].decode()])
        self._about, self._columns = about, {name: hashlib.sha256() for name in schema.names}

    def add(self, table: pa.Table) -> None:
        """Counts rows in."""
        for name, column in self._columns.items():
            for chunk in table[name].chunks:
                if name == _FEATURES:
                    column.update(np.ascontiguousarray(chunk.flatten().to_numpy(zero_copy_only=False)).tobytes())
                else:
                    column.update("".join(f"{json.dumps(text)}\n" for text in chunk.to_pylist()).encode())

    def hexdigest(self) -> str:
        """Returns the checksum of all that was added."""
        return sha256_text("".join([self._about, *(column.hexdigest() for column in self._columns.values())]))


def _schema(session: Session, feature_dim: int) -> pa.Schema:
    manifest, backbone = session.manifest, session.backbone
    made_from = {
        "backbone": backbone.name,
        "weights_sha256": session.inputs.weights_sha256(backbone.name),
        "preprocess": to_plain(backbone.preprocess),
        "recipe": session.recipe,
        "dataset": manifest.name,
        "data_fingerprint": manifest.fingerprint,
        "classes": [label for label in manifest.classes if label],
        "cytolora": version("cytolora"),
    }
    metadata = [METADATA_PREFIX + name for name in manifest.metadata_names]
    names = ["path", "label", "subset", "group", "sha256", *metadata]
    fields = [pa.field(name, pa.string()) for name in names]
    fields.append(pa.field(_FEATURES, pa.list_(pa.float32(), feature_dim)))
    return pa.schema(fields, metadata={_METADATA: json.dumps(made_from, sort_keys=True)})


def _table(part: Chunk, schema: pa.Schema) -> pa.Table:
    def column(name: str) -> pa.Array:
        if name == _FEATURES:
            flat = pa.array(part.features.numpy().reshape(-1))
            return pa.FixedSizeListArray.from_arrays(flat, part.features.shape[1])
        if name.startswith(METADATA_PREFIX):
            key = name.removeprefix(METADATA_PREFIX)
            return pa.array([dict(sample.metadata).get(key) for sample in part.samples], pa.string())
        return pa.array([getattr(sample, name) or None for sample in part.samples], pa.string())

    return pa.table([column(name) for name in schema.names], schema=schema)


def _chained(first: Chunk, others: Iterator[Chunk]) -> Iterator[Chunk]:
    yield first
    yield from others
