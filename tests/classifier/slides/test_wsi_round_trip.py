"""Features of a GeoJSON on their way through a prediction: what goes in comes out, with ours beside it."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slide_files import write_slide
from small_bundle import CLASSES, write_small_bundle

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.slides.positions import read_collection
from cytolora.classifier.slides.predict import predict_slide
from cytolora.classifier.slides.slide import Slide
from cytolora.cli.app import main
from cytolora.errors import DataError

NAMES = [*(f"p {name}" for name in CLASSES), "referred", "unfamiliar"]
"""Our measurements; the small bundle's operating point adds one more."""

texts = st.text(st.characters(codec="utf-8"), max_size=8)
numbers = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner),
)
names = texts | st.sampled_from([*NAMES, *(f"cytolora {name}" for name in NAMES)])
values = numbers | st.sampled_from(["NaN", "Infinity"])
measurements = (
    st.dictionaries(names, values, max_size=4)
    | st.lists(st.fixed_dictionaries({"name": names, "value": values}), max_size=4)
    | st.none()
)


@st.composite
def outlines(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly on the slide of 512 pixels, now and then outside: such a cell cannot be predicted."""
    x, y = draw(st.floats(5, 700)), draw(st.floats(5, 700))
    ring = [[x, y], [x + 9.25, y], [x + 9.25, y + 7], [x, y]]
    kinds = {
        "Point": [x, y],
        "MultiPoint": [[x, y]],
        "Polygon": [ring],
        "MultiPolygon": [[ring], [[[p + 30, q] for p, q in ring]]],
    }
    kind = draw(st.sampled_from(sorted(kinds)))
    return {
        "type": kind,
        "coordinates": kinds[kind],
        **draw(st.just({}) | st.just({"plane": {"c": -1, "z": 2, "t": 0}})),
    }


@st.composite
def features(draw: st.DrawFn) -> dict[str, Any]:
    """What QuPath writes, and members and properties that nobody has heard of."""
    optional = {
        "objectType": st.sampled_from(["cell", "detection", "annotation", "tile"]),
        "object_type": st.just("cell"),
        "name": texts,
        "classification": st.none() | st.fixed_dictionaries({"name": texts, "color": st.just([200, 0, 0])}),
        "color": st.just([1, 2, 3]),
        "isLocked": st.booleans(),
        "metadata": st.dictionaries(texts, texts, max_size=2),
        "measurements": measurements,
        "childObjects": st.lists(anything, max_size=2),
    }
    properties = draw(st.dictionaries(texts, anything, max_size=2)) | draw(st.fixed_dictionaries({}, optional=optional))
    properties.pop("type", None)
    unknown = draw(st.dictionaries(texts.filter(lambda name: name not in ("id", "type")), anything, max_size=2))
    nucleus = draw(st.just({}) | st.fixed_dictionaries({"nucleusGeometry": outlines()}))
    return {"type": "Feature", **unknown, **nucleus, "geometry": draw(outlines()), "properties": properties}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openslide", reason="OpenSlide is not installed")
    path = tmp_path_factory.mktemp("slide") / "slide.tiff"
    write_slide(path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_bundle(tmp_path_factory.mktemp("trip") / "model")


def write(path: Path, *found: dict[str, Any], **members: Any) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", **members, "features": found}))
    return path


def predicted(model: Path, slide: Path, cells: Path) -> dict[str, Any]:
    """The GeoJSON that the command makes of a file of cells."""
    out = cells.with_name("out.geojson")
    with pytest.raises(SystemExit) as ended:
        main(
            ["predict", str(model), str(slide), "--cells", str(cells), "--crop-um", "10", "--out", str(out), "--quiet"]
        )
    assert ended.value.code == 0
    return json.loads(out.read_text())


def as_dict(found: Any) -> dict[str, Any]:
    """Measurements in the form of QuPath 0.4 and later."""
    return {one["name"]: one["value"] for one in found} if isinstance(found, list) else dict(found or {})


def square(**properties: Any) -> dict[str, Any]:
    ring = [[90, 90], [110, 90], [110, 110], [90, 110], [90, 90]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "id": "a-1", "geometry": geometry, "properties": properties}


def test_a_cell_of_qupath_keeps_nucleus_measurements_name_type_and_metadata(slide: Path, model: Path, tmp_path: Path):
    cell = square(
        objectType="cell",
        name="n 1",
        color=[1, 2, 3],
        isLocked=True,
        classification={"name": "Tumor", "color": [200, 0, 0]},
        measurements={"Nucleus: Area": 123.4, "Nucleus: Max": "NaN"},
        metadata={"ANNOTATION_DESCRIPTION": "seen twice"},
    )
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[[95, 95], [105, 95], [105, 105], [95, 95]]]}
    cell["geometry"]["plane"] = {"c": -1, "z": 2, "t": 0}
    (made,) = predicted(model, slide, write(tmp_path / "cells.geojson", cell))["features"]
    ours = made["properties"].pop("classification")
    assert ours["name"] in CLASSES
    assert len(ours["color"]) == 3
    found = made["properties"].pop("measurements")
    assert {name: found[name] for name in ("Nucleus: Area", "Nucleus: Max")} == cell["properties"].pop("measurements")
    assert {*NAMES} <= found.keys()
    del cell["properties"]["classification"]
    assert made == cell


def test_measurements_in_a_list_stay_one_and_ours_are_added_to_it(slide: Path, model: Path, tmp_path: Path):
    cell = square(object_type="detection", measurements=[{"name": "Area", "value": 5.0}])
    (made,) = predicted(model, slide, write(tmp_path / "cells.geojson", cell))["features"]
    first, *ours = made["properties"]["measurements"]
    assert first == {"name": "Area", "value": 5.0}
    assert {*NAMES} <= {one["name"] for one in ours}
    assert "objectType" not in made["properties"]  # object_type says it, as QuPath 0.3 wrote it


def test_a_measurement_called_like_ours_stays_and_all_of_ours_get_a_prefix(slide: Path, model: Path, tmp_path: Path):
    cells = write(tmp_path / "cells.geojson", square(measurements={NAMES[0]: 7}), {**square(), "id": "b"})
    first, second = predicted(model, slide, cells)["features"]
    assert first["properties"]["measurements"][NAMES[0]] == 7
    for made in (first, second):  # one name for all cells: a column of QuPath's table
        assert {f"cytolora {name}" for name in NAMES} <= made["properties"]["measurements"].keys()
    assert NAMES[0] not in second["properties"]["measurements"]
    again = predicted(model, slide, write(tmp_path / "again.geojson", first, second))["features"]
    assert again[0]["properties"]["measurements"].items() > first["properties"]["measurements"].items()
    assert f"cytolora cytolora {NAMES[0]}" in again[1]["properties"]["measurements"]


def test_a_cell_that_cannot_be_read_comes_back_as_it_was_and_the_command_says_so(
    slide: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    outside = square(objectType="cell", classification={"name": "Tumor", "color": [9, 9, 9]}, measurements={"Area": 5})
    outside["geometry"] = {"type": "Point", "coordinates": [9000, 9000]}
    assert predicted(model, slide, write(tmp_path / "cells.geojson", outside))["features"] == [outside]
    assert "1 unreadable and keep the class that they came with" in capsys.readouterr().err


def test_members_of_the_collection_come_back(slide: Path, model: Path, tmp_path: Path):
    members = {"name": "slide 1", "crs": {"type": "name"}, "bbox": [0, 0, 1.5, 2], "foreign": [None, {"a": "é"}]}
    made = predicted(model, slide, write(tmp_path / "cells.geojson", square(), **members))
    del made["features"]
    assert made == {"type": "FeatureCollection", **members}


def test_several_points_of_one_feature_are_one_cell_each_with_what_the_feature_says(
    slide: Path, model: Path, tmp_path: Path
):
    points = square(objectType="annotation", name="marked by hand")
    points["geometry"] = {"type": "MultiPoint", "coordinates": [[100, 100], [200, 200.5]], "plane": {"z": 1}}
    made = predicted(model, slide, write(tmp_path / "cells.geojson", points))["features"]
    assert [one["geometry"] for one in made] == [
        {"type": "Point", "coordinates": point, "plane": {"z": 1}} for point in ([100, 100], [200, 200.5])
    ]
    assert [(one["id"], one["properties"]["name"]) for one in made] == [
        ("a-1.1", "marked by hand"),
        ("a-1.2", "marked by hand"),
    ]


def test_the_ids_of_qupath_02_are_types_and_come_back_as_such(slide: Path, model: Path, tmp_path: Path):
    cells = [{**square(measurements=[{"name": "a", "value": 1.0}]), "id": "PathCellObject"} for _ in range(2)]
    (tmp_path / "cells.geojson").write_text(json.dumps(cells))
    assert [one.id for one in read_collection(tmp_path / "cells.geojson").positions] == ["1", "2"]
    made = predicted(model, slide, tmp_path / "cells.geojson")["features"]
    assert [one["id"] for one in made] == ["PathCellObject", "PathCellObject"]
    assert "objectType" not in made[0]["properties"]  # it would outrank the type in the id


@pytest.mark.parametrize(
    ("properties", "words"),
    [
        ([1], "feature 1 has properties that are no object"),
        ({"measurements": "5"}, "feature 1 has measurements that are neither"),
    ],
)
def test_what_nothing_can_be_added_to_is_refused_by_name(properties: Any, words: str, tmp_path: Path):
    with pytest.raises(DataError, match=words):
        read_collection(write(tmp_path / "cells.geojson", {**square(), "properties": properties}))


@given(cells=st.lists(features(), min_size=1, max_size=4), members=st.dictionaries(texts, anything, max_size=2))
@settings(max_examples=25)
@pytest.mark.slow
def test_every_feature_comes_back_equal_but_for_what_is_ours(
    cells: list[dict[str, Any]],
    members: dict[str, Any],
    slide: Path,
    model: Path,
    tmp_path_factory: pytest.TempPathFactory,
):
    tmp_path = tmp_path_factory.mktemp("cells")
    members = {name: value for name, value in members.items() if name not in ("type", "features")}
    cells = [square(objectType="cell"), *cells]  # without one, annotations would be the cells
    del cells[0]["id"]
    collection = read_collection(write(tmp_path / "cells.geojson", *cells, **members))
    out = tmp_path / "out.geojson"
    bundle = Classifier.load(model)
    with Slide(slide) as opened:
        predict_slide(
            bundle,
            opened,
            collection.positions,
            out,
            crop_um=10,
            members=collection.members,
            passed_over=collection.passed_over,
        )
    made = json.loads(out.read_text())
    assert {name: value for name, value in made.items() if name not in ("type", "features")} == members
    for number, (before, after) in enumerate(zip(cells, made["features"], strict=True), start=1):
        kind = before["properties"].get("objectType", before["properties"].get("object_type"))
        if kind in ("annotation", "tile"):
            assert after == before
            continue
        assert after.pop("id") == str(number)
        old, new = dict(before["properties"]), after.pop("properties")
        assert {**after, "properties": {}} == {**before, "properties": {}}
        measured, given_ = as_dict(new.pop("measurements", None)), as_dict(old.pop("measurements", None))
        assert measured.items() >= given_.items()
        if measured == given_:  # not predicted
            assert new.pop("classification", None) == old.pop("classification", None)
        else:
            assert new.pop("classification")["name"] in CLASSES
            old.pop("classification", None)
            ours = [name for name in measured if name not in given_]
            assert sum(name.endswith(f"p {label}") for name in ours for label in CLASSES) == len(CLASSES)
        assert new.pop("objectType", None) == (
            old.pop("objectType", None) or (None if "object_type" in old else "detection")
        )
        assert new == old
