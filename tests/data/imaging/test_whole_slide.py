"""Whole slides are told from images of cells by name and header."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from slide_files import tifffile

from cytolora.data.imaging.whole_slide import slide_problem


def tiff(*sizes: int, tile: int | None = 256, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    tiles = {} if tile is None else {"tile": (tile, tile)}
    with tifffile.TiffWriter(file) as writer:
        for size in sizes:
            pixels = np.zeros((size, size, 3), np.uint8)
            writer.write(pixels, photometric="rgb", compression="zlib", metadata=None, **tiles, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize(
    "suffix", ["svs", "SVS", "ndpi", "mrxs", "scn", "czi", "bif", "qptiff", "kfb", "sdpc", "isyntax"]
)
def test_a_suffix_of_scanners_is_a_slide(suffix: str, tmp_path: Path):
    assert f".{suffix.lower()} is a format of whole slides" in slide_problem(tmp_path / f"a.{suffix}")
    assert slide_problem(io.BytesIO(b""), f"a.zip/a.{suffix}")


@pytest.mark.parametrize("sizes", [(1024, 512), (2048, 1024, 512), (1500, 750), (1024, 256), (3000, 1500, 1024)])
def test_a_tiled_pyramid_is_a_slide_and_stays_where_it_was(sizes: tuple[int, ...], tmp_path: Path):
    file = tiff(*sizes)
    file.seek(7)
    assert "tiled pyramid" in slide_problem(file)
    assert file.tell() == 7
    assert not file.closed
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    assert "tiled pyramid" in slide_problem(tmp_path / "a.tif")


def test_a_pyramid_in_sub_directories_is_a_slide():
    file = io.BytesIO()
    options: dict[str, Any] = {"photometric": "rgb", "tile": (256, 256), "compression": "zlib"}
    with tifffile.TiffWriter(file, ome=True) as writer:
        writer.write(np.zeros((1024, 1024, 3), np.uint8), subifds=1, **options)
        writer.write(np.zeros((512, 512, 3), np.uint8), subfiletype=1, **options)
    assert "tiled pyramid" in slide_problem(file)


@pytest.mark.parametrize(
    "file",
    [
        tiff(100), tiff(1024), tiff(512, 256), tiff(2048, tile=None), tiff(2048, 1024, tile=None), tiff(1024, 1024),
        io.BytesIO(b""), io.BytesIO(b"II*\0"), io.BytesIO(b"II*\0" + b"\xff" * 90), io.BytesIO(b"no image"),
    ],
)  # fmt: skip
def test_images_of_cells_and_damaged_files_are_none(file: io.BytesIO, tmp_path: Path):
    assert slide_problem(file) == ""
    (tmp_path / "a.tif").write_bytes(file.getvalue())
    assert slide_problem(tmp_path / "a.tif") == ""


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp", "a.tif"])
def test_plain_images_and_missing_files_are_none(name: str, tmp_path: Path):
    Image.new("RGB", (2000, 20)).save(tmp_path / name)
    assert slide_problem(tmp_path / name) == ""
    assert slide_problem(tmp_path / f"missing-{name}") == ""
