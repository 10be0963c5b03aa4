"""Nested objects of QuPath (``childObjects``): cells below annotations are read, parts of a cell stay in it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from cytolora.classifier.slides.objects import LEGACY_IDS, TYPES, Kind, kind_of

_CHILDREN = "childObjects"
_HOLDERS = ("annotation", "tile", "TMA core", "root object")
"""Objects that hold cells; what a cell holds are its parts."""


def kind_of_feature(feature: Mapping[str, Any]) -> Kind:
    """Returns what a feature says that it is."""
    properties, given = feature.get("properties") or {}, feature.get("id")
    legacy = given if given in LEGACY_IDS else ""
    return kind_of(next((properties[name] for name in TYPES if name in properties), legacy))


def without_nesting(features: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yields each feature with its place, and after an annotation, tile or core the objects that are nested in it."""
    stack = [(f"feature {number}", feature) for number, feature in enumerate(features, start=1)][::-1]
    while stack:
        at, feature = stack.pop()
        children = _nested(feature) if _is_holder(feature) else []
        yield at, _childless(feature) if children else feature
        stack += [(f"{at}.{number}", child) for number, child in enumerate(children, start=1)][::-1]


def num_nested(feature: Any) -> int:
    """Counts the objects that are nested in a feature, at any depth."""
    number, stack = 0, _nested(feature)
    while stack:
        number += 1
        stack += _nested(stack.pop())
    return number


def _is_holder(feature: Any) -> bool:
    properties = feature.get("properties") if isinstance(feature, dict) else None
    return isinstance(properties, dict) and kind_of_feature(feature) in _HOLDERS


def _nested(feature: Any) -> list[Any]:
    """Returns the nested objects of a feature; none where its ``childObjects`` are anything else."""
    places = [feature, feature.get("properties")] if isinstance(feature, dict) else []
    lists = [place[_CHILDREN] for place in places if isinstance(place, dict) and _are_objects(place.get(_CHILDREN))]
    return [child for children in lists for child in children]


def _are_objects(children: Any) -> bool:
    return isinstance(children, Sequence) and all(isinstance(one, dict) and "geometry" in one for one in children)


def _childless(feature: Mapping[str, Any]) -> dict[str, Any]:
    def cut(place: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in place.items() if name != _CHILDREN or not _are_objects(value)}

    return {**cut(feature), "properties": cut(feature["properties"])}
