"""Prediction in shards: the rows and counts of one table, whatever is stored, changed or damaged before."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import torch

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.inference.image_sources import find_images
from cytolora.classifier.inference.table import Summary, predict_table
from cytolora.cli.app import main
from cytolora.core.progress import SILENT
from cytolora.errors import ConfigError
from cytolora.sharding import worker
from cytolora.sharding.folder import MANIFEST, ShardFolder
from cytolora.sharding.predict import predict_shards
from cytolora.sharding.run import Sharding


def predict(bundle: Path, cells: Path, out: Path, shard_size: int | None = 64) -> Summary:
    return predict_shards(
        Classifier.load(bundle),
        find_images(cells),
        [str(cells)],
        out,
        Sharding(shard_size=shard_size),
        device=torch.device("cpu"),
        progress=SILENT,
    )


def parts(out: Path) -> list[Path]:
    return ShardFolder(root=out).parts()


@pytest.fixture(scope="module")
def whole(bundle: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("whole") / "whole.parquet"
    return out, predict_table(Classifier.load(bundle), find_images(cells), out)


@pytest.fixture(scope="module")
def stored(bundle: Path, cells: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "shards"
    predict(bundle, cells, out)
    return out


@pytest.fixture
def shards(stored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored, tmp_path / "shards"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are computed."""
    names: list[str] = []
    opened = worker.Worker.start

    def start(self: worker.Worker) -> None:
        opened(self)
        write: Any = self._write

        def noted(entries: Any, path: Path, on_images: Any) -> None:
            names.append(path.name)
            write(entries, path, on_images)

        self._write = noted

    monkeypatch.setattr(worker.Worker, "start", start)
    return names


def test_rows_and_counts_are_those_of_one_table(whole: tuple[Path, Summary], bundle: Path, cells: Path, stored: Path):
    table, summary = pq.read_table(whole[0]), predict(bundle, cells, stored)
    assert ds.dataset(stored).to_table().to_pylist() == table.to_pylist()
    assert ds.dataset(stored).schema.names == table.schema.names
    assert summary == whole[1]
    assert (summary.num_images, summary.num_errors) == (71, 1)
    assert sorted(path.name for path in stored.iterdir()) == [MANIFEST, *(path.name for path in parts(stored))]
    assert [pq.read_metadata(path).num_rows for path in parts(stored)] == [64, 7]


def test_what_is_stored_is_not_computed_again(bundle: Path, cells: Path, shards: Path, computed: list[str]):
    first, second = parts(shards)
    second.unlink()
    predict(bundle, cells, shards, None)
    assert computed == [second.name]
    first.write_bytes(first.read_bytes()[:-100])
    predict(bundle, cells, shards, None)
    assert computed == [second.name, first.name]
    assert len(ds.dataset(shards).to_table()) == 71


def test_shards_of_images_that_have_changed_are_replaced(
    bundle: Path, cells: Path, tmp_path: Path, computed: list[str]
):
    own = Path(shutil.copytree(cells, tmp_path / "cells"))
    predict(bundle, own, tmp_path / "out")
    first, second = parts(tmp_path / "out")
    assert computed == [first.name, second.name]
    shutil.copyfile(own / "slide_00" / sorted(path.name for path in (own / "slide_00").iterdir())[0], own / "zzz.png")
    predict(bundle, own, tmp_path / "out")
    assert parts(tmp_path / "out")[0] == first
    assert second not in parts(tmp_path / "out")
    assert len(ds.dataset(tmp_path / "out").to_table()) == 72


def test_a_shard_that_another_process_stored_meanwhile_stays(
    bundle: Path, cells: Path, shards: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    last = parts(shards)[-1]
    content = last.read_bytes()
    last.unlink()
    look = predict_shards.__globals__["look"]

    def slow(*arguments: Any) -> Any:
        yield from look(*arguments)
        last.write_bytes(content)
        monkeypatch.setitem(predict_shards.__globals__, "look", look)

    monkeypatch.setitem(predict_shards.__globals__, "look", slow)
    predict(bundle, cells, shards)
    assert "stored by another process meanwhile" in caplog.text
    assert last.read_bytes() == content


def test_another_model_is_refused(bundle: Path, cells: Path, shards: Path, tmp_path: Path):
    from small_bundle import rewrite

    other = Path(shutil.copytree(bundle, tmp_path / "other"))
    rewrite(other, lambda plain: plain.update(temperature=2.5))
    with pytest.raises(ConfigError, match="another model or other options"):
        predict(other, cells, shards)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "0"], "at least 1"),
        (["--shard-size", "0"], "at least 1 image"),
        (["--engine", "inline", "--workers", "2"], "--workers is for --engine"),
        (["--workers", "2", "--page", "page.html"], "--page needs all images in one process"),
        (["--workers", "2", "--out", "table.csv"], "is one file, and shards"),
        (["--workers", "2", "--out", "."], "holds other files"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str],
    message: str,
    bundle: Path,
    cells: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    out = [] if "--out" in options else ["--out", "out"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(bundle), str(cells), *out, *options, "--quiet"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len(lines)) == (2, 1)
    assert message in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]
