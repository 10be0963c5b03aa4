"""Slides in shards: the rows of each slide's own table; one that cannot be read is told and holds nobody up."""

import csv
from pathlib import Path

import pyarrow.dataset as ds
import pytest
from slide_files import write_slide

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.slides.positions import read_collection
from cytolora.classifier.slides.predict import predict_slide
from cytolora.classifier.slides.slide import Slide
from cytolora.cli.app import main

pytest.importorskip("openslide", reason="openslide is not installed")


def test_every_slide_is_a_shard_with_the_rows_of_its_table(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "positions").mkdir()
    for name in ("a", "b"):
        write_slide(tmp_path / f"{name}.tiff")
        (tmp_path / "positions" / f"{name}.csv").write_text("x,y\n100,100\n300,200\n9000,50\n")
    (tmp_path / "broken.tiff").write_bytes(b"no slide")
    (tmp_path / "positions" / "broken.csv").write_text("x,y\n1,1\n")
    options = ["--cells", str(tmp_path / "positions"), "--crop-um", "30", "--engine", "inline", "--threads", "1"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(bundle), str(tmp_path / "*.tiff"), "--out", str(tmp_path / "out"), *options, "--quiet"])
    told = capsys.readouterr().err
    assert not ended.value.code
    assert "6 cells" in told
    assert "2 unreadable" in told
    assert "S714" in told
    assert "broken.tiff" in told
    assert "a.tiff: 1 cell not read" in told

    rows = ds.dataset(tmp_path / "out").to_table().to_pylist()
    assert [row["slide"] for row in rows] == ["a.tiff"] * 3 + ["b.tiff"] * 3
    with Slide(tmp_path / "a.tiff") as slide:
        positions = read_collection(tmp_path / "positions" / "a.csv").positions
        predict_slide(Classifier.load(bundle), slide, positions, tmp_path / "a.csv", crop_um=30)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {name: as_written(name, value) for name, value in row.items()} for row in rows[:3]
        ]


def as_written(name: str, value: object) -> str:
    if name in ("x", "y"):
        return f"{value:.2f}"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("cells", "paths", "options", "message"),
    [
        ("positions", ["a.tiff"], ["--shard-size", "10"], "A shard is one slide here"),
        ("a.csv", ["a.tiff"], ["--workers", "1"], "is no folder"),
        ("positions", ["b.tiff"], ["--workers", "1"], "There is no b.geojson or .csv in"),
        ("positions", ["none*.tiff"], ["--workers", "1"], "Nothing fits"),
    ],
)
def test_what_cannot_be_is_one_line(
    cells: str,
    paths: list[str],
    options: list[str],
    message: str,
    bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "positions").mkdir()
    for name in ("positions/a.csv", "a.csv"):
        (tmp_path / name).write_text("x,y\n1,1\n")
    for name in ("a.tiff", "b.tiff"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(bundle), *paths, "--cells", cells, "--crop-um", "30", "--out", "o", *options, "--quiet"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len(lines)) == (2, 1)
    assert message in lines[0]
    assert not (tmp_path / "o").exists()
