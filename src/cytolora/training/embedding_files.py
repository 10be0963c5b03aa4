"""Features as files of other libraries: AnnData (``.h5ad``) and NumPy (``.npz``)."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from cytolora.core.files import staged_file, write_bytes
from cytolora.errors import DataError, missing_package

if TYPE_CHECKING:
    from cytolora.training.embed import Embedding

_FEATURES, _PATH, _LABEL = "features", "path", "label"
_MADE_FROM = "cytolora"


def write_anndata(embedding: "Embedding", out: Path) -> None:
    """Writes cells as observations: features in X, everything else in obs, its making as JSON in ``uns["cytolora"]``.

    Raises:
        ConfigError: If anndata is not installed.
    """
    try:
        import anndata
        import pandas as pd
    except ImportError as error:
        raise missing_package("Writing .h5ad needs", "anndata", extra="exchange", error=error) from error
    columns = {name: embedding.table[name].to_pylist() for name in embedding.table.column_names if name != _FEATURES}
    index = pd.Index(np.array(columns.pop(_PATH), dtype=object), dtype=object)
    classes = {_LABEL: embedding.made_from["classes"]}
    obs = pd.DataFrame(
        {name: _categories(pd, values, classes.get(name)) for name, values in columns.items()}, index=index
    )
    made_from = json.dumps(embedding.made_from, sort_keys=True)
    var = pd.DataFrame(index=pd.Index([str(at) for at in range(embedding.features.shape[1])], dtype=object))
    cells = anndata.AnnData(X=embedding.features, obs=obs, var=var, uns={_MADE_FROM: made_from})
    with TemporaryDirectory(prefix="cytolora-") as folder:  # HDF5 locks what it writes, as ``staged_file`` does
        file = Path(folder) / "cells.h5ad"
        cells.write_h5ad(file)
        write_bytes(out, file.read_bytes())


def _categories(pd: Any, values: list[str | None], order: list[str] | None) -> Any:
    names = order or sorted({value for value in values if value is not None})
    return pd.Categorical(values, categories=np.array(names, dtype=object))


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


def write_embedding(embedding: "Embedding", out: Path) -> None:
    """Writes features whole or not at all, as the suffix says: ``.h5ad`` or ``.npz``.

    Raises:
        DataError: If the file cannot be written.
    """
    try:
        _WRITERS[out.suffix.lower()](embedding, out)
    except OSError as error:
        raise DataError(f"Cannot write {out}: {error.strerror or error}. Nothing half-written stays there.") from error
