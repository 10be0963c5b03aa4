"""Features as files of other libraries: AnnData (``.h5ad``) and NumPy (``.npz``)."""

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cytolora.core.files import staged_file
from cytolora.errors import DataError, missing_package

if TYPE_CHECKING:
    from cytolora.training.embed import Embedding

_FEATURES, _PATH, _LABEL = "features", "path", "label"
_MADE_FROM = "cytolora"


def write_anndata(embedding: "Embedding", out: Path) -> None:
    """Writes cells as observations: features in X, everything else in obs, its making as JSON in ``uns["cytolora"]``.

    By the published layout (https://anndata.readthedocs.io, on-disk format: anndata 0.1.0, dataframe and categorical
    0.2.0), so that HDF5 is all that it needs.

    Raises:
        ConfigError: If h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise missing_package("Writing .h5ad needs", "h5py", extra="exchange", error=error) from error
    columns = {name: embedding.table[name].to_pylist() for name in embedding.table.column_names if name != _FEATURES}
    paths = columns.pop(_PATH)
    with staged_file(out) as staging, h5py.File(staging, "w", locking=False) as file:
        _encoded(file, "anndata", "0.1.0")
        _encoded(file.create_dataset("X", data=embedding.features), "array", "0.2.0")
        obs = _frame(file, "obs", paths, list(columns))
        for name, values in columns.items():
            _categorical(obs, name, values, embedding.made_from["classes"] if name == _LABEL else None)
        _frame(file, "var", [str(at) for at in range(embedding.features.shape[1])], [])
        uns = _encoded(file.create_group("uns"), "dict", "0.1.0")
        made_from = json.dumps(embedding.made_from, sort_keys=True)
        _encoded(uns.create_dataset(_MADE_FROM, data=made_from), "string", "0.2.0")


def _encoded(place: Any, kind: str, version: str) -> Any:
    place.attrs["encoding-type"], place.attrs["encoding-version"] = kind, version
    return place


def _frame(file: Any, name: str, index: Sequence[str], columns: Sequence[str]) -> Any:
    frame = _encoded(file.create_group(name), "dataframe", "0.2.0")
    frame.attrs["_index"] = "_index"
    frame.attrs.create("column-order", np.array(columns, dtype=object), dtype=_text())
    _texts(frame, "_index", index)
    return frame


def _categorical(frame: Any, name: str, values: Sequence[str | None], order: Sequence[str] | None) -> None:
    """Writes a column of few texts; what is not known has the code -1."""
    names = order or sorted({value for value in values if value is not None})
    codes = {value: code for code, value in enumerate(names)}
    column = _encoded(frame.create_group(name), "categorical", "0.2.0")
    column.attrs["ordered"] = False
    numbers = [-1 if value is None else codes[value] for value in values]
    _encoded(column.create_dataset("codes", data=np.array(numbers, np.int32)), "array", "0.2.0")
    _texts(column, "categories", names)


def _texts(group: Any, name: str, values: Sequence[str]) -> None:
    array = np.array(values, dtype=object)
    _encoded(group.create_dataset(name, data=array, dtype=_text()), "string-array", "0.2.0")


def _text() -> Any:
    import h5py

    return h5py.string_dtype("utf-8")


def write_npz(embedding: "Embedding", out: Path) -> None:
    """Writes one array a column, of texts or, for the features, of float32; what is not known is an empty text."""
    arrays = {
        name: np.array([text or "" for text in embedding.table[name].to_pylist()], dtype=np.str_)
        for name in embedding.table.column_names
        if name != _FEATURES
    }
    made_from = np.array(json.dumps(embedding.made_from, sort_keys=True))
    with staged_file(out) as staging, staging.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_FEATURES: embedding.features, **arrays, _MADE_FROM: made_from})


_WRITERS: Mapping[str, Callable[["Embedding", Path], None]] = {".h5ad": write_anndata, ".npz": write_npz}
OTHER_SUFFIXES = tuple(_WRITERS)
"""Of files that are not Parquet, in lower case."""


def is_embedding(path: Path) -> bool:
    """Whether a file, AnnData or NumPy by its suffix, was written here; may raise what reading another one raises."""
    if path.suffix.lower() == ".npz":
        with zipfile.ZipFile(path) as packed:
            return {f"{_MADE_FROM}.npy", f"{_FEATURES}.npy"}.issubset(packed.namelist())
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        return f"uns/{_MADE_FROM}" in file


def write_embedding(embedding: "Embedding", out: Path) -> None:
    """Writes features whole or not at all, as the suffix says: ``.h5ad`` or ``.npz``.

    Raises:
        ConfigError: If a package that it needs is not installed.
        DataError: If the file cannot be written.
    """
    try:
        _WRITERS[out.suffix.lower()](embedding, out)
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Nothing half-written stays there.") from error
