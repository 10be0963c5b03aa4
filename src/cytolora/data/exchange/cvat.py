"""CVAT for images 1.1: XML with a tag for each image (https://docs.cvat.ai, XML annotation format)."""

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

from cytolora.core.files import write_bytes
from cytolora.data.exchange.labels import MAX_BYTES, LabelFile, Labelled, NoLabelsError, covers, only
from cytolora.data.exchange.written import fields_of, names_below, size_of
from cytolora.data.manifest import Manifest
from cytolora.data.readers.exports import holding
from cytolora.errors import ConfigError

_SHAPES = ("polygon", "polyline", "points", "mask", "cuboid", "skeleton", "ellipse")
_MAX_DEPTH = 32


def read_cvat(file: Path) -> Iterator[Labelled]:
    """Yields the labelled images of a file."""
    for number, image in enumerate(_parsed(file).iter("image"), start=1):
        name = image.get("name") or ""
        if not name:
            raise NoLabelsError(f"image {number} has no name")
        shape = next((kind for kind in _SHAPES if image.find(kind) is not None), None)
        if shape is not None:
            raise NoLabelsError(f"image {name!r} has a {shape}, not a tag")
        marks = [*image.iter("tag"), *(_whole(box, image, name) for box in image.iter("box"))]
        label = only([mark.get("label") or "" for mark in marks], name)
        if label:
            attributes = {one.get("name") or "": (one.text or "").strip() for one in marks[0].iter("attribute")}
            subset = {"subset": image.get("subset") or ""} if _is_subset(image.get("subset")) else {}
            yield Labelled(number=number, path=name, label=label, fields={**attributes, **subset})


def _is_subset(text: str | None) -> bool:
    """Whether the subset of a project's export is one: a task without any is in ``default``."""
    return bool(text) and str(text).casefold() != "default"


def _whole(box: Any, image: Any, name: str) -> Any:
    try:
        left, top, right, bottom = (float(box.get(edge, "")) for edge in ("xtl", "ytl", "xbr", "ybr"))
        size = float(image.get("width", "")), float(image.get("height", ""))
    except ValueError:
        raise NoLabelsError(f"image {name!r} has a box without edges") from None
    if not covers((left, top, right - left, bottom - top), *size):
        raise NoLabelsError(f"image {name!r} has boxes around cells, not a tag")
    return box


def _parsed(file: Path) -> ElementTree.Element:
    """Parses a file without a document type: entities, which can grow without bound or name other files, need one.

    Raises:
        ValueError: If it is no XML, has a document type, or is nested deeply.
    """
    if file.stat().st_size > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
    content, depth = file.read_bytes(), 0

    def refuse(*_: Any) -> None:
        raise ValueError("it has a document type (DOCTYPE), which no export has")

    def start(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply")

    def end(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    try:
        parser.Parse(content, True)
        return ElementTree.fromstring(content)
    except (expat.ExpatError, ElementTree.ParseError, LookupError) as error:  # LookupError: of an unknown encoding
        raise ValueError(f"it is no XML ({error})") from error


def write_cvat(manifest: Manifest, out: Path) -> list[Path]:
    """Writes one file; groups and metadata are attributes of the tags, subsets those of the images.

    Raises:
        ConfigError: If a text holds what XML cannot.
    """
    top = ElementTree.Element("annotations")
    ElementTree.SubElement(top, "version").text = "1.1"
    task = ElementTree.SubElement(ElementTree.SubElement(top, "meta"), "task")
    ElementTree.SubElement(task, "name").text = manifest.name
    ElementTree.SubElement(task, "size").text = str(len(manifest.samples))
    labels = ElementTree.SubElement(task, "labels")
    names = sorted({name for sample in manifest.samples for name in fields_of(sample)} - {"subset"})
    for label in manifest.classes:
        _declare(ElementTree.SubElement(labels, "label"), label, names)
    for number, (name, sample) in enumerate(names_below(manifest, out)):
        width, height = size_of(sample.file_in(manifest.root))
        about = {"id": str(number), "name": name, "width": str(width), "height": str(height)}
        if sample.subset:
            about["subset"] = sample.subset
        tag = ElementTree.SubElement(
            ElementTree.SubElement(top, "image", about), "tag", {"label": sample.label, "source": "manual"}
        )
        for field, value in fields_of(sample).items():
            if field != "subset":
                ElementTree.SubElement(tag, "attribute", {"name": field}).text = value
    ElementTree.indent(top)
    content = BytesIO()
    ElementTree.ElementTree(top).write(content, encoding="utf-8", xml_declaration=True)
    try:
        ElementTree.fromstring(content.getvalue())
    except ElementTree.ParseError as error:
        raise ConfigError(
            f"A name or a field of these images holds a control character, which XML cannot ({error}). Rename it, or "
            "write another format."
        ) from error
    write_bytes(out, content.getvalue() + b"\n")
    return [out]


def _declare(label: ElementTree.Element, name: str, attributes: list[str]) -> None:
    ElementTree.SubElement(label, "name").text = name
    ElementTree.SubElement(label, "type").text = "tag"
    declared = ElementTree.SubElement(label, "attributes")
    for attribute in attributes:
        one = ElementTree.SubElement(declared, "attribute")
        for key, value in (("name", attribute), ("mutable", "False"), ("input_type", "text"), ("values", "")):
            ElementTree.SubElement(one, key).text = value


CVAT = LabelFile(
    name="cvat",
    title="an export of CVAT",
    description="CVAT for images 1.1 (XML) with one tag for each image, and its images beside it or in images/.",
    find=holding(".xml", r"<annotations>", r"<(image|track|meta)\b"),
    read=read_cvat,
    companions=("*.xml",),
)
