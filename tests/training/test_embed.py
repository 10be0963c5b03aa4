"""embed: one row an image, told where it came from, the same bytes again, whole or not at all."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from class_folders import write_classes

from cytolora.cli.app import main
from cytolora.core.cache_entries import entries
from cytolora.core.progress import Progress
from cytolora.data.datasets import load_manifest
from cytolora.data.synthetic.dataset import write_synthetic
from cytolora.errors import ConfigError, DataError
from cytolora.models.backbones.registry import BACKBONES
from cytolora.training import embed as embed_module
from cytolora.training.embed import embed, read_embedding
from cytolora.training.resources import Inputs
from cytolora.training.session import Session


def _session(cells: Path, cache: Path) -> Session:
    manifest = load_manifest(cells)
    return Session(
        backbone=BACKBONES.get("nano"),
        manifest=manifest,
        inputs=Inputs(data={}),
        cache=cache,
        device=torch.device("cpu"),
        progress=Progress(),
    )


def _embed(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["embed", *arguments, "--model", "nano", "--quiet"])
    return int(stop.value.code or 0)


def test_a_row_is_an_image_with_path_label_group_and_its_features(drawn_cells, tmp_path, capsys):
    out, cache = tmp_path / "out" / "cells.parquet", tmp_path / "cache"
    assert _embed(str(drawn_cells), "--out", str(out), "--cache", str(cache)) == 0
    assert "60 images x 96 features of nano" in capsys.readouterr().out
    found, session = read_embedding(out), _session(drawn_cells, cache)
    assert found.table["path"].to_pylist() == [sample.path for sample in session.manifest.samples]
    assert found.table["label"].to_pylist() == [sample.label for sample in session.manifest.samples]
    assert found.table["group"].to_pylist() == [sample.group for sample in session.manifest.samples]
    assert found.table["sha256"].to_pylist() == [sample.sha256 for sample in session.manifest.samples]
    np.testing.assert_array_equal(found.features, session.features.numpy())
    assert found.made_from["weights_sha256"] == session.inputs.weights_sha256("nano")
    assert found.made_from["data_fingerprint"] == session.manifest.fingerprint
    assert found.made_from["preprocess"]["size_px"] == 64


def test_a_second_time_loads_no_encoder_and_gives_the_same_bytes(drawn_cells, tmp_path, monkeypatch):
    monkeypatch.setattr("cytolora.training.features._CHUNK", 25)
    embed(_session(drawn_cells, tmp_path / "cache"), tmp_path / "first.parquet")
    again = _session(drawn_cells, tmp_path / "cache")
    embed(again, tmp_path / "second.parquet")
    assert again.encoders == {}
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "second.parquet").read_bytes()
    assert pq.ParquetFile(tmp_path / "first.parquet").num_row_groups == 3


def test_an_interruption_leaves_no_file_and_an_old_one_stays(drawn_cells, tmp_path, monkeypatch):
    monkeypatch.setattr("cytolora.training.features._CHUNK", 25)
    out = tmp_path / "cells.parquet"
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"cytolora": "{}"}), out)
    old = out.read_bytes()
    calls = []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return table(*arguments)  # pyright: ignore[reportArgumentType]

    table = embed_module._table
    monkeypatch.setattr(embed_module, "_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embed(_session(drawn_cells, tmp_path / "cache"), out)
    assert out.read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "cells.parquet"]


@pytest.mark.parametrize(("name", "why"), [("e.csv", "its name ends in"), ("mine.npz", "no file of features")])
def test_features_replace_no_other_file_and_are_written_under_the_name_of_their_format(
    name: str, why: str, drawn_cells, tmp_path
):
    out = tmp_path / name
    out.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=why):
        embed(_session(drawn_cells, tmp_path / "cache"), out)
    assert out.read_bytes() == b"mine"


def test_images_without_labels_are_taken_from_all_sub_folders(drawn_cells, tmp_path):
    images = tmp_path / "images"
    (images / "a" / "b").mkdir(parents=True)
    some = [drawn_cells / sample.path for sample in load_manifest(drawn_cells).samples[:3]]
    shutil.copy(some[0], images / "one.png")
    shutil.copy(some[1], images / "a" / "two.png")
    shutil.copy(some[2], images / "a" / "b" / "three.png")
    out, cache = tmp_path / "cells.parquet", tmp_path / "cache"
    assert _embed(str(images), "--unlabelled", "--out", str(out), "--cache", str(cache)) == 0
    found = read_embedding(out)
    assert found.table["path"].to_pylist() == ["a/b/three.png", "a/two.png", "one.png"]
    assert found.table["label"].to_pylist() == [None] * 3
    assert found.made_from["classes"] == []


def test_mistakes_are_one_line(drawn_cells, tmp_path, capsys):
    assert _embed(str(drawn_cells), "--out", str(tmp_path)) == 2
    assert "is a folder; name a file" in capsys.readouterr().err
    assert _embed(str(drawn_cells), "--out", str(tmp_path / "x"), "--unlabelled", "--dataset", "synthetic") == 2
    assert "--unlabelled reads neither labels, groups nor subsets" in capsys.readouterr().err
    (tmp_path / "no.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match="no file of features"):
        read_embedding(tmp_path / "no.parquet")


def test_findings_of_the_images_are_said_without_progress_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cells = write_classes(tmp_path / "cells", a=2, b=2)
    (cells / "a" / "scan.jp2").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n")
    assert (
        _embed(str(cells), "--unlabelled", "--out", str(tmp_path / "out.parquet"), "--cache", str(tmp_path / "c")) == 0
    )
    assert "! F201 1 file is passed over: 1 .jp2, namely a/scan.jp2." in capsys.readouterr().err


def test_a_flipped_bit_in_an_embedding_is_told_or_changes_no_number(drawn_cells, tmp_path):
    out, moment = tmp_path / "cells.parquet", random.Random(0)
    embed(_session(drawn_cells, tmp_path / "cache"), out)
    whole, first, num_told = out.read_bytes(), read_embedding(out), 0
    assert embed_module._SHA256.encode() in (pq.read_metadata(out).metadata or {})
    for _ in range(150):
        bit, turned = moment.randrange(8 * len(whole)), bytearray(whole)
        turned[bit // 8] ^= 1 << bit % 8
        out.write_bytes(turned)
        try:
            found = read_embedding(out)
        except DataError as error:
            num_told += "cells.parquet" in str(error)
            continue
        np.testing.assert_array_equal(found.features, first.features)
        assert found.made_from == first.made_from
        assert found.table.drop_columns(["features"]).equals(first.table.drop_columns(["features"]))
    assert num_told > 100


@pytest.mark.slow
def test_an_embedding_of_an_earlier_version_is_read_without_a_checksum(drawn_cells, tmp_path):
    out = tmp_path / "cells.parquet"
    embed(_session(drawn_cells, tmp_path / "cache"), out)
    first = read_embedding(out)
    pq.write_table(first.table, tmp_path / "older.parquet")
    np.testing.assert_array_equal(read_embedding(tmp_path / "older.parquet").features, first.features)


@pytest.mark.slow
def test_a_limit_of_the_cache_is_kept_and_changes_no_feature(drawn_cells, tmp_path, capsys):
    cache = tmp_path / "cache"
    assert _embed(str(drawn_cells), "--out", str(tmp_path / "free.parquet"), "--cache", str(cache)) == 0
    write_synthetic(tmp_path / "others", num_images=60, num_slides=6, seed=9)
    assert _embed(str(tmp_path / "others"), "--out", str(tmp_path / "others.parquet"), "--cache", str(cache)) == 0
    assert sum(entry.num_bytes for entry in entries(cache)) > 50_000
    for entry in entries(cache):
        os.utime(entry.path, (1e9, 1e9))  # what a command has just used is spared
    bounded = ["--cache", str(cache), "--cache-limit", "40kB"]
    for name in ("first", "second"):
        assert _embed(str(drawn_cells), "--out", str(tmp_path / f"{name}.parquet"), *bounded) == 0
        assert 0 < sum(entry.num_bytes for entry in entries(cache)) <= 40_000
        assert (tmp_path / f"{name}.parquet").read_bytes() == (tmp_path / "free.parquet").read_bytes()
    assert _embed(str(drawn_cells), "--out", str(tmp_path / "x.parquet"), "--cache-limit", "a lot") == 2
    assert "--cache-limit expects a size such as 20GB" in capsys.readouterr().err


@pytest.mark.slow
def test_every_damaged_cache_file_is_made_anew_with_one_line_a_kind(drawn_cells, tmp_path, caplog):
    arguments = (str(drawn_cells), "--cache", str(tmp_path / "cache"), "--out")
    _embed(*arguments, str(tmp_path / "first.parquet"))
    files = [entry.path for entry in entries(tmp_path / "cache")]
    for number, path in enumerate(files):
        content = bytearray(path.read_bytes())
        content[-1 - number % 50] ^= 0x41
        path.write_bytes(content[: -1 if number % 3 else None])
    assert _embed(*arguments, str(tmp_path / "second.parquet")) == 0
    assert (tmp_path / "second.parquet").read_bytes() == (tmp_path / "first.parquet").read_bytes()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len({line.partition(str(tmp_path))[2].split("/")[2] for line in lines}) <= 2
    assert any("features" in line for line in lines)
