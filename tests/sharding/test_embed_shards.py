"""Features in shards: those of one file, bit for bit, from folders, zip files and URLs; errors are rows."""

import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.dataset as ds
import pytest

from cytolora.cli.app import main
from cytolora.errors import ConfigError
from cytolora.sharding.folder import ShardFolder


def embed(*arguments: str | Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["embed", *map(str, arguments), "--model", "nano", "--threads", "1", "--quiet"])
    assert not ended.value.code


def rows(out: Path) -> list[dict[str, object]]:
    return ds.dataset(out).to_table().to_pylist()


@pytest.fixture(scope="module")
def whole(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("whole")
    embed(drawn_cells, "--out", folder / "whole.parquet", "--cache", folder / "cache")
    return rows(folder / "whole.parquet")


@pytest.mark.slow
def test_a_dataset_in_shards_has_the_rows_of_one_file(drawn_cells: Path, whole: list[object], tmp_path: Path):
    embed(drawn_cells, "--out", tmp_path / "out", "--shard-size", "64")
    assert [{key: value for key, value in row.items() if key != "error"} for row in rows(tmp_path / "out")] == whole


@pytest.mark.parametrize("place", ["memory://bucket/cells", "memory://bucket/cells.zip"])
def test_a_zip_file_and_a_url_give_the_same_features(
    place: str, cells: Path, whole: list[dict[str, object]], tmp_path: Path
):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        for path in cells.rglob("*.png"):
            packed.write(path, path.relative_to(cells))
    fs = fsspec.filesystem("memory")
    fs.put(str(cells), "/bucket/cells", recursive=True)
    fs.put(str(tmp_path / "cells.zip"), "/bucket/cells.zip")
    embed(place, "--unlabelled", "--out", tmp_path / "out", "--shard-size", "64")
    fs.rm("/bucket", recursive=True)
    found = rows(tmp_path / "out")
    assert len(found) == 71
    assert [row["path"] for row in found if row["features"] is None] == ["slide_99/aaa.png"]
    names = ("path", "sha256", "features")
    assert [[row[name] for name in names] for row in found[:60]] == [[row[name] for name in names] for row in whole]


def test_an_image_that_cannot_be_read_is_a_row_with_an_error(
    drawn_cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copytree(drawn_cells / "slide_00", tmp_path / "cells")
    (tmp_path / "cells" / "aaa.png").write_text("no image")
    embed(tmp_path / "cells", "--unlabelled", "--out", tmp_path / "out", "--shard-size", "64")
    *others, last = rows(tmp_path / "out")
    assert last["features"] is None
    assert "Cannot read aaa.png" in str(last["error"])
    assert all(row["error"] is None and np.isfinite(np.array(row["features"])).all() for row in others)
    assert "P101" in capsys.readouterr().err


def test_names_are_relative_however_the_folder_is_written(drawn_cells: Path, tmp_path: Path, monkeypatch):
    shutil.copytree(drawn_cells / "slide_00", tmp_path / "cells")
    monkeypatch.chdir(tmp_path)
    embed("./cells/", "--unlabelled", "--out", tmp_path / "out", "--shard-size", "64")
    assert {Path(str(row["path"])).parent for row in rows(tmp_path / "out")} == {Path()}


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.npz"])
def test_the_name_of_a_file_is_no_folder_of_shards(name: str, drawn_cells: Path, tmp_path: Path):
    with pytest.raises(SystemExit) as ended:
        main(["embed", str(drawn_cells), "--model", "nano", "--shard-size", "64", "--out", str(tmp_path / name)])
    assert ended.value.code == 2
    assert not (tmp_path / name).exists()


def test_a_manifest_with_shards_of_no_image_is_refused(tmp_path: Path):
    (tmp_path / "_manifest.json").write_text('{"version": 1, "shard_size": 0}')
    with pytest.raises(ConfigError, match="no manifest of version 1"):
        ShardFolder(root=tmp_path).manifest()


def test_a_job_of_slurm_needs_no_sbatch_and_leaves_the_folder_to_the_command_that_submitted_it(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")
    out = tmp_path / "out"
    embed(drawn_cells, "--unlabelled", "--out", out, "--shard-size", "64")
    before = (out / "_manifest.json").read_bytes()
    other = out / "part-000009-0123456789abcdef.parquet"  # of images that this job does not see
    shutil.copy(next(out.glob("part-*.parquet")), other)
    as_job = ("--slurm-worker", "--engine", "slurm", "--workers", "2", "--slurm", "time=5")
    embed(drawn_cells, "--unlabelled", "--out", out, "--shard-size", "64", *as_job)
    assert other.exists()
    assert (out / "_manifest.json").read_bytes() == before
