"""GeoJSON of QuPath 0.4 and later: one file for each image, with one annotation around all of it."""

import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cytolora.core.files import json_bytes
from cytolora.core.folders import staged_folder
from cytolora.data.exchange.labels import LabelFile, Labelled, NoLabelsError, read_json_file, scalars
from cytolora.data.exchange.written import fields_of, names_below, size_of
from cytolora.data.formats import is_image_name, is_passed_over
from cytolora.data.manifest import Manifest
from cytolora.data.readers.layout import images_in

_SUFFIX = ".geojson"
_NAMESPACE = uuid.UUID("5c4f9d1e-8d0b-4d0b-9a8e-0c7b3f2a6e11")
"""Of the identifiers of annotations: equal images give equal files."""
_COLOURS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233), (240, 228, 66))
"""One a class, repeated (Okabe and Ito 2008)."""


def _first(files: Sequence[Path]) -> Path | None:
    images = _Images()
    return next((file for file in files if file.suffix.lower() == _SUFFIX and images.of(file) is not None), None)


def _first_named(files: Sequence[Path]) -> Path | None:
    return next((file for file in files if file.suffix.lower() == _SUFFIX), None)


class _Images:
    """Images beside files that are called ``IMAGE.geojson``, with or without the suffix of the image."""

    def __init__(self) -> None:
        self._by_stem: dict[Path, dict[str, Path]] = {}

    def of(self, file: Path) -> Path | None:
        """Returns the image of a file; None where there is none."""
        named = file.with_suffix("")
        if is_image_name(named.name) and named.is_file():
            return named
        if file.parent not in self._by_stem:  # listed once: there may be as many files as images
            self._by_stem[file.parent] = {one.stem: one for one in reversed(images_in(file.parent))}
        return self._by_stem[file.parent].get(named.name)


def read_qupath(place: Path) -> Iterator[Labelled]:
    """Yields the images below a folder that have a file beside them with one classified object."""
    root = place if place.is_dir() else place.parent
    files = sorted(root.rglob(f"*{_SUFFIX}")) if place.is_dir() else [place]
    images = _Images()
    for number, file in enumerate(files, start=1):
        name = file.relative_to(root).as_posix()
        if is_passed_over(name):
            continue
        objects = [one for one in _features(file) if _class_of(one)]
        if len(objects) > 1:
            raise NoLabelsError(f"{name} has {len(objects)} classified objects, cells of a field or slide")
        image = images.of(file)
        if objects:
            path = name.removesuffix(_SUFFIX) if image is None else image.relative_to(root).as_posix()
            about = _properties(objects[0]).get("metadata")
            fields = scalars(about, ()) if isinstance(about, dict) else {}
            yield Labelled(number=number, path=path, label=_class_of(objects[0]), fields=fields)


def _features(file: Path) -> list[dict[str, Any]]:
    whole = read_json_file(file)
    features = whole.get("features", [whole]) if isinstance(whole, dict) else whole
    if not isinstance(features, list) or not all(isinstance(one, dict) for one in features):
        raise ValueError(f"{file.name} is no list of features")
    return features


def _class_of(feature: dict[str, Any]) -> str:
    """Returns the class of an object, as any version of QuPath writes it; empty where it has none."""
    given = _properties(feature).get("classification")
    if isinstance(given, dict):
        names = given.get("names")
        given = given.get("name") or ": ".join(map(str, names if isinstance(names, list) else []))
    return given if isinstance(given, str) else ""


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def write_qupath(manifest: Manifest, out: Path) -> list[Path]:
    """Writes a folder with ``IMAGE.geojson`` for each image, in sub-folders as those of the images."""
    colours = {label: list(_COLOURS[at % len(_COLOURS)]) for at, label in enumerate(manifest.classes)}
    with staged_folder(out) as staging:
        for name, sample in names_below(manifest, out / "any"):
            file = staging / f"{name}{_SUFFIX}"
            file.parent.mkdir(parents=True, exist_ok=True)
            width, height = size_of(sample.file_in(manifest.root))
            ring = [[0, 0], [width, 0], [width, height], [0, height], [0, 0]]
            properties = {
                "objectType": "annotation",
                "classification": {"name": sample.label, "color": colours[sample.label]},
                "metadata": fields_of(sample),
            }
            feature = {
                "type": "Feature",
                "id": str(uuid.uuid5(_NAMESPACE, name)),
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": properties,
            }
            file.write_bytes(json_bytes({"type": "FeatureCollection", "features": [feature]}))
    return [out]


QUPATH = LabelFile(
    name="qupath",
    title="GeoJSON of QuPath",
    description="GeoJSON with one classified object, IMAGE.geojson beside each image.",
    find=_first,
    find_named=_first_named,
    read=read_qupath,
    companions=("*.geojson",),
    is_spread=True,
)
