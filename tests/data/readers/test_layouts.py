"""How a layout is recognised: by positive evidence that is said, or refused with the way out."""

import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from folders import mask, photograph, photographs, texts
from tiny_downloads import DOWNLOADS, make_herlev, make_mlcc, make_sipakmed

from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.readers.exports import why_refused
from cytolora.errors import DataError

OWN = ["hsil/1.png", "hsil/2.png", "normal/1.png", "normal/2.png"]


def _codes(manifest: Manifest) -> list[str]:
    return [one.code for one in manifest.findings]


def _text(manifest: Manifest, code: str) -> str:
    return next(str(one) for one in manifest.findings if one.code == code)


# Plain data: nothing new


def test_plain_class_folders_keep_their_fingerprint_and_have_no_problem(tmp_path: Path):
    manifest = load_manifest(photographs(tmp_path / "cells", OWN))
    samples = [Sample(path=name, label=name.partition("/")[0]) for name in OWN]
    listed = Manifest(name="any", root=tmp_path / "cells", classes=("hsil", "normal"), samples=tuple(samples))
    assert manifest.fingerprint == listed.fingerprint
    assert _codes(manifest) == ["F210"]
    assert _text(manifest, "F210").endswith("(--dataset folder): images in 2 folders, hsil, normal.")


@pytest.mark.parametrize("name", DOWNLOADS)
def test_no_official_layout_has_a_problem(name: str, tmp_path: Path):
    manifest = load_manifest(DOWNLOADS[name].make(tmp_path), name)
    assert not problems(manifest.findings)
    assert {one.code for one in manifest.findings} <= {"F210", "F215"}


@pytest.mark.slow
def test_herlev_unpacked_has_no_finding_but_its_layout(herlev_dir: Path):
    assert _codes(load_manifest(herlev_dir.parent)) == ["F210"]


def test_readme_and_licence_are_not_named(tmp_path: Path):
    photographs(tmp_path, OWN)
    for name in ("README.md", "LICENSE", "licence.txt", "CITATION.cff", "images.md5"):
        (tmp_path / name).write_text("words")
    assert _codes(load_manifest(tmp_path)) == ["F210"]


# Passed over


def test_images_of_other_formats_are_counted_by_suffix_and_jfif_is_read(tmp_path: Path):
    photographs(tmp_path, [*OWN, "hsil/3.jfif"])
    for name in ("hsil/a.jp2", "hsil/b.JP2", "normal/c.avif", "normal/d.gif", "normal/e.dcm"):
        (tmp_path / name).write_bytes(b"x")
    photograph(tmp_path / "x.png", 70).rename(tmp_path / "normal" / "IM1")
    manifest = load_manifest(tmp_path)
    assert [sample.path for sample in manifest.samples] == sorted([*OWN, "hsil/3.jfif"])
    found = next(one for one in manifest.findings if one.code == "F201")
    assert found.count == 6
    assert found.text.startswith("6 files are passed over: 2 .jp2, ")
    assert all(kind in found.text for kind in ("1 .avif", "1 .gif", "1 .dcm", "1 without a suffix (PNG)"))


@pytest.mark.parametrize(
    "extra",
    [
        ["hsil/p1/3.png", "hsil/p1/4.png"],
        ["hsil/p1/3.png", "normal/p2/4.png"],
        ["hsil/deep/er/3.png", "hsil/4/5/6/4.jpg"],
        ["hsil/CROPPED/3.bmp", "hsil/old/4.tif"],
        ["normal/1/3.png", "normal/2/3.png"],
        ["hsil/hsil/3.png", "hsil/normal/3.png"],
    ],
)
def test_images_below_a_class_folder_are_counted(extra: list[str], tmp_path: Path):
    manifest = load_manifest(photographs(tmp_path, [*OWN, *extra]))
    assert [sample.path for sample in manifest.samples] == OWN
    found = next(one for one in manifest.findings if one.code == "F203")
    assert (found.count, sorted(found.examples)) == (2, sorted(extra))


def test_masks_beside_cells_are_left_out_and_counted(tmp_path: Path):
    photographs(tmp_path, OWN)
    for name in OWN:
        mask(tmp_path / name.replace(".png", "_mask.png"))
        mask(tmp_path / "masks" / name)
    manifest = load_manifest(tmp_path)
    assert [sample.path for sample in manifest.samples] == OWN
    assert next(one for one in manifest.findings if one.code == "F202").count == 8


def test_masks_that_a_table_lists_are_read_and_named(tmp_path: Path):
    photographs(tmp_path, ["img/1.png"])
    mask(tmp_path / "img" / "1_mask.png")
    texts(tmp_path, manifest_csv="path,label\nimg/1.png,a\nimg/1_mask.png,b\n")
    for point_at in (tmp_path, tmp_path / "manifest.csv"):
        manifest = load_manifest(point_at)
        assert len(manifest.samples) == 2
        assert "1 image of the table is a mask" in _text(manifest, "F202")


def test_unlisted_images_and_other_files_are_counted(tmp_path: Path):
    photographs(tmp_path, ["img/1.png", "img/2.png", "img/3.png"])
    texts(tmp_path, manifest_csv="path,label\nimg/1.png,a\nimg/2.png,b\n", notes_txt="x", img__boxes_json="{}")
    manifest = load_manifest(tmp_path)
    assert "1 image that manifest.csv does not list is left out, namely img/3.png" in _text(manifest, "F204")
    assert "2 files that are no images are not read: 1 .json, 1 .txt" in _text(manifest, "F211")


def test_a_link_to_an_image_that_is_there_is_left_out_and_one_that_leads_nowhere_is_named(tmp_path: Path):
    photographs(tmp_path, OWN)
    (tmp_path / "hsil" / "9.png").symlink_to(tmp_path / "hsil" / "1.png")
    (tmp_path / "hsil" / "8.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "hsil" / "loop").symlink_to(tmp_path)
    manifest = load_manifest(tmp_path)
    assert [sample.path for sample in manifest.samples] == OWN
    named = {example for one in manifest.findings if one.code == "F206" for example in one.examples}
    assert named == {"hsil/9.png", "hsil/8.png", "hsil/loop"}


# Tables beside images


@pytest.mark.parametrize(
    "name", ["labels.csv", "manifest.tsv", "annotations.csv", "metadata.xlsx", "Labels.CSV", "x.ods"]
)
def test_a_table_beside_one_folder_of_images_is_an_error_and_beside_classes_a_warning(name: str, tmp_path: Path):
    photographs(tmp_path / "one", ["img/1.png", "img/2.png"])
    photographs(tmp_path / "class", ["hsil/1.png", "hsil/2.png"])
    photographs(tmp_path / "two", OWN)
    for folder in ("one", "class", "two"):
        (tmp_path / folder / name).write_text("path,label\nimg/1.png,hsil\n")
    for folder in ("one", "class"):
        with pytest.raises(DataError, match=rf"{name} is not read.*manifest.csv"):
            load_manifest(tmp_path / folder)
    assert f"{name} is not read" in _text(load_manifest(tmp_path / "two"), "F205")


@pytest.mark.parametrize("name", ["manifest.csv", "Manifest.csv", "MANIFEST.CSV", "manifest.CSV"])
def test_manifest_csv_is_read_in_any_case(name: str, tmp_path: Path):
    photographs(tmp_path / "cells", ["img/1.png", "img/2.png"])
    (tmp_path / "cells" / name).write_text("path,label,group\nimg/1.png,hsil,p1\nimg/2.png,normal,p2\n")
    manifest = load_manifest(tmp_path / "cells")
    assert (manifest.name, manifest.classes) == ("cells", ("hsil", "normal"))
    assert [sample.group for sample in manifest.samples] == ["p1", "p2"]
    assert _codes(manifest) == ["F210"]


def test_our_own_split_files_and_label_maps_are_no_tables_of_labels(tmp_path: Path):
    photographs(tmp_path, OWN)
    texts(tmp_path, split_csv="path,label,subset,group,fingerprint,split_rule\n", map_csv="from,to\na,b\n")
    assert problems(load_manifest(tmp_path).findings) == []


LEFTOVERS = [
    *("New folder", "New folder (2)", "untitled folder 3", "Neuer Ordner", "Nouveau dossier", "backup", "Backups"),
    *("hsil - Copy", "hsil - Copy (2)", "hsil - Kopie", "hsil copy", "hsil copy 2", "Copy of hsil", "Kopie von hsil"),
]


@pytest.mark.parametrize("name", LEFTOVERS)
def test_a_folder_that_a_file_manager_named_is_no_class(name: str, tmp_path: Path):
    with pytest.raises(DataError, match=rf"{re.escape(name)} is no class by its name; expected one sub-folder"):
        load_manifest(photographs(tmp_path, ["hsil/1.png", "normal/1.png", f"{name}/1.png"]))


@pytest.mark.parametrize("name", ["copy number", "new", "newly grown", "folder cells", "no copy number", "back up"])
def test_a_class_of_words_like_these_is_one(name: str, tmp_path: Path):
    assert name in load_manifest(photographs(tmp_path, ["hsil/1.png", f"{name}/1.png"])).classes


@pytest.mark.parametrize("name", ["images", "img", "Data", "pictures", "JPEGImages", "imgs"])
def test_a_folder_that_is_called_after_images_is_no_class(name: str, tmp_path: Path):
    with pytest.raises(DataError, match=r"is no class by its name; expected one sub-folder of images for each class"):
        load_manifest(photographs(tmp_path, [f"{name}/1.png", f"{name}/2.png"]))


# Exports

BOX = "0 0.5 0.5 0.1 0.1\n"
COCO = json.dumps(
    {
        "info": {},
        "images": [{"id": 1, "file_name": "1.jpg", "width": 90, "height": 90}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}],
        "categories": [{"id": 1, "name": "hsil"}],
    }
)
SLIDES = ["slide01/1.png", "slide02/2.png"]
IMAGES = ["images/train/a_1.jpg", "images/train/b_2.jpg", "images/val/a_3.jpg", "images/val/b_4.jpg"]
EXPORTS: dict[str, tuple[list[str], dict[str, str], str]] = {
    "yolo": (IMAGES, {"data_yaml": "train: x\nnames: [a]\n", "labels__train__a_1_txt": BOX}, "YOLO"),
    "yolo without yaml": (IMAGES, {"labels__train__a_1_txt": BOX}, "YOLO"),
    "yolo of no boxes": (IMAGES, {"data_yaml": "nc: 2\nnames: [a]\n", "labels__train__a_1_txt": ""}, "YOLO"),
    "yolo of Roboflow": (
        ["train/images/1.jpg"],
        {"data_yaml": "names: [a]\nnc: 1\n", "train__labels__1_txt": BOX},
        "YOLO",
    ),
    "yolo segments": (["images/1.jpg"], {"labels__1_txt": "3 0.1 0.1 0.2 0.2 0.3 0.1\n"}, "YOLO"),
    "darknet": (["obj_train_data/1.jpg"], {"obj_train_data__1_txt": BOX, "obj_data": "classes=1"}, "YOLO"),
    "coco": (["images/1.jpg"], {"annotations__instances_train_json": COCO}, "COCO"),
    "coco with slides": (SLIDES, {"annotations_json": COCO}, "COCO"),
    "coco of Roboflow": (["train/1.jpg"], {"train___annotations.coco_json": COCO}, "COCO"),
    "voc": (["JPEGImages/1.jpg"], {"Annotations__1_xml": "<annotation><filename>1.jpg</filename></annotation>"}, "VOC"),
    "cvat": (SLIDES, {"annotations_xml": "<annotations><meta/><image id='0'/></annotations>"}, "CVAT"),
    "label studio": (
        SLIDES,
        {"project_json": json.dumps([{"data": {"image": "1"}, "annotations": [{"result": []}]}])},
        "Label Studio",
    ),
    "labelme": (["train/1.jpg"], {"train__1_json": json.dumps({"shapes": [], "imagePath": "1.jpg"})}, "labelme"),
    "hf columns": (
        SLIDES,
        {"metadata_csv": "file_name,bbox,patient\nslide01/1.png,0,P1\n"},
        "HuggingFace",
    ),
    "hf datasets": ([], {"dataset_info_json": "{}", "data-00000-of-00001_arrow": "x"}, "HuggingFace"),
    "hf parquet": ([], {"data__train-00000_parquet": "PAR1"}, "HuggingFace"),
    "roboflow table": (["train/1.jpg"], {"train___annotations_csv": "filename,width,height,class\n"}, "Roboflow"),
    "roboflow labels": (["train/1.jpg"], {"train___classes_csv": "filename, hsil, normal\n"}, "Roboflow"),
    "qupath": (["data/1/thumbnail.jpg"], {"project_qpproj": "{}"}, "QuPath"),
    "tfrecord": ([], {"train_tfrecord": "x"}, "TFRecord"),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_a_known_export_is_refused_with_its_name_and_the_way_out(kind: str, tmp_path: Path):
    images, files, name = EXPORTS[kind]
    texts(photographs(tmp_path / "data", images), **files)
    with pytest.raises(DataError, match=rf"data holds .*{name}.*not read.*(manifest\.csv|class folders)") as caught:
        load_manifest(tmp_path / "data")
    assert "\n" not in str(caught.value)
    if kind.startswith("yolo"):
        with pytest.raises(DataError, match=r"YOLO|is not The flattened layout"):
            load_manifest(tmp_path / "data", "flat")


@pytest.mark.parametrize(
    "names",
    [
        OWN,
        ["train/hsil/1.png", "train/normal/1.png", "val/hsil/2.png", "val/normal/2.png"],
        ["train/n01440764/n01440764_1.JPEG", "train/n01443537/n01443537_2.JPEG", "val/n01440764/v_1.JPEG"],
    ],
)
def test_class_folders_of_yolo_fastai_imagenet_and_roboflow_are_read(names: list[str], tmp_path: Path):
    photographs(tmp_path, names)
    (tmp_path / "README.roboflow.txt").write_text("x")
    manifest = load_manifest(tmp_path)
    assert [sample.path for sample in manifest.samples] == sorted(names)
    assert problems(manifest.findings) == [one for one in manifest.findings if one.code == "F209"]


def test_annotations_beside_the_cells_of_class_folders_are_other_files(tmp_path: Path):
    texts(photographs(tmp_path, OWN), hsil__1_json=json.dumps({"shapes": [], "imagePath": "1.png"}))
    assert why_refused(tmp_path) == ""
    assert _codes(load_manifest(tmp_path)) == ["F211", "F210"]


# The flattened layout


def _flat(root: Path, *prefixes: str) -> Path:
    return photographs(root, [f"images/{s}/{p}_{n}.png" for s in ("train", "val") for p in prefixes for n in (1, 2, 3)])


@pytest.mark.parametrize(
    "prefixes", [("HSIL", "NILM"), ("CIN1", "CIN2", "CIN3"), ("M0", "M7"), ("grade1", "grade2"), ("a", "b c")]
)
def test_files_named_after_classes_are_read(prefixes: tuple[str, ...], tmp_path: Path):
    manifest = load_manifest(_flat(tmp_path / "cells", *prefixes))
    assert manifest.classes == tuple(sorted(prefixes))
    assert len(manifest.samples) == 6 * len(prefixes)


@pytest.mark.parametrize(
    "prefixes",
    [
        ("slide01", "slide02"),
        ("patient3", "patient12"),
        ("P1", "P2", "P3"),
        ("1001", "1002"),
        ("wsi-7", "wsi-8"),
        ("S7", "S9"),
    ],
)
def test_files_named_after_slides_or_patients_are_refused(prefixes: tuple[str, ...], tmp_path: Path):
    with pytest.raises(DataError, match=r"slides or patients, it seems, not classes .*manifest.csv with columns path"):
        load_manifest(_flat(tmp_path / "cells", *prefixes))


@pytest.mark.parametrize(
    "names", [("slide01", "slide02"), ("patient_1", "patient_2"), ("Case 3", "Case 4a"), ("field7", "FOV 8")]
)
def test_folders_of_slides_or_patients_are_no_classes_unless_somebody_says_so(names: tuple[str, ...], tmp_path: Path):
    photographs(tmp_path, [f"{name}/{n}.png" for name in names for n in (1, 2)])
    with pytest.raises(DataError, match=r"patients, slides or fields, it seems, not classes"):
        load_manifest(tmp_path)
    assert load_manifest(tmp_path, "folder").classes == tuple(sorted(names))


# Wrapped and converted downloads


def _wrapped_once(root: Path) -> Path:
    shutil.move(root, root.parent / "inner")
    root.mkdir()
    shutil.move(root.parent / "inner", root / "Download (1)")
    texts(root, README_md="x", licence_txt="x", notes_pdf="x")
    return root


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", [one for one, made in DOWNLOADS.items() if made.is_recognised])
def test_a_download_in_further_folders_is_read_like_the_download(name: str, times: int, tmp_path: Path):
    (tmp_path / "data").mkdir()
    root = DOWNLOADS[name].make(tmp_path / "data")
    expected = load_manifest(root).fingerprint
    for _ in range(times):
        _wrapped_once(root)
    for dataset in (None, name):
        manifest = load_manifest(root, dataset)
        assert (manifest.name.partition(":")[0], manifest.fingerprint) == (name, expected)


@pytest.mark.parametrize("wrapper", ["data", "my_cells", "data/data", "export (2)", "Zellen", "cells/v1/final"])
def test_own_class_folders_in_further_folders_are_read_as_a_folder_and_as_a_zip_file(wrapper: str, tmp_path: Path):
    photographs(tmp_path / "data" / wrapper, OWN)
    texts(tmp_path / "data", README_md="x")
    manifest = load_manifest(tmp_path / "data")
    assert manifest.classes == ("hsil", "normal")
    assert [sample.path for sample in manifest.samples] == OWN
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as packed:
        for path in (tmp_path / "data").rglob("*.*"):
            packed.write(path, path.relative_to(tmp_path / "data").as_posix())
    assert load_manifest(tmp_path / "data.zip", cache=tmp_path / "cache").fingerprint == manifest.fingerprint


@pytest.mark.parametrize("patients", [("p1", "p2"), ("001", "002"), ("patient_1", "patient_2"), ("A7", "A8")])
def test_patients_in_one_class_folder_are_not_taken_for_classes(patients: tuple[str, ...], tmp_path: Path):
    photographs(tmp_path, [f"hsil/{one}/{n}.png" for one in patients for n in (1, 2)])
    with pytest.raises(DataError, match="not classes"):
        load_manifest(tmp_path)


def _converted(root: Path, suffix: str) -> None:
    from PIL import Image

    for path in [one for one in root.rglob("*") if one.suffix in {".bmp", ".BMP"} - {suffix}]:
        with Image.open(path) as image:
            image.save(path.with_suffix(suffix))
        path.unlink()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".PNG", ".BMP", ".jpeg"])
@pytest.mark.parametrize("make", [make_sipakmed, make_herlev])
def test_a_download_saved_in_another_format_is_read(make: Callable[[Path], Path], suffix: str, tmp_path: Path):
    root = make(tmp_path)
    expected = load_manifest(root)
    _converted(root, suffix)
    manifest = load_manifest(root)
    assert manifest.name == expected.name
    assert manifest.counts() == expected.counts()
    assert [one.group for one in manifest.samples] == [one.group for one in expected.samples]
    assert {Path(sample.path).suffix for sample in manifest.samples} == {suffix}


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
@pytest.mark.parametrize("make", [make_sipakmed, make_herlev, make_mlcc])
def test_folder_names_in_another_case_are_read(
    make: Callable[[Path], Path], change: Callable[[str], str], tmp_path: Path
):
    root = make(tmp_path / "data")
    expected = load_manifest(root)
    for folder in sorted((one for one in root.rglob("*") if one.is_dir()), key=lambda one: -len(one.parts)):
        folder.rename(folder.with_name(change(folder.name)))
    manifest = load_manifest(root)
    assert (manifest.name, manifest.counts()) == (expected.name, expected.counts())


def test_sipakmed_without_cropped_is_read_by_the_names_of_its_cells(tmp_path: Path):
    root = make_sipakmed(tmp_path / "data", depth=1)
    expected = load_manifest(root)
    for cropped in root.glob("*/CROPPED"):
        for file in cropped.iterdir():
            file.rename(cropped.parent / file.name)
        cropped.rmdir()
    manifest = load_manifest(root)
    assert manifest.counts() == expected.counts()
    assert {sample.group for sample in manifest.samples} == {sample.group for sample in expected.samples}


@pytest.mark.parametrize("make", [make_sipakmed, make_herlev])
def test_train_and_test_above_the_classes_are_the_subsets(make: Callable[[Path], Path], tmp_path: Path):
    for subset in ("train", "test"):
        made = make(tmp_path / "made" / subset)
        inner = made / "smear2005" / "New database pictures" if make is make_herlev else made
        shutil.copytree(inner, tmp_path / "data" / subset)
    manifest = load_manifest(tmp_path / "data")
    assert manifest.name == ("herlev" if make is make_herlev else "sipakmed")
    assert len(manifest.subset("train")) == len(manifest.subset("test")) == len(manifest.samples) // 2


def test_all_is_a_leukaemia_and_no_word_for_every_image(tmp_path: Path):
    assert load_manifest(photographs(tmp_path, ["ALL/1.png", "AML/2.png"])).classes == ("ALL", "AML")
