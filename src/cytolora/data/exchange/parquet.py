"""Parquet with the bytes of images, as Hugging Face datasets write it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cytolora.core.strict_json import read_json
from cytolora.core.zip_members import MAX_RATIO, unpacks_too_far
from cytolora.data.exchange.containers import Container, Unpacked, image_suffix

if TYPE_CHECKING:
    import pyarrow as pa

_MAGIC = b"PAR1"
_BYTES = re.compile(r"image|img|image[_ ]?bytes|bytes|png|jpe?g|content", re.IGNORECASE)
"""Names of a column of bytes that is taken for images."""
_ROWS_READ = 64
"""At once."""


def _image_column(schema: "pa.Schema") -> str | None:
    import pyarrow as pa

    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind):
            at = kind.get_field_index("bytes")
            if at >= 0 and _is_bytes(kind.field(at).type):
                return field.name
        elif _is_bytes(kind) and _BYTES.fullmatch(field.name):
            return field.name
    return None


def _is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _has_images(file: Path) -> bool | None:
    """Whether a file holds a column of images; None where it is damaged, for its columns stand at its end."""
    if file.suffix.lower() != ".parquet":
        return False
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as opened:
            if opened.read(len(_MAGIC)) != _MAGIC:
                return False
        return _image_column(pq.read_schema(file)) is not None
    except (OSError, pa.ArrowException):
        return None


def _why_no_labels(file: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return ""  # reading it says why
    if "label" not in schema.names:
        return f"has no column label; its columns are {', '.join(schema.names)}. Call that of the classes label"
    kind = schema.field("label").type
    if _is_scalar(kind) or pa.types.is_null(kind):
        return ""
    return f"has labels of the type {kind}, expected one text or whole number an image"


def unpack_parquet(file: Path) -> Iterator[Unpacked]:
    """Yields the images of a file, in the order of its rows, with the texts and numbers beside them.

    Raises:
        ValueError: If it is damaged, a row has no image, or it would unpack to very much more than its size.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, number, num_bytes = file.stat().st_size, 0, 0
    try:
        with pq.ParquetFile(file) as opened:
            schema = opened.schema_arrow
            column, names = _image_column(schema), _class_names(schema)
            if column is None:
                raise ValueError("it holds no column of images")
            groups = (opened.metadata.row_group(at) for at in range(opened.metadata.num_row_groups))
            _check_size(sum(group.total_byte_size for group in groups), size)  # before a page is inflated whole
            others = [field.name for field in schema if field.name != column and _is_scalar(field.type)]
            for batch in opened.iter_batches(batch_size=_ROWS_READ, columns=[column, *others]):
                num_bytes += batch.nbytes
                _check_size(num_bytes, size)
                for row in batch.to_pylist():
                    yield _image(row, column, names, number)
                    number += 1
    except pa.ArrowException as error:
        raise ValueError(" ".join(str(error).split())) from error


def _check_size(num_bytes: int, size: int) -> None:
    if unpacks_too_far(num_bytes, size):
        raise ValueError(f"it unpacks to more than {MAX_RATIO} times its size")


def _is_scalar(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind) or types.is_dictionary(kind)


def _class_names(schema: "pa.Schema") -> list[str]:
    """Returns the names of the classes that Hugging Face keeps in the metadata; empty where there are none."""
    about = (schema.metadata or {}).get(b"huggingface")
    if about is None:
        return []
    whole = read_json(about)
    for name in ("info", "features", "label", "names"):
        whole = whole.get(name) if isinstance(whole, dict) else None
    return [str(name) for name in whole] if isinstance(whole, list) else []


def _image(row: dict[str, Any], column: str, names: list[str], number: int) -> Unpacked:
    value = row.pop(column)
    content = value.get("bytes") if isinstance(value, dict) else value
    if not content:
        raise ValueError(f"row {number + 1} holds no bytes of an image")
    label = row.pop("label", None)
    if isinstance(label, int) and names:
        label = names[label] if 0 <= label < len(names) else None  # -1: not labelled, as Hugging Face writes it
    fields = {name: str(text) for name, text in row.items() if text is not None}
    text = "" if label is None else str(label)
    return Unpacked(path=f"{number:06}{image_suffix(content)}", content=content, label=text, fields=fields)


PARQUET = Container(
    name="parquet",
    title="Parquet with images",
    description="Parquet with a column image (bytes, or struct of bytes and path) and a column label.",
    is_one=lambda file: _has_images(file) is not False,  # one that was named is called damaged
    in_folders=lambda file: _has_images(file) is True,
    why_no_labels=_why_no_labels,
    unpack=unpack_parquet,
    is_sharded=True,
    companions=("*.parquet",),
)
