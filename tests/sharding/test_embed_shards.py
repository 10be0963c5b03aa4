"""Features in shards: those of one file, bit for bit, from folders, zip files and URLs; errors are rows."""

import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow.dataset as ds
import pytest

from cytolora.cli.app import main


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


def test_a_dataset_in_shards_has_the_rows_of_one_file(drawn_cells: Path, whole: list[object], tmp_path: Path):
    embed(drawn_cells, "--out", tmp_path / "out", "--shard-size", "64")
    assert [{key: value for key, value in row.items() if key != "error"} for row in rows(tmp_path / "out")] == whole


def test_zip_files_and_urls_give_the_same_features(cells: Path, whole: list[dict[str, object]], tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as packed:
        for path in cells.rglob("*.png"):
            packed.write(path, path.relative_to(cells))
    fs = fsspec.filesystem("memory")
    fs.put(str(cells), "/bucket/cells", recursive=True)
    fs.put(str(tmp_path / "cells.zip"), "/bucket/cells.zip")
    places = [cells, tmp_path / "cells.zip", "memory://bucket/cells", "memory://bucket/cells.zip", cells.as_uri()]
    found = []
    for number, place in enumerate(places):
        embed(place, "--unlabelled", "--out", tmp_path / f"out{number}", "--shard-size", "64")
        found.append([(row["path"], row["sha256"], row["features"]) for row in rows(tmp_path / f"out{number}")])
    fs.rm("/bucket", recursive=True)
    assert all(one == found[0] for one in found)
    assert len(found[0]) == 71
    assert [path for path, _, features in found[0] if features is None] == ["slide_99/aaa.png"]
    by_path = {row["path"]: row["features"] for row in whole}
    assert all(by_path[path] == features for path, _, features in found[0] if path in by_path)


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
