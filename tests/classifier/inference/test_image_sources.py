"""Images of a folder or zip file to predict: rows for images alone, the rest counted and named."""

import errno
import os
import zipfile
from pathlib import Path

import pytest
from folders import mask, photograph, photographs, texts, tree
from opened_files import opened_below
from PIL import Image
from prediction_files import rows_of
from small_bundle import write_small_bundle

from cytolora.classifier.inference.image_sources import find_images, left_out
from cytolora.cli.app import main
from cytolora.data.datasets import load_manifest
from cytolora.errors import DataError
from cytolora.training.embed import unlabelled

CELLS = ["hsil/1.png", "hsil/2.jfif", "normal/1.png"]


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Three images among masks, thumbnails, leftovers, other formats and other files."""
    folder = photographs(tmp_path / "cells", CELLS)
    photographs(folder, ["hsil/@eaDir/1.png/SYNOPHOTO_THUMB_M.jpg", "normal/.ipynb_checkpoints/1-checkpoint.png"])
    mask(folder / "hsil" / "1_mask.png")
    mask(folder / "masks" / "1.png")
    photograph(folder / "normal" / "1_thumb.png", 9, (12, 10))
    for name in ("hsil/3.jp2", "normal/4.avif", "normal/5.DCM", "slide.svs"):
        (folder / name).write_bytes(b"II*\0")
    return texts(folder, notes_txt="x", normal__boxes_json="{}")


def _zipped(folder: Path) -> Path:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as packed:
        for name in tree(folder):
            packed.write(folder / name, name)
    return archive


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_images_are_rows_unread_formats_are_rows_with_an_error_and_the_rest_is_named(kind: str, cells: Path):
    path = cells if kind == "folder" else _zipped(cells)
    names = [source.name.removeprefix(f"{path}/") for source in find_images(path)]
    assert names == sorted([*CELLS, "hsil/3.jp2", "normal/4.avif", "normal/5.DCM", "slide.svs"])
    errors = {}
    for source in find_images(path):
        try:
            assert source.pixels().shape == (20, 24, 3)
        except DataError as error:
            errors[source.name.removeprefix(f"{path}/")] = str(error)
    assert set(errors) == set(names) - set(CELLS)
    assert ".jp2 is not read; save it as PNG, JPEG, BMP, TIFF or WebP." in errors["hsil/3.jp2"]
    assert "whole slide; predict it alone, with the positions of its cells" in errors["slide.svs"]
    found = {one.code: one for one in left_out(path)}
    assert {code: one.count for code, one in found.items()} == {"F202": 2, "F211": 2, "F212": 1}
    assert sorted(found["F202"].examples) == ["hsil/1_mask.png", "masks/1.png"]


def test_predict_names_what_it_left_out(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model = write_small_bundle(tmp_path / "model")
    with pytest.raises(SystemExit, match="0"):
        main(["predict", str(model), str(cells), "--out", str(tmp_path / "p.csv"), "--quiet"])
    printed = capsys.readouterr()
    said = " ".join(printed.err.split())
    assert "! F201 4 files are passed over: " in said
    assert "P101" not in said
    assert "F201" not in printed.out
    rows = rows_of(tmp_path / "p.csv")
    assert sum(not row["error"] for row in rows) == 3
    assert len(rows) == 7


def test_every_command_takes_the_same_images(cells: Path):
    with_error = {"hsil/3.jp2", "normal/4.avif", "normal/5.DCM", "slide.svs"}
    assert {one.name.removeprefix(f"{cells}/") for one in find_images(cells)} - with_error == set(CELLS)
    embedded = unlabelled(cells)
    assert [sample.path for sample in embedded.samples] == CELLS
    assert [sample.path for sample in load_manifest(cells).samples] == CELLS
    shared = {"F201": 4, "F202": 2, "F211": 2, "F212": 1}
    assert {one.code: one.count for one in embedded.findings} == shared
    assert {one.code: one.count for one in load_manifest(cells).findings if one.code != "F210"} == shared


def test_a_link_that_leads_nowhere_is_a_row_with_an_error_and_a_repeated_one_is_none(tmp_path: Path):
    folder = photographs(tmp_path / "cells", ["1.png"])
    (folder / "2.png").symlink_to(folder / "gone.png")
    (folder / "3.png").symlink_to(folder / "1.png")
    (folder / "all").symlink_to(folder)
    assert [Path(source.name).name for source in find_images(folder)] == ["1.png", "2.png"]
    assert sorted(example for one in left_out(folder) for example in one.examples) == ["3.png", "all"]


def test_an_image_is_opened_once_to_be_decoded_and_a_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch):
    folder = photographs(tmp_path / "cells", ["1.png", "2.png"])
    sources = list(find_images(folder))
    sources[0].pixels()  # which loads modules
    with opened_below(folder) as opened:
        assert [source.pixels().shape for source in sources] == [(20, 24, 3)] * 2
    assert opened == {"1.png": 1, "2.png": 1}

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(DataError, match=r"^Cannot read .*2\.png as an image: Permission denied\. Run `cytolora check"):
        sources[1].pixels()


def test_a_pattern_does_not_reach_into_leftovers_of_a_system(tmp_path: Path):
    photographs(tmp_path, ["a/1.png", "a/@eaDir/1.png/T.png", "$RECYCLE.BIN/1.png", "lost+found/1.png"])
    found = [source.name for source in find_images(str(tmp_path / "**" / "*.png"))]
    assert found == [str(tmp_path / "a" / "1.png")]


def test_predict_names_images_of_one_colour(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, cells = write_small_bundle(tmp_path / "model"), tmp_path / "new"
    cells.mkdir()
    for number in range(2):
        Image.new("RGB", (60, 60), (250, 250, 255 - number)).save(cells / f"blank{number}.png")
    Image.effect_noise((60, 60), 90).convert("RGB").save(cells / "cell.png")
    with pytest.raises(SystemExit, match="0"):
        main(["predict", str(model), str(cells), "--out", str(tmp_path / "p.csv"), "--quiet"])
    said = " ".join(capsys.readouterr().err.split())
    assert "! P105 Images of one colour or smooth light, without a cell, which are referred: 2, namely " in said
    referred = {Path(row["path"]).name: row["referred"] for row in rows_of(tmp_path / "p.csv")}
    assert (referred["blank0.png"], referred["blank1.png"]) == ("true", "true")
