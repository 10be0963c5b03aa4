"""The command on whole slides: what it writes, and what it refuses to write over."""

import base64
import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slide_files import write_slide
from small_bundle import CLASSES, write_small_bundle

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.slides.positions import Position
from cytolora.classifier.slides.predict import predict_slide
from cytolora.classifier.slides.slide import SURROUNDINGS, Slide
from cytolora.cli.app import main
from cytolora.errors import ConfigError


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    path = tmp_path_factory.mktemp("slide") / "slide.tiff"
    return path, write_slide(path)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("wsi") / "model")


def outlines(path: Path, count: int) -> Path:
    """Squares as QuPath writes detections, the last one outside of the slide."""
    corners = [(20 + 50 * (number % 9), 20 + 50 * (number // 9)) for number in range(count - 1)] + [(9000, 20)]
    features = [
        {
            "type": "Feature",
            "id": f"cell-{number}",
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[x, y], [x + 30, y], [x + 30, y + 30], [x, y + 30], [x, y]]],
            },
            "properties": {"objectType": "detection"},
        }
        for number, (x, y) in enumerate(corners)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def test_the_command_predicts_the_cells_of_a_slide_to_geojson(
    slide: tuple[Path, np.ndarray], model: Path, tmp_path: Path
):
    cells = outlines(tmp_path / "cells.geojson", 70)
    out, page = tmp_path / "out.geojson", tmp_path / "page.html"
    options = ["--cells", str(cells), "--crop-um", "20", "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(model), str(slide[0]), *options, "--out", str(out), "--page", str(page)])
    assert ended.value.code == 0
    features = json.loads(out.read_text())["features"]
    assert [feature["id"] for feature in features] == [f"cell-{number}" for number in range(70)]
    assert features[0]["geometry"] == json.loads(cells.read_text())["features"][0]["geometry"]
    (expected,) = Classifier.load(model).predict([slide[1][15:55, 15:55]])
    assert features[0]["properties"]["classification"]["name"] == expected.predicted
    shares = [features[0]["properties"]["measurements"][f"p {name}"] for name in CLASSES]
    np.testing.assert_allclose(shares, expected.probabilities or (), atol=1e-6)
    assert "classification" not in features[-1]["properties"]
    data = json.loads(page.read_text().split('id="data"')[1].split(">", 1)[1].split("</script>")[0])
    assert data["times_wider"] == SURROUNDINGS
    surroundings = {row[0]: row[10] for row in data["cells"]}
    assert surroundings["cell-69"] == ""  # it lies outside
    shown = surroundings["cell-0"].partition("base64,")[2]
    assert Image.open(io.BytesIO(base64.b64decode(shown))).size == (40 * SURROUNDINGS, 40 * SURROUNDINGS)


def test_the_command_predicts_the_cells_of_a_slide_to_a_table(
    slide: tuple[Path, np.ndarray], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cells.csv").write_text("x_um,y_um,id\n20,30,a\n5000,5,b\n")
    command = ["predict", str(model), str(slide[0]), "--cells", str(tmp_path / "cells.csv"), "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--crop-um", "20", "--out", str(tmp_path / "out.csv")])
    assert ended.value.code == 0
    first, second = csv.DictReader((tmp_path / "out.csv").open(newline=""))
    assert (first["slide"], first["id"], first["x"], first["y"]) == ("slide.tiff", "a", "40.00", "60.00")
    assert first["predicted"] in CLASSES
    assert second["predicted"] == ""
    assert "outside the slide" in second["error"]
    said = " ".join(capsys.readouterr().err.split())
    assert "! S711 1 cell not read; namely b ((10000, 10) lies outside the slide of 512 x 512 pixels)." in said
    assert "1 unreadable" in said
    assert "P101" not in said


@pytest.mark.parametrize("text", ["x,y\n900,5\n-3,8\n", "x_um,y_um\n256,1\n300,2\n3,900\n"])
def test_cells_that_all_lie_outside_the_slide_are_refused_before_the_work(
    slide: tuple[Path, np.ndarray], model: Path, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "cells.csv").write_text(text)
    command = ["predict", str(model), str(slide[0]), "--cells", str(tmp_path / "cells.csv"), "--crop-um", "20"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--out", str(tmp_path / "out.csv"), "--quiet"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert f"cells lie outside {slide[0]} (512 x 512 pixels), the first at (" in said
    assert "x_um,y_um" in said
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "--crop-um"),
        (["--crop-um", "20", "--out", "out.parquet"], ".geojson or .csv"),
        (["--crop-um", "20", "--mpp", "40"], "--mpp is micrometres per pixel"),
    ],
)
def test_a_slide_without_what_it_needs_is_refused_in_one_line(
    slide: tuple[Path, np.ndarray], model: Path, tmp_path: Path, capsys, options: list[str], words: str
):
    (tmp_path / "cells.csv").write_text("x,y\n20,30\n")
    given = [text if text != "out.parquet" else str(tmp_path / text) for text in options]
    out = [] if "--out" in given else ["--out", str(tmp_path / "out.csv")]
    with pytest.raises(SystemExit) as ended:
        main(["predict", str(model), str(slide[0]), "--cells", str(tmp_path / "cells.csv"), *given, *out])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]


@pytest.mark.parametrize(
    ("out", "page", "words"),
    [
        ("cells.csv", None, "is what is read, and would be lost"),
        ("out.geojson", "out.geojson", "ends in .html"),
        ("out.geojson", "page.txt", "ends in .html"),
        ("out.geojson", "/proc/page.html", "Cannot write /proc/page.html"),
        ("/proc/out.csv", None, "Cannot write /proc/out.csv"),
    ],
)
def test_nothing_is_written_over_or_found_to_be_impossible_after_the_work(
    slide: tuple[Path, np.ndarray], model: Path, tmp_path: Path, capsys, monkeypatch, out: str, page: str, words: str
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Slide, "cells", lambda *arguments, **options: pytest.fail("the work was begun"))
    Path("cells.csv").write_text("x,y\n20,30\n")
    command = ["predict", str(model), str(slide[0]), "--cells", "cells.csv", "--crop-um", "20", "--quiet"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--out", out, *([] if page is None else ["--page", page])])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["cells.csv"]
    assert Path("cells.csv").read_text() == "x,y\n20,30\n"


def test_more_cells_than_a_page_holds_are_refused_before_the_work(
    slide: tuple[Path, np.ndarray], model: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr("cytolora.classifier.inference.table.MAX_CELLS", 1)
    (tmp_path / "cells.csv").write_text("x,y\n20,30\n25,35\n")
    command = ["predict", str(model), str(slide[0]), "--cells", str(tmp_path / "cells.csv"), "--crop-um", "20"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--out", str(tmp_path / "out.csv"), "--page", str(tmp_path / "page.html"), "--quiet"])
    assert ended.value.code == 2
    assert "1 cells at most" in capsys.readouterr().err
    assert not (tmp_path / "out.csv").exists()


def test_a_class_called_like_a_column_of_the_table_is_refused_for_it(slide: tuple[Path, np.ndarray], tmp_path: Path):
    named = Classifier.load(write_small_bundle(tmp_path / "model", classes=("x", *CLASSES[1:])))
    position = Position(id="a", x=20, y=30)
    with Slide(slide[0]) as opened:
        with pytest.raises(ConfigError, match="Class 'x' is called like a column"):
            predict_slide(named, opened, [position], tmp_path / "out.csv", crop_um=20)
        assert predict_slide(named, opened, [position], tmp_path / "out.geojson", crop_um=20).num_images == 1
