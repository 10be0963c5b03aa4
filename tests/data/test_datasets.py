"""Readers for anyone's own data and for Herlev, and how a path is recognised."""

import re
import shutil
from pathlib import Path

import pytest
from finding_texts import texts
from PIL import Image

from cytolora.data.datasets import DATASETS, find_dataset, load_manifest
from cytolora.data.readers.herlev import HERLEV
from cytolora.data.readers.spec import DatasetSpec
from cytolora.errors import ConfigError, DataError


def _paint(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (shade % 256, shade // 256, 7)).save(path)
    return path


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    for number, name in enumerate(["b/2.png", "b/1.jpg", "a/x.tif", "a/Y (3).BMP"]):
        _paint(tmp_path / "cells" / name, number)
    return tmp_path / "cells"


def test_class_folders_become_sorted_classes_and_samples(cells: Path):
    manifest = load_manifest(cells)
    assert manifest.name == "cells"
    assert manifest.classes == ("a", "b")
    assert [sample.path for sample in manifest.samples] == ["a/Y (3).BMP", "a/x.tif", "b/1.jpg", "b/2.png"]
    assert all(len(sample.sha256) == 64 for sample in manifest.samples)
    assert not manifest.has_subsets
    assert not manifest.has_groups


def test_hidden_and_foreign_files_are_passed_over(cells: Path):
    expected = load_manifest(cells).fingerprint
    (cells / "a" / "notes.txt").write_text("not an image")
    (cells / "a" / "._1.png").write_bytes(b"mac")
    (cells / ".cache").mkdir()
    (cells / "__MACOSX").mkdir()
    assert load_manifest(cells).fingerprint == expected


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_folders_above_the_classes_are_subsets(tmp_path: Path, val: str):
    for number, subset in enumerate(["train", val, "test"]):
        _paint(tmp_path / subset / "a" / "1.png", number)
    manifest = load_manifest(tmp_path)
    assert {sample.subset for sample in manifest.samples} == {"train", "val", "test"}


def test_an_empty_class_folder_is_named(cells: Path):
    (cells / "hsil").mkdir()
    with pytest.raises(DataError, match="hsil is a class without images"):
        load_manifest(cells)


def test_images_deeper_than_the_class_folder_are_not_read_silently(cells: Path):
    _paint(cells / "c" / "patient_1" / "1.png")
    with pytest.raises(DataError, match=r"c is a class without images.*deeper down"):
        load_manifest(cells)


def test_subsets_next_to_other_folders_are_refused(cells: Path):
    _paint(cells / "train" / "a" / "1.png")
    with pytest.raises(DataError, match=r"mixes subsets .* 'a'"):
        load_manifest(cells)


def test_two_folders_for_one_subset_are_refused(tmp_path: Path):
    for subset in ("train", "val", "valid"):
        _paint(tmp_path / subset / "a" / "1.png")
    with pytest.raises(DataError, match=r"'val' and 'valid', two folders for val"):
        load_manifest(tmp_path)


def test_a_class_absent_from_a_subset_is_a_warning(tmp_path: Path):
    for number, name in enumerate(["train/a/1.png", "train/b/1.png", "test/a/1.png"]):
        _paint(tmp_path / name, number)
    assert any("class 'b' has no images in test" in warning for warning in texts(load_manifest(tmp_path).findings))


def test_loose_images_are_left_out_with_a_warning(cells: Path):
    _paint(cells / "loose.png")
    assert "1 image outside the class folders is left out" in texts(load_manifest(cells).findings)[0]


@pytest.mark.parametrize("point_at_file", [True, False])
def test_a_table_gives_groups_subsets_and_metadata(cells: Path, point_at_file: bool):
    table = cells / "manifest.csv"
    table.write_text(
        "path,label,subset,group,stain,mpp,comment\n"
        "a/x.tif,hsil,Train,p1,pap,0.25,nice\n"
        'b/1.jpg,"low, grade",valid,,,,\n',
        encoding="utf-8-sig",
    )
    manifest = load_manifest(table if point_at_file else cells)
    assert manifest.classes == ("hsil", "low, grade")
    first, second = manifest.samples
    assert (first.subset, first.group, first.metadata) == ("train", "p1", (("mpp", "0.25"), ("stain", "pap")))
    assert (second.subset, second.group, second.metadata) == ("val", None, ())
    assert manifest.group_rule == "column group of manifest.csv"


def test_a_table_may_use_semicolons(cells: Path):
    (cells / "manifest.csv").write_text("path;label\na/x.tif;hsil\nb\\1.jpg;nl\n")
    assert [sample.path for sample in load_manifest(cells).samples] == ["a/x.tif", "b/1.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,class\na/x.tif,hsil\n", "no column 'label'; its header is: path, class"),
        ("path,label\n", "no rows"),
        ("", "no column 'path'"),
        ("path,label\na/x.tif,\n", "line 2: label is empty"),
        ("path,label\n../x.tif,hsil\n", "line 2: ../x.tif leaves the folder"),
        ("path,label\n/etc/x.png,hsil\n", "leaves the folder"),
        ("path,label,subset\na/x.tif,hsil,dev\n", "line 2: subset 'dev' is none of train, val and test"),
        ("path,label\nno.png,hsil\nno2.png,hsil\n", "2 images that are not there, the first is no.png"),
        ("path,label\na/x.tif,hsil\na/x.tif,hsil\n", "a/x.tif is listed 2 times"),
    ],
)
def test_a_wrong_table_is_refused_with_the_line(cells: Path, text: str, message: str):
    (cells / "manifest.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(message)):
        load_manifest(cells, "csv")


def test_a_table_that_is_not_utf8_is_refused(cells: Path):
    (cells / "manifest.csv").write_bytes(b"path,label\n\xff\xfe,hsil\n")
    with pytest.raises(DataError, match=r"Cannot read .* as UTF-8 text"):
        load_manifest(cells, "csv")


def test_an_unknown_dataset_is_refused_with_the_nearest_name(cells: Path):
    with pytest.raises(ConfigError, match=r"Unknown dataset 'herlef'. Did you mean 'herlev'"):
        load_manifest(cells, "herlef")
    with pytest.raises(ConfigError, match="Unknown label set of herlev '7'"):
        find_dataset("herlev:7")


def test_a_path_that_is_nothing_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        load_manifest(tmp_path / "no")
    with pytest.raises(DataError, match="is no dataset"):
        load_manifest(tmp_path)


def test_every_dataset_states_its_facts():
    for spec in DATASETS:
        assert spec.title
        assert spec.description
        assert spec.licence
        assert not spec.expected_counts or tuple(spec.expected_counts) == spec.classes
        assert spec.generic or spec.drawn or (spec.citation and spec.page)


def _herlev(root: Path) -> Path:
    pictures = root / "smear2005" / "New database pictures"
    for number, label in enumerate(HERLEV.classes):
        for cell in (1, 2):
            photograph = _paint(pictures / label / f"1490-15{number}-00{cell}.BMP", 10 * number + cell)
            photograph.with_name(f"{photograph.stem}-d.bmp").write_bytes(photograph.read_bytes())
    return root


@pytest.mark.parametrize("folder", [".", "smear2005", "smear2005/New database pictures"])
def test_herlev_is_recognised_from_three_folders_with_equal_manifests(tmp_path: Path, folder: str):
    manifest = load_manifest(_herlev(tmp_path) / folder)
    assert manifest.name == "herlev"
    assert manifest.classes == HERLEV.classes
    assert len(manifest.samples) == 14  # masks are left out
    assert manifest.samples[0].path == "carcinoma_in_situ/1490-156-001.BMP"
    assert manifest.samples[0].group == "1490-156"


def test_a_part_of_a_dataset_is_one_note_and_an_error_when_strict(tmp_path: Path):
    findings = load_manifest(_herlev(tmp_path)).findings
    [part] = [one for one in findings if one.code == "F215"]
    assert part.text.startswith("herlev: fewer images than published, the first are class 'normal_superficiel' 2 of 74")
    assert (part.count, part.severity) == (7, "note")
    assert not [one for one in findings if one.code == "F207"]
    with pytest.raises(DataError, match=r"herlev: class 'normal_superficiel' has 2 images, 74 are published\."):
        load_manifest(tmp_path, strict=True)


def test_a_class_with_more_images_than_published_makes_every_count_a_warning(tmp_path: Path):
    folder = _herlev(tmp_path) / "smear2005" / "New database pictures" / "normal_superficiel"
    image = next(folder.glob("*.BMP"))
    for number in range(80):
        shutil.copy(image, folder / f"1490-{number:03}-999.BMP")
    counts = [one for one in load_manifest(tmp_path).findings if one.code in ("F207", "F215")]
    assert [one.code for one in counts] == ["F207"] * 7
    assert counts[0].text == "herlev: class 'normal_superficiel' has 82 images, 74 are published."


def test_another_folder_read_as_herlev_is_refused(cells: Path):
    with pytest.raises(DataError, match="is not Herlev: expected the folder smear2005"):
        load_manifest(cells, "herlev")


@pytest.mark.slow
def test_the_real_herlev_has_917_images_in_538_groups(herlev_dir: Path):
    manifest = load_manifest(herlev_dir)
    assert manifest.name == "herlev"
    assert {label: row["all"] for label, row in manifest.counts().items()} == dict(HERLEV.expected_counts)
    assert len(manifest.samples) == 917
    assert manifest.has_groups
    assert len({sample.group for sample in manifest.samples}) == 538
    assert [one.code for one in manifest.findings] == ["F210"]
    assert load_manifest(herlev_dir.parent, strict=True).fingerprint == manifest.fingerprint


def test_a_path_that_two_datasets_recognise_must_be_named(cells: Path, monkeypatch: pytest.MonkeyPatch):
    twins = [
        DatasetSpec(name=name, title=name, read=HERLEV.read, looks_like=lambda path: True, description=name)
        for name in ("one", "two")
    ]
    monkeypatch.setattr("cytolora.data.datasets.DATASETS", twins)
    with pytest.raises(DataError, match="may be one or two; say which with --dataset"):
        load_manifest(cells)
