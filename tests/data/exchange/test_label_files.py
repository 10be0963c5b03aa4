"""Labels in files of other programs: there and back, and by the other side's own reader."""

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from folders import photographs, texts

import cytolora
from cytolora.cli.app import main
from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest
from cytolora.data.exchange.formats import FORMATS, convert
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError, DataError

NAMES = ["hsil/1.png", "hsil/2.png", "nilm/3.png", "nilm/é 4.png"]
TABLE = (
    "path,label,subset,group,site\nhsil/1.png,hsil,train,P1,A\nhsil/2.png,hsil,test,P2,B\n"
    'nilm/3.png,"nilm, typical",val,P3,A\nnilm/é 4.png,"nilm, typical",train,P1,\n'
)
FILES = {
    "coco": "coco.json",
    "cvat": "annotations.xml",
    "fiftyone": "labels.json",
    "imagefolder": "metadata.csv",
    "label-studio": "tasks.json",
}


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    folder = photographs(tmp_path / "cells", NAMES)
    (folder / "manifest.csv").write_text(TABLE, encoding="utf-8")
    return folder


def _written(cells: Path, to: str, name: str = "") -> Path:
    """The labels in another format, beside the images and without the table that they came from."""
    out = cells / (name or FILES[to])
    convert(load_manifest(cells), to, out)
    (cells / "manifest.csv").unlink()
    return out


def _rows(manifest: Manifest) -> list[tuple[Any, ...]]:
    return [(one.path, one.label, one.subset, one.group, one.metadata) for one in manifest.samples]


@pytest.mark.parametrize(("to", "name"), [*FILES.items(), ("imagefolder", "metadata.jsonl")])
def test_labels_come_back_with_groups_and_subsets_where_there_is_a_place(to: str, name: str, cells: Path):
    before = load_manifest(cells)
    out = _written(cells, to, name)
    for place in (cells, out) if name != "metadata.csv" else (cells,):
        after = load_manifest(place, None if place == cells else to)
        expected = [(*row[:2], None, None, ()) for row in _rows(before)] if to == "fiftyone" else _rows(before)
        assert _rows(after) == expected
        assert {one.code for one in problems(after.findings)} <= {"F209"}


def test_labels_in_a_folder_beside_the_images_are_found(cells: Path):
    rows = _rows(load_manifest(cells))
    out = _written(cells, "coco")
    (cells / "annotations").mkdir()
    out.rename(cells / "annotations" / "instances.json")
    assert _rows(load_manifest(cells)) == rows


def test_objects_of_qupath_come_back(cells: Path, tmp_path: Path):
    before = load_manifest(cells)
    convert(before, "qupath", tmp_path / "qupath")
    (cells / "manifest.csv").unlink()
    shutil.copytree(tmp_path / "qupath", cells, dirs_exist_ok=True)
    assert _rows(load_manifest(cells, "qupath")) == _rows(before)
    feature = json.loads((cells / "hsil" / "1.png.geojson").read_text())["features"][0]
    assert feature["properties"]["classification"] == {"name": "hsil", "color": [0, 114, 178]}
    assert feature["geometry"]["coordinates"] == [[[0, 0], [24, 0], [24, 20], [0, 20], [0, 0]]]


# The other side's own reader


def test_pycocotools_reads_the_labels(cells: Path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    opened = coco.COCO(str(_written(cells, "coco")))
    of = {one["id"]: one["name"] for one in opened.loadCats(opened.getCatIds())}
    found = {
        image["file_name"]: (of[label["category_id"]], image["group"], label["bbox"])
        for image in opened.loadImgs(opened.getImgIds())
        for label in opened.loadAnns(opened.getAnnIds(imgIds=image["id"]))
    }
    assert found["hsil/2.png"] == ("hsil", "P2", [0, 0, 24, 20])
    assert {name: label for name, (label, _, _) in found.items()} == dict(
        zip(NAMES, ["hsil", "hsil", "nilm, typical", "nilm, typical"], strict=True)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_datasets_reads_the_image_folder(name: str, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    _written(cells, "imagefolder", name)
    opened = datasets.load_dataset("imagefolder", data_dir=str(cells), cache_dir=str(tmp_path / "cache"))["train"]
    found = {(row["label"], row["group"], row["image"].size) for row in opened}
    assert found == {("hsil", "P1", (24, 20)), ("hsil", "P2", (24, 20)), ("nilm, typical", "P3", (24, 20)),
                     ("nilm, typical", "P1", (24, 20))}  # fmt: skip


def test_the_xml_of_cvat_has_the_documented_layout(cells: Path):
    top = ElementTree.parse(_written(cells, "cvat")).getroot()
    assert (top.tag, top.findtext("version")) == ("annotations", "1.1")
    assert [one.findtext("name") for one in top.iterfind("meta/task/labels/label")] == ["hsil", "nilm, typical"]
    declared = {one.findtext("name") for one in top.iterfind("meta/task/labels/label/attributes/attribute")}
    image = top.findall("image")[0]
    assert {one.get("name") for one in image.iter("attribute")} <= declared == {"group", "site"}
    assert {name: image.get(name) for name in ("id", "name", "width", "height", "subset")} == {
        "id": "0", "name": "hsil/1.png", "width": "24", "height": "20", "subset": "train"
    }  # fmt: skip


def test_tasks_of_label_studio_belong_to_the_interface_beside_them(cells: Path):
    tasks = json.loads(_written(cells, "label-studio").read_text())
    view = ElementTree.parse(cells / "tasks.interface.xml").getroot()
    control, image = view.find("Choices"), view.find("Image")
    assert control is not None
    assert image is not None
    choices = {one.get("value") for one in control}
    for task in tasks:
        (result,) = task["annotations"][0]["result"]
        assert (result["from_name"], result["to_name"]) == (control.get("name"), control.get("toName"))
        assert set(result["value"]["choices"]) <= choices
        assert result["type"] == "choices"
        assert f"${'image'}" == image.get("value")
    assert tasks[3]["data"]["image"] == "/data/local-files/?d=nilm/%C3%A9%204.png"


# What others write


def _coco(image: dict[str, Any], **annotation: Any) -> str:
    one = {"id": 1, "file_name": "1.png", "width": 24, "height": 20, **image}
    label = {"id": 1, "image_id": 1, "category_id": 3, **annotation}
    return json.dumps({"images": [one], "annotations": [label], "categories": [{"id": 3, "name": "hsil"}]})


def _task(*labels: str, **more: Any) -> dict[str, Any]:
    result = [{"type": "choices", "value": {"choices": [label]}} for label in labels]
    return {"annotations": [{"result": [one], **more} for one in result], "data": {"image": "1.png"}}


def _region(**at: float) -> dict[str, Any]:
    result = {"type": "choices", "value": {"choices": ["hsil"], **at}}
    return {"annotations": [{"result": [result]}], "data": {"image": "1.png"}}


CVAT = '<annotations><version>1.1</version><meta/><image id="0" name="1.png" '
CVAT += 'width="24" height="20">{}</image></annotations>'
SHORT = json.dumps(
    [{"image": "/data/upload/4/0a1b2c3d-1.png", "choice": "hsil", "annotation_id": 7, "annotator": 1, "lead_time": 2.5}]
)
SHORT_ID = {"annotation_id": 7, "annotator": 1, "lead_time": 2.5}
CANCELLED = _task("hsil")
CANCELLED["annotations"] += _task("nilm", was_cancelled=True)["annotations"]
LABELLED = {
    "a coco file without a box": {"labels_json": _coco({})},
    "a coco file of one image with a box": {"labels_json": _coco({}, bbox=[0.4, 0, 23.6, 20])},
    "cvat with a box": {"a_xml": CVAT.format('<box label="hsil" xtl="0" ytl="0" xbr="24" ybr="20"/>')},
    "a choice for a region that is the image": {"tasks_json": json.dumps([_region(x=0, y=0, width=100, height=100)])},
    "the short form": {"tasks_json": SHORT},
    "annotators who agree": {"tasks_json": json.dumps([_task("hsil", "hsil")])},
    "a cancelled annotation": {"tasks_json": json.dumps([CANCELLED])},
    "names of classes": {"labels_json": json.dumps({"labels": {"1": {"label": "hsil", "confidence": 0.5}, "2": None}})},
    "indices of classes": {"labels_json": json.dumps({"classes": ["nilm", "hsil"], "labels": {"1": 1}})},
}  # fmt: skip
READERS = [
    "coco",
    "coco",
    "cvat",
    "label-studio",
    "label-studio",
    "label-studio",
    "label-studio",
    "fiftyone",
    "fiftyone",
]


@pytest.mark.parametrize(("kind", "reader"), [*zip(LABELLED, READERS, strict=True)])
def test_what_the_programs_write_themselves_is_read(kind: str, reader: str, tmp_path: Path):
    photographs(tmp_path, ["1.png", "2.png"])
    texts(tmp_path, **LABELLED[kind])
    file = next(one for one in tmp_path.iterdir() if one.suffix in (".json", ".xml"))
    manifest = load_manifest(file, reader)
    assert [(one.path, one.label) for one in manifest.samples] == [("1.png", "hsil")]
    manifest = load_manifest(tmp_path, reader)
    assert "F204" in [one.code for one in manifest.findings]  # the image without a label


REFUSED: dict[str, tuple[str, dict[str, str], str]] = {
    "boxes around cells": ("coco", {"a_json": _coco({}, bbox=[4, 4, 8, 8])}, "boxes around cells"),
    "a polygon without a box": (
        "coco",
        {"a_json": _coco({}, segmentation=[[4, 4, 8, 4, 8, 8]], area=16)},
        "outlines or points in cells",
    ),
    "points without a box": ("coco", {"a_json": _coco({}, keypoints=[4, 4, 2])}, "outlines or points in cells"),
    "a choice for each region": (
        "label-studio",
        {"a_json": json.dumps([_region(x=10, y=10, width=5, height=5)])},
        "labels of boxes or regions, not a choice",
    ),
    "regions in the short form": (
        "label-studio",
        {"a_json": json.dumps([{"image": "1.png", **SHORT_ID, "label": [{"x": 1, "rectanglelabels": ["hsil"]}]}])},
        "labels of regions, not a choice",
    ),
    "several choices in the short form": (
        "label-studio",
        {"a_json": json.dumps([{"image": "1.png", **SHORT_ID, "choice": {"choices": ["hsil", "nilm"]}}])},
        "several labels, hsil, nilm",
    ),
    "a box of FiftyOne": (
        "fiftyone",
        {"labels_json": json.dumps({"labels": {"1": {"label": "hsil", "bounding_box": [0.1, 0.1, 0.2, 0.2]}}})},
        "a box, a shape or points",
    ),
    "an unknown category": ("coco", {"a_json": _coco({}, category_id=9)}, "category 9"),
    "an unknown image": ("coco", {"a_json": _coco({}, image_id=9)}, "image 9, which it does not list"),
    "no JSON": ("coco", {"a_json": _coco({})[:-9]}, "Export it again"),
    "missing images": ("coco", {"a_json": _coco({"file_name": "9.png"})}, "lists 1 image that is not there.*9.png"),
    "a path that leaves": ("coco", {"a_json": _coco({"file_name": "../1.png"})}, "entry 1: ../1.png leaves the folder"),
    "an address": ("coco", {"a_json": _coco({"file_name": "s3://x/1.png"})}, "is an address"),
    "another shape": ("cvat", {"a_xml": CVAT.format('<points label="hsil" points="1,1"/>')}, "has a points, not a tag"),
    "two tags": ("cvat", {"a_xml": CVAT.format('<tag label="a"/><tag label="b"/>')}, "several labels, a, b"),
    "entities": (
        "cvat",
        {"a_xml": '<!DOCTYPE x [<!ENTITY a "b">]>' + CVAT.format('<tag label="&a;"/>')},
        "document type",
    ),
    "raters who differ": ("label-studio", {"a_json": json.dumps([_task("hsil", "nilm")])}, "mark one annotation"),
    "an index beyond": ("fiftyone", {"labels_json": json.dumps({"classes": ["a"], "labels": {"1": 4}})}, "the label 4"),
    "boxes of FiftyOne": ("fiftyone", {"labels_json": json.dumps({"labels": {"1": [{}]}})}, "not one label"),
    "several objects": (
        "qupath",
        {"1_geojson": json.dumps({"features": 2 * [{"properties": {"classification": {"name": "a"}}}]})},
        "2 classified objects",
    ),
    "a group by another name": (
        "imagefolder",
        {"metadata_csv": "file_name,label,patient_id\n1.png,hsil,P1\n"},
        "expected 'group'.*--group-column patient_id",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_labels_no_whole_image_is_one_line_and_exit_code_2(kind: str, tmp_path: Path, capsys):
    reader, files, why = REFUSED[kind]
    texts(photographs(tmp_path, ["1.png", "2.png"]), **files)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=why) as caught:
        load_manifest(tmp_path, reader)
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("to", "name"), [("fiftyone", "mine.json"), ("cvat", "other.xml")])
def test_the_file_that_was_read_is_not_called_unread_whatever_its_name(to: str, name: str, cells: Path):
    _written(cells, to, name)
    assert not [one.text for one in load_manifest(cells, to).findings if one.code == "F211"]


# The command


def _convert(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["convert", *map(str, arguments), "--quiet"])
    return int(stop.value.code or 0)


def test_the_command_says_what_is_lost_and_keeps_what_is_there(cells: Path, capsys):
    out = cells / "labels.json"
    assert _convert(cells, "--to", "fiftyone", "--out", out) == 0
    assert "Not carried over: subset, group and metadata" in " ".join(capsys.readouterr().out.split())
    before = out.read_bytes()
    assert _convert(cells, "--to", "fiftyone", "--out", out) == 2
    assert "is not replaced" in capsys.readouterr().err.replace("\n", " ") or out.read_bytes() == before
    assert _convert(cells, "--to", "webdataset", "--out", cells / "x.tar") == 2
    capsys.readouterr()
    assert _convert(cells, "--to", "coc", "--out", cells / "x.json") == 2
    named = "Did you mean 'coco'? Known: coco, cvat, fiftyone, imagefolder, label-studio, qupath."
    assert named in " ".join(capsys.readouterr().err.split())  # no format that is read alone
    assert _convert(cells, "--to", "coco", "--out", cells / "x.csv") == 2
    assert sorted(one.name for one in cells.iterdir()) == ["hsil", "labels.json", "manifest.csv", "nilm"]


def test_python_writes_what_the_command_writes(cells: Path, tmp_path: Path):
    renamed, first = tmp_path / "map.csv", tmp_path / "a.json"
    renamed.write_text('from,to\n"nilm, typical",nilm\nhsil,hsil\n')
    assert _convert(cells, "--map", renamed, "--to", "coco", "--out", first) == 0
    assert '"nilm"' in first.read_text(encoding="utf-8")
    for name, data in (("b.json", str(cells)), ("c.json", cytolora.load_dataset(cells))):
        assert cytolora.convert(data, "coco", tmp_path / name, label_map=renamed) == [tmp_path / name]
        assert (tmp_path / name).read_bytes() == first.read_bytes()
    with pytest.raises(cytolora.ConfigError, match="are not replaced"):
        cytolora.convert(cells, "coco", first)


@pytest.mark.parametrize(
    ("to", "out", "why"),
    [
        ("imagefolder", "labels.csv", "is called labels.csv"),
        ("imagefolder", "../elsewhere/metadata.csv", "lies neither in the folder of the images nor above it"),
    ],
)
def test_an_image_folder_is_written_where_its_library_looks(to: str, out: str, why: str, cells: Path):
    with pytest.raises(ConfigError, match=why):
        convert(load_manifest(cells), to, cells / out)


def test_two_images_that_differ_in_their_suffix_are_refused_for_fiftyone(tmp_path: Path):
    photographs(tmp_path, ["a/1.png", "a/1.jpg"])
    with pytest.raises(ConfigError, match="called a/1 but for their suffix"):
        convert(load_manifest(tmp_path), "fiftyone", tmp_path / "labels.json")
    assert not (tmp_path / "labels.json").exists()


def test_the_page_says_of_every_format_what_the_registry_says():
    page = (Path(__file__).resolve().parents[3] / "docs" / "interchange.md").read_text(encoding="utf-8")
    for entry in FORMATS:
        cells = (f"`{entry.name}`", entry.reads or "no", entry.writes or "no", entry.lost, entry.checked_with)
        assert f"| {' | '.join(cells)} |" in page
