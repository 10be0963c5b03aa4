"""Label Studio JSON: tasks with a choice for the whole image (https://labelstud.io/guide/task_format)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cytolora.core.files import write_json, write_text
from cytolora.core.named_files import is_file
from cytolora.data.exchange.labels import (
    LabelFile,
    Labelled,
    NoLabelsError,
    covers,
    folder_of_images,
    listed,
    only,
    read_json_file,
    scalars,
)
from cytolora.data.exchange.written import fields_of, names_below
from cytolora.data.formats import is_image_name
from cytolora.data.manifest import Manifest
from cytolora.data.readers.exports import holding
from cytolora.errors import ConfigError

_LOCAL = "/data/local-files/"
_UPLOADED = re.compile(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?(?P<name>[^/]+)")
"""Of an uploaded file: the number of its project, and eight digits before its name."""
_CHOICES = ("choice", "label", "labels", "class", "sentiment")
"""Keys of the label in the short form of an export, JSON-MIN; the first is that of Label Studio's own templates."""

_REGION = frozenset(("x", "y", "points", "rle", "vertices", "radiusX"))
"""Keys of a value that belongs to a part of an image."""


def read_label_studio(file: Path) -> Iterator[Labelled]:
    """Yields the labelled images of an export, in its full or its short form."""
    folder = folder_of_images(file)
    for number, task in enumerate(listed(read_json_file(file), "it"), start=1):
        data = task.get("data")
        if isinstance(data, dict):
            key = _key_of_image(data, number)
            label = _of_task(task, data[key])
        else:
            data, key = task, _key_of_image(task, number)
            label = _of_short_form(task, data[key])
        if label:
            without = (key, *(_CHOICES if data is task else ()), "id", "annotation_id", "annotator", "lead_time")
            fields = scalars(data, (*without, "created_at", "updated_at"))
            yield Labelled(number=number, path=_path(data[key], folder), label=label, fields=fields)


def _key_of_image(data: Mapping[str, Any], number: int) -> str:
    texts = [name for name, value in data.items() if isinstance(value, str)]
    images = [name for name in texts if is_image_name(PurePosixPath(unquote(data[name])).name)]
    if "image" in texts:
        return "image"
    if not images:
        raise NoLabelsError(f"task {number} names no image")
    return images[0]


def _of_short_form(task: Mapping[str, Any], image: str) -> str:
    """Returns the label of a task of JSON-MIN: a text. Several choices are an object there, and regions a list."""
    for name in _CHOICES:
        value = task.get(name)
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            return only(map(str, value["choices"]), image)
        if isinstance(value, list) and any(isinstance(one, dict) for one in value):
            raise NoLabelsError(f"image {image!r} has labels of regions, not a choice")
    return next((task[name] for name in _CHOICES if isinstance(task.get(name), str)), "")


def _of_task(task: Mapping[str, Any], image: str) -> str:
    """Returns the label of a task: of the annotation marked as ground truth, else the one that all annotators chose."""
    annotations = [one for one in listed(task.get("annotations") or [], "annotations") if not one.get("was_cancelled")]
    truth = [one for one in annotations if one.get("ground_truth")]
    labels = [label for one in truth or annotations for label in _labels(one, image)]
    try:
        return only(labels, image)
    except NoLabelsError as error:
        raise NoLabelsError(f"{error}; where annotators differ, mark one annotation as ground truth") from error


def _labels(annotation: Mapping[str, Any], image: str) -> list[str]:
    labels: list[str] = []
    for result in listed(annotation.get("result") or [], "result"):
        value = result.get("value")
        if not isinstance(value, dict):
            continue
        kind = result.get("type")
        if kind in ("rectanglelabels", "choices") and _REGION & value.keys():  # a choice may be one for each region
            box = [value.get(name) for name in ("x", "y", "width", "height")]
            if not covers(box, 100, 100):
                raise NoLabelsError(f"image {image!r} has labels of boxes or regions, not a choice")
        elif kind == "rectanglelabels":
            raise NoLabelsError(f"image {image!r} has a box without edges, not a choice")
        elif kind != "choices":
            if str(kind).endswith("labels"):
                raise NoLabelsError(f"image {image!r} has {kind}, not a choice")
            continue
        chosen = value.get(str(kind)) or []
        if not isinstance(chosen, list) or not all(isinstance(one, str | int) for one in chosen):
            raise ValueError(f"image {image!r} has the {kind} {chosen!r}, expected a list of texts")
        labels += map(str, chosen)
    return labels


def _path(written: Any, folder: Path) -> str:
    """Returns the path of an image from the address that Label Studio gives it."""
    text = str(written)
    if text.startswith(_LOCAL):
        return parse_qs(urlsplit(text).query).get("d", [text])[0]
    if text.startswith("/data/upload/"):
        kept = PurePosixPath(unquote(text)).name  # exported with its images, it keeps the digits
        match = _UPLOADED.fullmatch(unquote(text))
        is_kept = any(is_file(folder / base / kept) for base in ("", "images"))
        return kept if is_kept or match is None else match["name"]
    return text


def write_label_studio(manifest: Manifest, out: Path) -> list[Path]:
    """Writes tasks with an annotation each, and beside them the labelling interface that they belong to.

    Raises:
        ConfigError: If there is such a file beside them.
    """
    interface = out.with_name(f"{out.stem}.interface.xml")
    if interface.exists():
        raise ConfigError(f"{interface} exists, and is written beside {out.name}. Choose another --out.")
    tasks = []
    for number, (name, sample) in enumerate(names_below(manifest, out), start=1):
        result = {
            "id": f"label{number}",
            "from_name": "label",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [sample.label]},
        }
        address = f"{_LOCAL}?d={quote(name)}"
        tasks.append({"data": {"image": address, **fields_of(sample)}, "annotations": [{"result": [result]}]})
    choices = "".join(f'    <Choice value="{escape(label)}"/>\n' for label in manifest.classes)
    write_json(out, tasks)
    write_text(
        interface,
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <Choices name="label" toName="image" choice="single">\n{choices}  </Choices>\n</View>\n',
    )
    return [out, interface]


_IN_FULL = holding(".json", r'"(annotations|completions)"\s*:\s*\[', r'"result"\s*:\s*\[', r'"data"\s*:\s*\{')
_IN_SHORT = holding(".json", r'"annotation_id"\s*:', r'"annotator"\s*:', r'"lead_time"\s*:')


def _find(files: Sequence[Path]) -> Path | None:
    return _IN_FULL(files) or _IN_SHORT(files)


LABEL_STUDIO = LabelFile(
    name="label-studio",
    title="an export of Label Studio",
    description="Label Studio JSON with one choice for each image, beside the images or above them.",
    find=_find,
    read=read_label_studio,
    companions=("*.json", "*.interface.xml"),
)
