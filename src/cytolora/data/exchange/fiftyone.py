"""FiftyOne's image classification layout: ``labels.json`` beside ``data/`` (FiftyOneImageClassificationDataset)."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from cytolora.core.files import write_json
from cytolora.data.exchange.labels import LabelFile, Labelled, NoLabelsError, read_json_file
from cytolora.data.exchange.written import names_below
from cytolora.data.formats import is_image_name, is_passed_over
from cytolora.data.manifest import Manifest
from cytolora.data.readers.exports import holding
from cytolora.errors import ConfigError

_PARTS = ("bounding_box", "points", "mask", "mask_path", "map_path")
"""What FiftyOne's labels of a part of an image have beside ``label``."""


def read_fiftyone(file: Path) -> Iterator[Labelled]:
    """Yields the labelled images; a target is an index into ``classes``, or a name where there are none."""
    whole = read_json_file(file)
    labels = whole.get("labels") if isinstance(whole, dict) else None
    if not isinstance(labels, dict):
        raise ValueError("it has no object `labels`")
    classes = whole.get("classes") or []
    if not isinstance(classes, list):
        raise ValueError("`classes` is no list")
    data = file.parent / "data" if (file.parent / "data").is_dir() else file.parent
    images = _by_stem(data, file.parent)
    for number, (stem, target) in enumerate(labels.items(), start=1):
        label = _label(target, classes, stem)
        if label:
            yield Labelled(number=number, path=_image(images, stem), label=label)


def _label(target: Any, classes: Sequence[Any], stem: str) -> str:
    if isinstance(target, list):
        raise NoLabelsError(f"image {stem!r} has a list of labels or boxes, not one label")
    if isinstance(target, dict) and any(target.get(part) for part in _PARTS):
        raise NoLabelsError(f"image {stem!r} has a box, a shape or points, not one label")
    value = target.get("label") if isinstance(target, dict) else target
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int) and classes:
        if not 0 <= value < len(classes):
            raise ValueError(f"image {stem!r} has the label {value}, and there are {len(classes)} classes")
        value = classes[value]
    if not isinstance(value, str | int):
        raise NoLabelsError(f"image {stem!r} has {value!r}, not one label")
    return str(value)


def _by_stem(folder: Path, root: Path) -> Mapping[str, list[str]]:
    """Lists the images below a folder by path without suffix, as FiftyOne does; paths are relative to ``root``."""
    by_stem: defaultdict[str, list[str]] = defaultdict(list)
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            inside = (Path(place) / name).relative_to(folder).as_posix()
            if is_image_name(name) and not is_passed_over(inside):
                by_stem[_stem(inside)].append((Path(place) / name).relative_to(root).as_posix())
    return by_stem


def _image(images: Mapping[str, list[str]], stem: str) -> str:
    found = images.get(stem, [])
    if len(found) > 1:
        raise ValueError(f"image {stem!r} may be {' or '.join(found)}")
    return found[0] if found else stem


def _stem(path: str) -> str:
    return PurePosixPath(path).with_suffix("").as_posix()


def write_fiftyone(manifest: Manifest, out: Path) -> list[Path]:
    """Writes one file, to be opened with the images' folder as ``data_path``.

    Raises:
        ConfigError: If two images differ in their suffix alone, which the layout cannot tell apart.
    """
    numbers = {label: number for number, label in enumerate(manifest.classes)}
    labels: dict[str, int] = {}
    for name, sample in names_below(manifest, out):
        if _stem(name) in labels:
            raise ConfigError(
                f"Two images are called {_stem(name)} but for their suffix, and FiftyOne's layout names images without "
                "it. Rename one, or write another format."
            )
        labels[_stem(name)] = numbers[sample.label]
    write_json(out, {"classes": list(manifest.classes), "labels": labels})
    return [out]


_KEYS = (r'"labels"\s*:\s*\{', r'^\s*\{\s*"(classes|labels)"\s*:')

FIFTYONE = LabelFile(
    name="fiftyone",
    title="labels of FiftyOne",
    description="FiftyOne's image classification layout: labels.json, and the images in data/ or beside it.",
    find=holding(".json", *_KEYS, r'"classes"\s*:'),  # without them it may be any list of names and numbers
    find_named=holding(".json", *_KEYS),
    read=read_fiftyone,
    companions=("*labels.json", "*metadata.json"),
)
