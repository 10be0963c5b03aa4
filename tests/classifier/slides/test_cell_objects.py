"""Objects of a file of cells: which are predicted, which are left out by name, and what comes back."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.classifier.slides.geojson import Classified, write_geojson
from cytolora.classifier.slides.objects import Target
from cytolora.classifier.slides.positions import Collection, read_collection
from cytolora.errors import DataError

TARGET = Target(image="slide.svs", mpp=0.25, crop_um=30)


def ring(x: float, y: float, edge: float) -> list[list[float]]:
    near, far = -edge / 2, edge / 2
    return [[x + a, y + b] for a, b in ((near, near), (far, near), (far, far), (near, far), (near, near))]


def square(number: int, edge: float = 100, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": [ring(100 * number, 50, edge)]}
    return {"type": "Feature", "id": f"c{number}", "geometry": geometry, "properties": properties}


CELLS = [square(number, objectType="detection") for number in range(1, 4)]


def with_geometry(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "id": "odd", "geometry": geometry, "properties": properties}


def written(path: Path, *features: Any) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def codes(found: Collection) -> list[str]:
    return [one.code for one in found.findings]


def back(found: Collection, out: Path) -> list[Any]:
    """The features that a prediction of the class a would write."""
    cells = (
        Classified(feature=one.feature or {}, id=one.id, predicted="a", measurements={}) for one in found.positions
    )
    write_geojson(cells, out, ["a"], found.members, found.passed_over)
    return json.loads(out.read_text())["features"]


@pytest.mark.parametrize(
    "other",
    [
        square(9, 1000, objectType="annotation", classification={"name": "Region*"}),
        square(9, 60, objectType="annotation"),
        square(9, 60, object_type="annotation", isLocked=True),
        square(9, 60, objectType="Annotation"),
        square(9, 60, objectType="tmaCore", isMissing=False),
        square(9, 60, type="tma_core"),
        square(9, 60, objectType="tile", measurements={"a": 1}),
        {**square(9, 60), "id": "PathAnnotationObject"},
        {**square(9, 60), "id": "TMACoreObject"},
        {**square(9, 60), "id": "PathTileObject"},
        {**square(9, 60), "id": "PathRootObject"},
        square(9, 1000),
        with_geometry({"type": "LineString", "coordinates": [[10, 10], [90, 90]]}, objectType="annotation"),
        with_geometry({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, objectType="annotation"),
        with_geometry(None, objectType="annotation"),
    ],
)
def test_an_object_that_is_no_cell_is_left_out_named_and_comes_back_as_it_was(other: Any, tmp_path: Path):
    found = read_collection(written(tmp_path / "a.geojson", CELLS[0], other, *CELLS[1:]), TARGET)
    assert [(one.id, one.x, one.y) for one in found.positions] == [(f"c{n}", 100 * n, 50) for n in (1, 2, 3)]
    assert codes(found) == ["S701"]
    assert found.findings[0].count == 1
    assert "feature 2" in str(found.findings[0])
    features = back(found, tmp_path / "out.geojson")
    assert features[1] == other
    assert [one["properties"].get("classification", {}).get("name") for one in (features[0], *features[2:])] == [
        "a"
    ] * 3


@pytest.mark.parametrize(
    "odd",
    [
        with_geometry({"type": "LineString", "coordinates": [[10, 10], [90, 90]]}),
        with_geometry({"type": "MultiLineString", "coordinates": [[[10, 10], [90, 90]]]}, objectType="detection"),
        with_geometry({"type": "GeometryCollection", "geometries": []}),
        with_geometry(None),
        with_geometry({"type": "Polygon", "coordinates": []}),
        with_geometry({"type": "Polygon", "coordinates": [[]]}),
        with_geometry({"type": "Polygon", "coordinates": [[[1, 2], [3, None], [5, 6]]]}),
        with_geometry({"type": "Polygon", "coordinates": [[[1, 2], ["NaN", 4], [5, 6]]]}),
        with_geometry({"type": "MultiPoint", "coordinates": []}),
        with_geometry({"type": "Point", "coordinates": [1]}),
        with_geometry({"type": "Point", "coordinates": [True, False]}),
        with_geometry({"type": "Point", "coordinates": "12"}),
        with_geometry({"type": "Point"}),
        with_geometry([1, 2]),
        {"type": "Feature", "properties": {}},
        {**square(9), "properties": [1]},
        square(9, measurements="5"),
        square(9, name="\ud800"),
        None,
        5,
        "cell",
    ],
)
def test_an_odd_feature_is_left_out_named_and_comes_back_as_it_was(odd: Any, tmp_path: Path):
    found = read_collection(written(tmp_path / "a.geojson", *CELLS, odd), TARGET)
    assert [one.id for one in found.positions] == ["c1", "c2", "c3"]
    assert codes(found) == ["S704"]
    assert "feature 4 (" in str(found.findings[0])
    assert back(found, tmp_path / "out.geojson")[3] == odd


def test_nan_as_qupath_04_writes_it_is_read_and_written_as_qupath_05_does(tmp_path: Path):
    text = json.dumps([square(1, objectType="cell", measurements={"a": float("nan"), "b": float("-inf"), "c": 2.5})])
    assert "NaN" in text
    (tmp_path / "a.geojson").write_text(text)
    found = read_collection(tmp_path / "a.geojson", TARGET)
    (made,) = back(found, tmp_path / "out.geojson")
    assert made["properties"]["measurements"] == {"a": "NaN", "b": "-Infinity", "c": 2.5}
    text = json.dumps([*CELLS, with_geometry({"type": "Point", "coordinates": [float("nan"), 5]})])
    (tmp_path / "b.geojson").write_text(text)
    found = read_collection(tmp_path / "b.geojson", TARGET)
    assert ([one.id for one in found.positions], codes(found)) == (["c1", "c2", "c3"], ["S704"])


def test_a_file_that_is_mostly_odd_is_refused_with_its_first_case(tmp_path: Path):
    odd = with_geometry({"type": "LineString", "coordinates": [[10, 10], [90, 90]]})
    with pytest.raises(DataError, match=r"4 of 7 objects have no readable position; feature 4 has no readable"):
        read_collection(written(tmp_path / "a.geojson", *CELLS, *[odd] * 4), TARGET)
    assert len(read_collection(written(tmp_path / "a.geojson", *CELLS, *[odd] * 3), TARGET).positions) == 3


def test_annotations_alone_are_the_cells_where_they_are_no_wider_than_one(tmp_path: Path):
    drawn = [square(number, objectType="annotation") for number in range(1, 4)]
    points = with_geometry({"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}, objectType="annotation")
    region = square(9, 1000, objectType="annotation")
    found = read_collection(written(tmp_path / "a.geojson", region, *drawn, points), TARGET)
    assert [one.id for one in found.positions] == ["c1", "c2", "c3", "odd.1", "odd.2"]
    assert codes(found) == ["S701", "S705"]
    assert [one.count for one in found.findings] == [1, 4]
    assert back(found, tmp_path / "out.geojson")[0] == region


@pytest.mark.parametrize(
    ("features", "words"),
    [
        ([square(1, 1000, objectType="annotation")], "holds 1 annotation and no cell. Export the detections"),
        ([square(1, objectType="tile"), square(2, objectType="tile")], "holds 2 tiles and no cell"),
        ([{**square(1), "id": "TMACoreObject"}], "holds 1 TMA core and no cell"),
        ([square(1, 5000)], "holds 1 region and no cell"),
    ],
)
def test_a_file_without_cells_says_what_it_holds_and_what_to_export(features: Any, words: str, tmp_path: Path):
    with pytest.raises(DataError, match=words):
        read_collection(written(tmp_path / "a.geojson", *features), TARGET)


def test_a_wide_object_that_the_file_calls_a_cell_is_one(tmp_path: Path):
    found = read_collection(written(tmp_path / "a.geojson", square(1, 1000, objectType="cell"), square(2)), TARGET)
    assert ([one.id for one in found.positions], codes(found)) == (["c1", "c2"], [])


def test_a_repeated_cell_is_left_out_and_an_id_at_two_places_is_refused(tmp_path: Path):
    found = read_collection(written(tmp_path / "a.geojson", *CELLS, CELLS[1]), TARGET)
    assert ([one.id for one in found.positions], codes(found)) == (["c1", "c2", "c3"], ["S707"])
    with pytest.raises(DataError, match=r"'c1' stands twice; every cell needs its own \(feature 4\)"):
        read_collection(written(tmp_path / "a.geojson", *CELLS, {**CELLS[1], "id": "c1"}), TARGET)


def test_features_that_name_another_slide_are_left_out_and_come_back(tmp_path: Path):
    other = square(5, objectType="cell", Image="other.svs")
    mine = square(4, objectType="cell", image="/scans/Slide.SVS")
    found = read_collection(written(tmp_path / "a.geojson", other, mine), TARGET)
    assert ([one.id for one in found.positions], codes(found)) == (["c4"], ["S702"])
    assert back(found, tmp_path / "out.geojson")[0] == other


@given(
    kinds=st.lists(
        st.sampled_from(["detection", "cell", "annotation", "tile", "tmaCore", "odd"]), min_size=1, max_size=8
    )
)
@settings(max_examples=40)
def test_every_object_is_a_cell_or_a_count_of_a_finding_and_all_come_back_in_order(
    kinds: list[str], tmp_path_factory: pytest.TempPathFactory
):
    tmp_path = tmp_path_factory.mktemp("objects")
    features = [
        with_geometry(None, number=number) if kind == "odd" else square(number, objectType=kind)
        for number, kind in enumerate(kinds)
    ]
    cells = [number for number, kind in enumerate(kinds) if kind in ("detection", "cell")]
    num_odd = kinds.count("odd")
    if not cells or num_odd > len(cells):
        return
    found = read_collection(written(tmp_path / "a.geojson", *features), TARGET)
    assert [one.id for one in found.positions] == [f"c{number}" for number in cells]
    counts = {one.code: one.count for one in found.findings}
    num_others = len(kinds) - len(cells) - num_odd
    assert counts == {code: count for code, count in (("S701", num_others), ("S704", num_odd)) if count}
    made = back(found, tmp_path / "out.geojson")
    assert [one["geometry"] for one in made] == [one["geometry"] for one in features]
    for number, (before, after) in enumerate(zip(features, made, strict=True)):
        assert (before == after) == (number not in cells)


QUPATH = {
    "0.2": {
        **square(1, isLocked=False, classification={"name": "Tumor", "colorRGB": -3670016}),
        "id": "PathCellObject",
        "nucleusGeometry": {"type": "Polygon", "coordinates": [ring(100, 50, 20)]},
    },
    "0.3": square(1, object_type="detection", isLocked=True, measurements=[{"name": "Area", "value": 5.0}]),
    "0.4": square(1, objectType="cell", measurements={"Area": 5.0}, classification={"name": "T", "color": [200, 0, 0]}),
    "0.5": square(
        1,
        objectType="cell",
        name="n 1",
        color=[1, 2, 3],
        isLocked=True,
        measurements={"Nucleus: Max": "NaN"},
        metadata={"Parent ID": "5"},
        classification={"names": ["Tumor", "Positive"], "color": [200, 0, 0]},
    ),
}
"""Features as the versions write them (PathObjectTypeAdapters and QuPathTypeAdapters of their sources)."""


@pytest.mark.parametrize("version", QUPATH)
def test_every_key_of_each_version_of_qupath_comes_back(version: str, tmp_path: Path):
    feature = {**QUPATH[version], "bbox": [0, 0, 1, 1], "foreign": {"parent": "p"}}
    feature["geometry"] = {**feature["geometry"], "plane": {"c": -1, "z": 2, "t": 0}, "isEllipse": True}
    found = read_collection(
        written(
            tmp_path / "a.geojson",
            feature,
            feature | {"geometry": CELLS[1]["geometry"]} if version == "0.2" else CELLS[1],
        ),
        TARGET,
    )
    assert found.positions[0].z == 2
    assert len(found.positions) == 2
    made = back(found, tmp_path / "out.geojson")[0]
    assert made["properties"].pop("classification") == {"name": "a", "color": [0, 114, 178]}
    feature["properties"] = {key: value for key, value in feature["properties"].items() if key != "classification"}
    assert made == feature


@pytest.mark.parametrize("ids", [(0, None), (None, 1), (2, None), (0, 1, None), ("2", None), (False, None, "")])
def test_features_with_and_without_ids_all_have_their_own_and_come_back_with_it(ids: tuple[Any, ...], tmp_path: Path):
    cells = [
        {
            name: value
            for name, value in {**square(number, objectType="detection"), "id": one}.items()
            if value is not None
        }
        for number, one in enumerate(ids)
    ]
    found = read_collection(written(tmp_path / "cells.geojson", *cells), TARGET)
    names = [one.id for one in found.positions]
    assert len(set(names)) == len(ids)
    assert all(one in (None, "") or name == str(one) for one, name in zip(ids, names, strict=True))
    returned = back(found, tmp_path / "out.geojson")
    assert [one["id"] for one in returned] == [
        name if one is None else one for one, name in zip(ids, names, strict=True)
    ]


@pytest.mark.parametrize(
    "content",
    [
        {"images": [], "annotations": []},
        {"mag": 40, "nuc": {}},
        {"type": "Topology", "objects": {}},
        {},
        {"shapes": [], "imagePath": "a.png"},
        {"type": "Polygon", "coordinates": [ring(50, 50, 10)]},
        3,
        "cells",
    ],
)
def test_another_json_is_refused_with_what_it_holds(content: Any, tmp_path: Path):
    path = tmp_path / "cells.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"is no GeoJSON: it holds .*, expected a FeatureCollection"):
        read_collection(path, TARGET)
