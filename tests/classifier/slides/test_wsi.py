import json
from pathlib import Path

import numpy as np
import pytest
from slide_files import MPP, tifffile, write_slide

from cytolora.classifier.slides.geojson import Classified, write_geojson
from cytolora.classifier.slides.positions import Position, read_positions
from cytolora.classifier.slides.slide import Slide
from cytolora.errors import ConfigError, DataError

pytest.importorskip("openslide", reason="OpenSlide is not installed")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("slide") / "slide.tiff"
    return path, write_slide(path)


def test_a_crop_is_the_pixels_around_its_position_in_micrometres(slide: tuple[Path, np.ndarray]):
    path, pixels = slide
    positions = [Position(id="a", x=200, y=300), Position(id="b", x=100, y=150, unit="um")]
    with Slide(path) as opened:
        assert opened.mpp == pytest.approx((MPP, MPP))
        first, second = opened.cells(positions, crop_um=20)
    assert first.pixels is not None
    assert second.pixels is not None
    assert np.array_equal(first.pixels, pixels[280:320, 180:220])
    assert np.array_equal(second.pixels, first.pixels)


def test_surroundings_are_three_times_as_wide_around_the_same_centre_and_left_out_where_they_are_large(
    slide: tuple[Path, np.ndarray],
):
    path, pixels = slide
    inside, corner = Position(id="in", x=200, y=300), Position(id="corner", x=0, y=0)
    with Slide(path) as opened:
        (plain,) = opened.cells([inside], crop_um=20)
        one, edge = opened.cells([inside, corner], crop_um=20, with_surroundings=True)
        (large,) = opened.cells([inside], crop_um=520, with_surroundings=True)
        (outside,) = opened.cells([Position(id="out", x=900, y=5)], crop_um=20, with_surroundings=True)
    assert plain.surroundings is None
    assert one.surroundings is not None
    assert np.array_equal(one.surroundings, pixels[240:360, 140:260])
    assert edge.surroundings is not None
    assert (edge.surroundings[:60] == 255).all()
    assert np.array_equal(edge.surroundings[60:, 60:], pixels[:60, :60])
    assert large.pixels is not None
    assert large.surroundings is None
    assert outside.surroundings is None


def test_a_crop_over_the_edge_lies_on_white_and_a_position_outside_is_an_error(slide: tuple[Path, np.ndarray]):
    positions = [Position(id="corner", x=0, y=0), Position(id="outside", x=600, y=5), Position(id="in", x=9, y=9)]
    with Slide(slide[0]) as opened:
        corner, outside, inside = opened.cells(positions, crop_um=10)
    assert corner.pixels is not None
    assert (corner.pixels[:10] == 255).all()
    assert np.array_equal(corner.pixels[10:, 10:], slide[1][:10, :10])
    assert outside.pixels is None
    assert "outside the slide of 512 x 512" in outside.error
    assert inside.pixels is not None


def test_a_slide_that_does_not_say_its_pixel_size_asks_for_it(tmp_path: Path):
    write_slide(tmp_path / "plain.tiff", mpp=None, edge=256)
    with pytest.raises(DataError, match=r"plain\.tiff .*Give micrometres per pixel: --mpp"):
        Slide(tmp_path / "plain.tiff")
    with Slide(tmp_path / "plain.tiff", mpp=0.25) as opened:
        (cell,) = opened.cells([Position(id="a", x=100, y=100)], crop_um=10)
    assert cell.pixels is not None
    assert cell.pixels.shape == (40, 40, 3)
    write_slide(tmp_path / "printed.tiff", mpp=352.8, edge=256)
    with pytest.raises(DataError, match=r"says 352\.\d+ µm per pixel"):
        Slide(tmp_path / "printed.tiff")


def test_a_damaged_tile_is_one_cell_with_an_error(tmp_path: Path):
    path = tmp_path / "slide.tiff"
    edge = 512
    pixels = np.random.default_rng(0).integers(0, 255, (edge, edge, 3), dtype=np.uint8)
    options = {"photometric": "rgb", "tile": (128, 128), "compression": "adobe_deflate", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, **options)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[start : start + 400] = b"\0" * 400
    path.write_bytes(content)
    positions = [Position(id=str(x), x=x, y=192) for x in (64, 192, 320)]
    with Slide(path, mpp=0.5) as opened:
        cells = list(opened.cells(positions, crop_um=10))
    assert [cell.pixels is None for cell in cells] == [False, True, False]
    assert cells[1].error


def test_what_is_no_slide_is_refused_by_name(tmp_path: Path):
    (tmp_path / "a.svs").write_bytes(b"no slide")
    with pytest.raises(DataError, match=r"a\.svs is no slide that OpenSlide reads"):
        Slide(tmp_path / "a.svs")
    (tmp_path / "a.kfb").write_bytes(b"")
    with pytest.raises(DataError, match="Convert it with KFBio's own program"):
        Slide(tmp_path / "a.kfb")
    with pytest.raises(ConfigError, match="--mpp is micrometres per pixel"):
        Slide(tmp_path / "a.svs", mpp=40)


def test_a_crop_of_no_size_or_of_the_whole_slide_is_refused(slide: tuple[Path, np.ndarray]):
    for crop_um in (30_000, 0, -5, float("nan"), float("inf"), 1e300):
        with Slide(slide[0]) as opened, pytest.raises(ConfigError, match="Check --crop-um and --mpp"):
            list(opened.cells([], crop_um=crop_um))


def test_positions_are_read_from_geojson_of_points_and_polygons(tmp_path: Path):
    ring = [[0, 0], [10, 0], [10, 20], [0, 20], [0, 0]]
    features = [
        {"type": "Feature", "id": "p", "geometry": {"type": "Point", "coordinates": [5, 6]}},
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}},
        {"type": "Feature", "id": "m", "geometry": {"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}},
    ]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    found = read_positions(tmp_path / "a.geojson")
    assert [(one.id, one.x, one.y) for one in found] == [("p", 5, 6), ("2", 5, 10), ("m.1", 1, 2), ("m.2", 3, 4)]
    split = {**features[2], "id": "m.2", "geometry": {"type": "Point", "coordinates": [3, 4]}}
    assert [one.feature for one in (*found[:2], found[3])] == [*features[:2], split]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("x,y\n5,6\n", "px"),
        ("x_um,y_um,id\n5,6,7\n", "um"),
        ("Object ID\tCentroid X µm\tCentroid Y µm\n7\t5\t6\n", "um"),
    ],
)
def test_positions_are_read_from_tables_with_their_unit(text: str, unit: str, tmp_path: Path):
    (tmp_path / "a.csv").write_text(text)
    (found,) = read_positions(tmp_path / "a.csv")
    assert (found.x, found.y, found.unit) == (5, 6, unit)
    assert found.id == ("1" if text.startswith("x,") else "7")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "expected x,y or"),
        ("x,y\n1,nan\n", "line 2 has no numbers in x and y: '1', 'nan'"),
        ("x,y\n", "holds no position"),
        ("x,y,id\n1,2,a\n3,4,a\n", "'a' stands twice"),
        ('{"features": [{"geometry": null}]}', "feature 1 has no readable geometry"),
        ("[1, 2", "is no JSON"),
        ('{"features": [{"geometry": {"type": "Polygon", "coordinates": []}}]}', "feature 1"),
        (
            '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [9, NaN]]]}}',
            "feature 1 has no readable geometry",
        ),
        (
            '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 1e999]}}',
            "feature 1 has no readable geometry",
        ),
        (
            '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [0, 1' + "0" * 400 + "]}}",
            "has 401 digits",
        ),
        (
            '{"type": "Feature", "id": "\\ud800", "geometry": {"type": "Point", "coordinates": [0, 1]}}',
            "has half a character",
        ),
    ],
)
def test_a_bad_file_of_positions_is_refused_with_its_place(text: str, words: str, tmp_path: Path):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        read_positions(tmp_path / "a.txt")


def test_written_geojson_keeps_outlines_and_holds_class_colour_and_measurements(tmp_path: Path):
    outline = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 0]]]}
    cells = [
        Classified(feature={"geometry": outline}, id="a", predicted="hsil", measurements={"p hsil": 0.9}),
        Classified(feature={"geometry": outline}, id="b", predicted=None, measurements={}),
    ]
    assert write_geojson(cells, tmp_path / "out.geojson", ["nilm", "hsil"]) == 2
    plain = json.loads((tmp_path / "out.geojson").read_text())
    first, second = plain["features"]
    assert plain["type"] == "FeatureCollection"
    assert first["geometry"] == outline
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["classification"] == {"name": "hsil", "color": [213, 94, 0]}
    assert first["properties"]["measurements"] == {"p hsil": 0.9}
    assert "classification" not in second["properties"]
    assert [one.id for one in read_positions(tmp_path / "out.geojson")] == ["a", "b"]
