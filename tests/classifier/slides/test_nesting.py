"""Objects that QuPath nests in others: none of them is left out in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cytolora.classifier.slides.nesting import num_nested, without_nesting
from cytolora.classifier.slides.positions import read_collection


def _object(kind: str, x: int, *inside: dict[str, Any], place: str = "properties", edge: int = 4) -> dict[str, Any]:
    ring = [[x, 0], [x + edge, 0], [x + edge, edge], [x, edge], [x, 0]]
    feature: dict[str, Any] = {
        "type": "Feature",
        "id": f"{kind}{x}",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"objectType": kind, "name": "kept"},
    }
    if inside:
        (feature["properties"] if place == "properties" else feature)["childObjects"] = list(inside)
    return feature


def _read(path: Path, *features: dict[str, Any]) -> Any:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return read_collection(path)


CELLS = [_object("cell", 10), _object("detection", 20), _object("cell", 30)]


@pytest.mark.parametrize("place", ["properties", "feature"])
@pytest.mark.parametrize("kind", ["annotation", "tile", "tmaCore", "root"])
def test_cells_nested_in_an_annotation_are_predicted_and_written_once(kind: str, place: str, tmp_path: Path):
    found = _read(tmp_path / "cells.geojson", _object(kind, 0, *CELLS, place=place), _object("cell", 40))
    assert [(one.id, one.x, one.y) for one in found.positions] == [
        ("cell10", 12, 2),
        ("detection20", 22, 2),
        ("cell30", 32, 2),
        ("cell40", 42, 2),
    ]
    said = {one.code: (one.count, one.examples) for one in found.findings if one.code in ("S709", "S710")}
    assert said == {"S710": (3, ("feature 1.1", "feature 1.2", "feature 1.3"))}
    assert [one.feature for one in found.passed_over] == [_object(kind, 0)]


def test_cells_at_any_depth_are_predicted(tmp_path: Path):
    inner = _object("annotation", 1, *CELLS)
    found = _read(tmp_path / "cells.geojson", _object("annotation", 0, _object("tmaCore", 2, inner)))
    assert [one.id for one in found.positions] == ["cell10", "detection20", "cell30"]


@pytest.mark.parametrize("place", ["properties", "feature"])
def test_objects_inside_a_cell_are_its_parts_and_are_counted(place: str, tmp_path: Path):
    cell = _object("cell", 0, _object("detection", 1), _object("detection", 2, _object("detection", 3)), place=place)
    found = _read(tmp_path / "cells.geojson", cell, _object("cell", 40))
    assert [one.id for one in found.positions] == ["cell0", "cell40"]
    assert found.positions[0].feature == cell
    assert [(one.code, one.count, one.examples) for one in found.findings] == [("S709", 3, ("feature 1",))]
    assert str(found.findings[0]).startswith("3 objects inside cells are not predicted")


@pytest.mark.parametrize("children", [[], None, "text", [1], [{"name": "x"}], {"geometry": 1}, [{"geometry": {}}, 2]])
def test_child_objects_that_are_no_objects_stay_as_they_are(children: Any, tmp_path: Path):
    annotation = _object("annotation", 0)
    annotation["properties"]["childObjects"] = children
    found = _read(tmp_path / "cells.geojson", annotation, *CELLS)
    assert [one.feature for one in found.passed_over] == [annotation]
    assert len(found.positions) == 3


_TREES = st.recursive(
    st.builds(_object, st.sampled_from(["cell", "annotation"]), st.integers(0, 9)),
    lambda inner: st.builds(
        lambda kind, inside: _object(kind, 0, *inside),
        st.sampled_from(["cell", "annotation"]),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


def _all_cells(feature: dict[str, Any]) -> int:
    inside = feature["properties"].get("childObjects", [])
    return (feature["properties"]["objectType"] == "cell") + sum(map(_all_cells, inside))


@given(st.lists(_TREES, max_size=3))
def test_every_cell_of_a_tree_is_read_or_counted_as_part_of_one(features: list[dict[str, Any]]):
    flat = [feature for _, feature in without_nesting(features)]
    cells = [one for one in flat if one["properties"]["objectType"] == "cell"]
    assert all("childObjects" not in one["properties"] for one in flat if one not in cells)
    assert sum(map(_all_cells, features)) == sum(map(_all_cells, cells))
    assert all(num_nested(one) >= _all_cells(one) - 1 for one in cells)
