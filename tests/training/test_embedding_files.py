"""Features as AnnData and NumPy files: the other side's readers find every row and where it came from."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cytolora.cli.app import main
from cytolora.errors import ConfigError
from cytolora.training.embed import Embedding, read_embedding
from cytolora.training.embedding_files import write_embedding


@pytest.fixture(scope="module")
def folder(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("h5py", reason="h5py is not installed")
    folder = tmp_path_factory.mktemp("features")
    for name in ("cells.parquet", "cells.h5ad", "cells.npz"):
        arguments = ["embed", str(drawn_cells), "--model", "nano", "--out", str(folder / name), "--quiet"]
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--cache", str(folder / "cache")])
        assert not stop.value.code
    return folder


@pytest.fixture(scope="module")
def embedding(folder: Path) -> Embedding:
    return read_embedding(folder / "cells.parquet")


@pytest.mark.slow
def test_anndata_reads_cells_as_observations(folder: Path, embedding: Embedding):
    anndata = pytest.importorskip("anndata", reason="anndata is not installed")
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    assert (np.asarray(cells.X) == embedding.features).all()
    assert list(cells.obs_names) == embedding.table["path"].to_pylist()
    assert list(cells.obs["label"]) == embedding.table["label"].to_pylist()
    assert list(cells.obs["label"].cat.categories) == embedding.made_from["classes"]
    assert json.loads(cells.uns["cytolora"]) == embedding.made_from


@pytest.mark.slow
def test_numpy_reads_the_arrays_without_pickle(folder: Path, embedding: Embedding):
    with np.load(folder / "cells.npz", allow_pickle=False) as arrays:
        assert (arrays["features"] == embedding.features).all()
        assert arrays["label"].tolist() == embedding.table["label"].to_pylist()
        assert arrays["group"].tolist() == [group or "" for group in embedding.table["group"].to_pylist()]
        assert json.loads(str(arrays["cytolora"])) == embedding.made_from


def test_h5ad_without_its_package_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    features = pa.FixedSizeListArray.from_arrays(pa.array([0.5, 1.5], pa.float32()), 2)
    table = pa.table({"path": ["1.png"], "label": ["hsil"], "features": features})
    embedding = Embedding(table=table, made_from={"classes": ["hsil"]})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match="Install the extra `exchange`"):
        write_embedding(embedding, tmp_path / "cells.h5ad")
    assert list(tmp_path.iterdir()) == []
