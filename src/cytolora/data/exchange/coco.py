"""COCO JSON: images, categories, and annotations of whole images.

The format has no label of a whole image (https://cocodataset.org/#format-data): written is a box around the image, and
such boxes, or annotations without a box, are read.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cytolora.core.files import write_json
from cytolora.data.exchange.labels import (
    LabelFile,
    Labelled,
    NoLabelsError,
    covers,
    listed,
    only,
    read_json_file,
    scalars,
)
from cytolora.data.exchange.written import fields_of, names_below, size_of
from cytolora.data.manifest import Manifest
from cytolora.data.readers.exports import holding

_OF_IMAGES = ("id", "file_name", "width", "height", "license", "flickr_url", "coco_url", "date_captured")
_PARTS = ("segmentation", "keypoints", "counts", "segments_info")
"""What an annotation of a part of an image has, also where it has no box."""


def read_coco(file: Path) -> Iterator[Labelled]:
    """Yields the labelled images of a file."""
    whole = read_json_file(file)
    if not isinstance(whole, dict):
        raise ValueError("it is no object")
    images, annotations = listed(whole.get("images"), "images"), listed(whole.get("annotations"), "annotations")
    categories = _by_id(listed(whole.get("categories"), "categories"), "categories")
    names = {number: one.get("name") for number, one in categories.items()}
    by_id = _by_id(images, "images")
    of_image: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for one in annotations:
        number = one.get("image_id")
        if not _is_id(number) or number not in by_id:
            raise NoLabelsError(f"an annotation belongs to image {number!r}, which it does not list")
        of_image[number].append(one)
    for number, image in enumerate(images, start=1):
        name = image.get("file_name")
        if not isinstance(name, str):
            raise NoLabelsError(f"image {number} has no file_name")
        label = only([_label(one, image, names, name) for one in of_image[image["id"]]], name)
        if label:
            yield Labelled(number=number, path=name, label=label, fields=scalars(image, _OF_IMAGES))


def _label(annotation: dict[str, Any], image: dict[str, Any], names: dict[Any, Any], name: str) -> str:
    box = annotation.get("bbox")
    if not box and any(annotation.get(part) for part in _PARTS):
        raise NoLabelsError(f"image {name!r} has outlines or points in cells, not a label")
    if box and not (isinstance(box, list) and covers(box, image.get("width"), image.get("height"))):
        raise NoLabelsError(f"image {name!r} has boxes around cells, not a label")
    number = annotation.get("category_id")
    label = names.get(number) if _is_id(number) else None
    if not isinstance(label, str):
        raise NoLabelsError(f"image {name!r} has category {number!r}, which it does not list")
    return label


def _by_id(entries: list[dict[str, Any]], what: str) -> dict[Any, dict[str, Any]]:
    """Returns entries by their id; raises ValueError where one has none, or that of another: labels would be mixed."""
    by_id: dict[Any, dict[str, Any]] = {}
    for one in entries:
        number = one.get("id")
        if not _is_id(number):
            raise ValueError(f"one of {what} has the id {number!r}, expected a number")
        if number in by_id:
            raise ValueError(f"two of {what} have the id {number!r}")
        by_id[number] = one
    return by_id


def _is_id(value: Any) -> bool:
    return isinstance(value, int | float | str) and not isinstance(value, bool)


def write_coco(manifest: Manifest, out: Path) -> list[Path]:
    """Writes one file; groups, subsets and metadata are keys of the images, which COCO's readers keep."""
    numbers = {label: number for number, label in enumerate(manifest.classes, start=1)}
    images, annotations = [], []
    for number, (name, sample) in enumerate(names_below(manifest, out), start=1):
        width, height = size_of(sample.file_in(manifest.root))
        images.append({"id": number, "file_name": name, "width": width, "height": height, **fields_of(sample)})
        annotations.append(
            {
                "id": number,
                "image_id": number,
                "category_id": numbers[sample.label],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [],
                "iscrowd": 0,
            }
        )
    categories = [{"id": number, "name": label, "supercategory": "cell"} for label, number in numbers.items()]
    info = {"description": f"Labels of whole images: {manifest.name}"}
    write_json(out, {"info": info, "images": images, "annotations": annotations, "categories": categories})
    return [out]


COCO = LabelFile(
    name="coco",
    title="a COCO file",
    description="COCO JSON whose annotations cover whole images; beside the images, or in annotations/.",
    find=holding(".json", r'"images"\s*:\s*\[', r'"annotations"\s*:\s*\[', r'"categories"\s*:\s*\[', least=2),
    read=read_coco,
    companions=("*.json",),
)
