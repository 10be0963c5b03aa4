"""Slides with several focal planes, channels or scenes, and the size of their pixels in OME-XML."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slide_files import tifffile
from small_bundle import write_small_bundle

from cytolora.classifier.slides.objects import Position
from cytolora.classifier.slides.planes import PlaneReader, ome_mpp, sharpness
from cytolora.classifier.slides.slide import Plane, Slide
from cytolora.cli.app import main
from cytolora.errors import ConfigError, DataError

pytest.importorskip("openslide", reason="OpenSlide is not installed")

EDGE = 512
TILES: dict[str, Any] = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
HERE = Position(id="a", x=200, y=300)


def planes(number: int) -> np.ndarray:
    """Planes whose first channel is their number; the middle one is a chequered pattern, the others are plain."""
    pixels = np.full((number, EDGE, EDGE, 3), 100, np.uint8)
    pixels[..., 0] = np.arange(number)[:, None, None]
    down, across = np.mgrid[:EDGE, :EDGE]
    pixels[number // 2, ..., 1] = (down + across) % 2 * 200
    pixels[..., 2] = across % 251
    return pixels


def write_ome(path: Path, pixels: np.ndarray, axes: str = "ZYXS", **metadata: Any) -> Path:
    described = {"axes": axes, "PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", **metadata}
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels, metadata=described, **TILES)
    return path


def plane_of(path: Path, position: Position = HERE, plane: Plane | None = None) -> tuple[int, list[str]]:
    """The plane that a crop shows, and the codes of the findings."""
    with Slide(path, plane=plane) as slide:
        (cell,) = slide.cells([position], crop_um=10)
        codes = [one.code for one in slide.findings([position])]
    assert cell.pixels is not None, cell.error
    z = int(cell.pixels[0, 0, 0])
    assert np.array_equal(cell.pixels, planes(5)[z, 280:320, 180:220]) or z != 2
    assert (cell.pixels[:, :, 2] == np.arange(180, 220) % 251).all()
    return z, codes


@pytest.mark.parametrize(
    ("plane", "own", "expected"),
    [
        (None, None, (0, ["S703"])),
        (0, None, (0, [])),
        (4, None, (4, [])),
        ("middle", None, (2, [])),
        ("sharpest", None, (2, [])),
        (None, 3, (3, [])),
        (1, 3, (3, [])),
        ("sharpest", 0, (0, [])),
        (None, 7, (0, ["S703", "S706"])),
        (1, 7, (1, ["S706"])),
    ],
)
def test_the_plane_of_a_crop_is_its_own_else_the_one_chosen_else_the_first_by_name(
    plane: Plane | None, own: int | None, expected: tuple[int, list[str]], tmp_path: Path
):
    path = write_ome(tmp_path / "slide.ome.tif", planes(5))
    position = Position(id="a", x=200, y=300, z=own)
    assert plane_of(path, position, plane) == expected


@pytest.mark.parametrize("plane", [5, -1, 99])
def test_a_plane_that_a_slide_does_not_have_is_refused_with_its_number(plane: int, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"has 5, numbered from 0 to 4"):
        Slide(write_ome(tmp_path / "slide.ome.tif", planes(5)), plane=plane)


def test_a_crop_of_a_plane_over_the_edge_lies_on_white_as_that_of_the_first(tmp_path: Path):
    pixels = planes(3)
    with Slide(write_ome(tmp_path / "slide.ome.tif", pixels), plane=1) as slide:
        corner, far = slide.cells([Position(id="a", x=0, y=0), Position(id="b", x=511, y=511)], crop_um=10)
    assert corner.pixels is not None
    assert far.pixels is not None
    assert (corner.pixels[:20] == 255).all()
    assert np.array_equal(corner.pixels[20:, 20:], pixels[1, :20, :20])
    assert np.array_equal(far.pixels[:21, :21], pixels[1, 491:, 491:])
    assert (far.pixels[21:] == 255).all()


def test_pages_of_one_size_are_planes_and_smaller_ones_labels_and_thumbnails_are_not(tmp_path: Path):
    def write(path: Path, *sizes: int, description: str = "", **options: Any) -> Path:
        with tifffile.TiffWriter(path) as writer:
            for number, size in enumerate(sizes):
                said = {"description": description} if number == 0 and description else {}
                pixels = planes(len(sizes))[number, :size, :size]
                writer.write(pixels, metadata=None, **said, **TILES, **(options if number else {}))
        return path

    def told(path: Path) -> tuple[int, list[str]]:
        with Slide(path, mpp=0.25) as slide:
            return slide.layout.num_planes, [str(one) for one in slide.findings([HERE])]

    aperio = "Aperio Image Library v12\n512x512 [0,0 512x512] (128x128)|AppMag = 40|MPP = 0.25"
    assert told(write(tmp_path / "a.tif", 512)) == (1, [])
    assert told(write(tmp_path / "b.tif", 512, 256, 128)) == (1, [])
    assert told(write(tmp_path / "c.tif", 512, 256, 128, subfiletype=1)) == (1, [])
    assert told(write(tmp_path / "d.svs", 512, 128, description=aperio)) == (1, [])
    assert told(write(tmp_path / "e.svs", 512, 128, 64, 64, description=aperio, subfiletype=1)) == (1, [])
    assert told(write(tmp_path / "f.tif", 512, 512, 512)) == (3, ["3 planes, the first is read."])


def test_channels_times_and_scenes_that_are_not_read_are_named(tmp_path: Path):
    def told(path: Path) -> list[str]:
        with Slide(path) as slide:
            return [str(one) for one in slide.findings([HERE])]

    assert told(write_ome(tmp_path / "t.ome.tif", planes(2), "TYXS")) == ["2 times, the first is read."]
    for names, expected in ((["a", "b"], ["2 images, the first is read."]), (["a", "label image", "macro"], [])):
        path = tmp_path / f"{len(names)}.ome.tif"
        with tifffile.TiffWriter(path, ome=True) as writer:
            for name in names:
                described = {"axes": "YXS", "PhysicalSizeX": 0.25, "Name": name}
                writer.write(planes(1)[0], metadata=described, **TILES)
        assert told(path) == expected


@pytest.mark.parametrize(
    ("size", "unit", "expected"),
    [
        (0.25, "µm", 0.25), (0.25, "μm", 0.25), (250, "nm", 0.25), (0.00025, "mm", 0.25), (2.5e-5, "cm", 0.25),
        (2500, "Å", 0.25), (2.5e-7, "m", 0.25), (0.25, None, 0.25), (1, "pixel", None), (1, "reference frame", None),
        ("wide", "µm", None), (0, "µm", None),
    ],
)  # fmt: skip
def test_micrometres_are_read_from_ome_xml_in_any_unit(size: Any, unit: str | None, expected: float | None):
    of_unit = "" if unit is None else f' PhysicalSizeXUnit="{unit}"'
    pixels = f'<Pixels SizeX="9" SizeY="8" PhysicalSizeX="{size}"{of_unit}/>'
    other = '<Pixels SizeX="5" SizeY="5" PhysicalSizeX="7"/>'
    text = f'<?xml version="1.0"?><OME xmlns="http://a"><Image>{other}</Image><Image>{pixels}</Image></OME>'
    found = ome_mpp(text, (9, 8))
    assert found is None if expected is None else found == pytest.approx((expected, expected))
    assert ome_mpp(text, (9, 9)) is None
    assert ome_mpp(text[:-9], (9, 8)) is None
    assert ome_mpp("Aperio Image Library", (9, 8)) is None


def test_a_tiff_and_its_ome_xml_that_contradict_each_other_ask_for_the_size(tmp_path: Path):
    path = tmp_path / "slide.ome.tif"
    for mpp, is_right in ((0.25, True), (0.5, False)):
        with tifffile.TiffWriter(path, ome=True) as writer:
            resolution = {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
            writer.write(planes(1)[0], metadata={"axes": "YXS", "PhysicalSizeX": 0.25}, **TILES, **resolution)
        if is_right:
            with Slide(path) as slide:
                assert slide.mpp == pytest.approx((0.25, 0.25))
        else:
            with pytest.raises(DataError, match=r"says 0\.5 \(TIFF\) and 0\.25 \(OME-XML\) µm per pixel"):
                Slide(path)


def test_a_pattern_is_sharper_than_its_blurred_copy_and_nothing_is_not_sharp():
    sharp = np.repeat((np.indices((20, 20)).sum(axis=0) % 2 * 255).astype(np.uint8)[..., None], 3, axis=2)
    blurred = ((sharp.astype(float) + np.roll(sharp, 1, 0)) / 2).astype(np.uint8)
    assert sharpness(sharp) > sharpness(blurred) >= 0
    assert sharpness(sharp[:1, :1]) == 0


def test_the_command_says_that_the_first_plane_is_read_and_takes_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    model = write_small_bundle(tmp_path / "model")
    slide = write_ome(tmp_path / "slide.ome.tif", planes(3))
    point = {"type": "Point", "coordinates": [200, 300]}
    (tmp_path / "cells.geojson").write_text(json.dumps([{"type": "Feature", "geometry": point, "properties": {}}]))
    command = ["predict", str(model), str(slide), "--cells", str(tmp_path / "cells.geojson"), "--crop-um", "10"]
    for options, code, words in (
        ([], 0, "! S703 3 planes, the first is read."),
        (["--plane", "sharpest"], 0, "1 cell: "),
        (["--plane", "3"], 2, "numbered from 0 to 2"),
        (["--plane", "best"], 2, "--plane is a number from 0, middle or sharpest"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--out", str(tmp_path / "out.csv"), "--quiet", *options])
        said = capsys.readouterr().err
        assert ended.value.code == code
        assert words in said
        assert ("S703" in said) == (not options)


@pytest.mark.parametrize("name", ["slide.svs", "a.ndpi", "b.mrxs", "c.czi", "d.BIF", "e.scn"])
def test_a_slide_among_the_images_to_predict_asks_for_its_cells(name: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"anything")
    for named in (name, f"*{name[-4:]}"):
        with pytest.raises(SystemExit) as ended:
            main(["predict", "model", named, "--out", "out.csv", "--quiet"])
        assert ended.value.code == 2
        assert "a slide needs --cells" in capsys.readouterr().err
    assert not Path("out.csv").exists()


@pytest.mark.parametrize("packed", ["none", "jpeg", "jpeg2000", "aperio_jp2000_rgb", "png", "webp", "lzw", "zlib"])
def test_tiles_that_are_left_out_of_a_slide_are_white_and_the_others_as_they_were(packed: str, tmp_path: Path):
    path, pixels = tmp_path / "slide.tif", planes(1)[0]
    tifffile.imwrite(path, pixels, **(TILES | {"compression": packed}))
    reader = PlaneReader(path)
    expected = reader.region(0, (0, 0), (EDGE, EDGE)).copy()
    reader.close()
    expected[:128, 128:384] = 255
    with tifffile.TiffFile(path) as file:
        tags = [file.pages.first.tags[code] for code in (324, 325)]
    content = bytearray(path.read_bytes())
    for tag in tags:
        size = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
        content[tag.valueoffset + size : tag.valueoffset + 3 * size] = bytes(2 * size)
    path.write_bytes(content)
    reader = PlaneReader(path)
    np.testing.assert_array_equal(reader.region(0, (0, 0), (EDGE, EDGE)), expected)
    assert (reader.region(0, (120, 60), (16, 9))[:, 8:] == 255).all()
    reader.close()


def test_a_tile_of_a_slide_that_cannot_be_read_names_the_plane_and_no_place_in_memory(tmp_path: Path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, planes(1)[0], **(TILES | {"compression": "jpeg2000"}))
    path.write_bytes(path.read_bytes().replace(b"\xff\x4f\xff\x51", b"\xff\x4e\xff\x50"))
    reader = PlaneReader(path)
    with pytest.raises(DataError, match=r"plane 0 cannot be read") as raised:
        reader.region(0, (0, 0), (EDGE, EDGE))
    assert "0x" not in str(raised.value)
    reader.close()
