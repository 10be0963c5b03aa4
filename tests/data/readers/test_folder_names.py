"""Names of folders: subsets, folds, patients and classes are told apart by evidence, or refused by name."""

import shlex
from pathlib import Path

import pytest
from folders import photographs
from hypothesis import given
from hypothesis import strategies as st

from cytolora.core.findings import problems
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.readers.code_names import named_like_groups
from cytolora.data.readers.subset_folders import subset_named
from cytolora.errors import DataError


def _codes(manifest: Manifest) -> list[str]:
    return [one.code for one in problems(manifest.findings)]


def _classes(root: Path, names: list[str], per_class: int = 3) -> Path:
    return photographs(root, [f"{name}/{n}.png" for name in names for n in range(per_class)])


# Subsets


@pytest.mark.parametrize(
    ("folders", "subsets"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("training_set", "test_set"), ("train", "test")),
        (("Train_data", "Val_data", "Test_data"), ("train", "val", "test")),
        (("TRAIN", "Validation", "TEST"), ("train", "val", "test")),
        (("training", "validation", "testing"), ("train", "val", "test")),
        (("train", "Testing"), ("train", "test")),
        (("Data_Train", "Data Test"), ("train", "test")),
        (("train-images", "valid-images"), ("train", "val")),
        (("TrainSet", "TestSet"), ("train", "test")),
    ],
)
def test_folders_called_like_subsets_that_hold_the_same_classes_are_subsets(
    folders: tuple[str, ...], subsets: tuple[str, ...], tmp_path: Path
):
    photographs(
        tmp_path, [f"{one}/{label}/{one}{n}.png" for one in folders for label in ("hsil", "nilm") for n in "12"]
    )
    manifest = load_manifest(tmp_path)
    assert manifest.classes == ("hsil", "nilm")
    assert {one.path.partition("/")[0]: one.subset for one in manifest.samples} == dict(
        zip(folders, subsets, strict=True)
    )
    assert _codes(manifest) == []


@pytest.mark.parametrize(
    "names",
    [["Training/1.png", "Testing/2.png"], ["Training/hsil/1.png", "Testing/nilm/2.png"], ["Test_set/hsil/1.png"]],
)
def test_folders_called_like_subsets_are_never_classes(names: list[str], tmp_path: Path):
    photographs(tmp_path, names)
    try:
        manifest = load_manifest(tmp_path)
    except DataError as error:
        assert "manifest.csv with columns path,label,subset" in str(error)  # noqa: PT017
    else:
        assert (manifest.classes, {one.subset for one in manifest.samples}) == (("hsil",), {"test"})


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz_- ", max_size=12))
def test_a_name_is_a_subset_only_where_it_holds_the_word(name: str):
    if subset_named(name):
        assert any(word in name for word in ("train", "val", "test"))
    assert not subset_named(f"{name}ima")


@pytest.mark.parametrize("name", ["testis", "value", "invalid", "trainee", "contest", "latest", "vale", "train1ng"])
def test_other_words_are_no_subsets(name: str):
    assert subset_named(name) is None


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("fold1", "fold2", "fold3"), "folds or parts above classes"),
        (("Fold_0", "Fold_1"), "folds or parts above classes"),
        (("split 1", "split 2"), "folds or parts above classes"),
        (("part1", "part2"), "folds or parts above classes"),
        (("P1", "P2", "P3"), "patients, slides or fields above classes"),
        (("AB12", "XC99"), "patients, slides or fields above classes"),
        (("patient_007", "patient_008"), "patients, slides or fields above classes"),
        (("1", "2", "3", "4", "5"), "patients, slides or fields above classes"),
        (("Smith", "Jones"), "patients, slides or fields above classes"),
    ],
)
def test_folders_that_repeat_the_classes_below_are_refused_by_name(folders: tuple[str, ...], said: str, tmp_path: Path):
    photographs(tmp_path, [f"{one}/{label}/1.png" for one in folders for label in ("hsil", "nilm")])
    with pytest.raises(
        DataError, match=rf"{folders[0]}.*'hsil', 'nilm'.*{said}.*manifest.csv with columns path,label,"
    ):
        load_manifest(tmp_path)


def test_folds_in_a_further_folder_are_refused_by_name(tmp_path: Path):
    photographs(tmp_path, [f"data/cells/fold{n}/{label}/1.png" for n in "12" for label in ("hsil", "nilm")])
    with pytest.raises(DataError, match="folds or parts above classes"):
        load_manifest(tmp_path)


def test_sub_folders_of_patients_below_classes_are_not_called_classes(tmp_path: Path):
    photographs(tmp_path, [f"{label}/{one}/1.png" for label in ("hsil", "nilm") for one in ("p1", "p2")])
    with pytest.raises(DataError, match=r"manifest\.csv"):
        load_manifest(tmp_path)


# Patients for classes


@pytest.mark.parametrize(
    "names",
    [
        ["AB12", "XC99"],
        ["AB12", "AB13", "QX7"],
        ["1", "2", "3", "4", "5"],
        ["001", "002", "003"],
        ["H19-1234", "H19-1301", "H20-7"],
        ["20210304", "20210309"],
        ["3", "17", "22"],
        ["12a", "12b", "40"],
        ["lab1_patient007", "lab1_patient008"],
        ["0f8fad5b-d9cb-469f-a165-70867728950e", "7c9e6679-7425-40de-944b-e07fc1f90ae7"],
        [f"S{number}" for number in range(1, 15)],
    ],
)
def test_classes_named_by_codes_or_numbers_are_a_warning_unless_somebody_says_so(names: list[str], tmp_path: Path):
    manifest = load_manifest(_classes(tmp_path, names))
    found = [one for one in manifest.findings if one.code == "F213"]
    assert [(one.severity, one.count) for one in found] == [("warning", len(names))]
    assert str(found[0]).startswith(f"{len(names)} classes are named by codes or numbers")
    assert _codes(load_manifest(tmp_path, "folder")) == []


@pytest.mark.parametrize(
    "names",
    [
        ["class_1", "class_2", "class_3", "class_4", "class_5"],
        ["0", "1"],
        ["0", "1", "2"],
        ["Grade1", "Grade2", "Grade3"],
        ["CIN1", "CIN2", "CIN3"],
        ["CIN1", "HSIL"],
        ["HSIL", "LSIL", "NILM"],
        ["M0", "M1", "M7"],
        ["HPV16", "HPV18"],
        ["Thy1", "Thy2", "Thy3", "Thy4", "Thy5"],
        ["C1", "C2", "C3", "C4", "C5"],
        ["pap 1", "pap 2"],
        ["B", "M"],
        ["ASC-US", "ASC-H"],
        ["01_normal", "02_hsil"],
        ["n01440764", "n01443537"],
        ["cluster 1", "cluster 2"],
    ],
)
def test_classes_on_a_scale_are_no_problem(names: list[str], tmp_path: Path):
    assert _codes(load_manifest(_classes(tmp_path, names))) == []


def test_a_scale_of_numbers_with_many_images_each_is_no_problem():
    assert named_like_groups(dict.fromkeys("12345", 40)) == []
    assert named_like_groups(dict.fromkeys("0123456789", 40)) == []
    assert len(named_like_groups(dict.fromkeys(("3", "17", "40"), 40))) == 1


@given(st.lists(st.text(alphabet="abcdefghijklmnopqrstuvwxyz -_", min_size=1), min_size=2, max_size=6, unique=True))
def test_names_without_numbers_are_never_taken_for_patients(names: list[str]):
    assert named_like_groups(dict.fromkeys(names, 1)) == []


# Images in the folder itself


@pytest.mark.parametrize("name", ["labels.csv", "manifest.tsv", "Labels.CSV", "annotations.tab", "label's list.csv"])
def test_a_table_beside_images_without_sub_folders_is_named_with_a_command_that_reads_it(name: str, tmp_path: Path):
    photographs(tmp_path, ["1.png", "2.png"])
    sign = "," if name.lower().endswith("csv") else "\t"
    (tmp_path / name).write_text("path,label\n1.png,hsil\n2.png,nilm\n".replace(",", sign))
    with pytest.raises(
        DataError, match=r"It holds 2 images and no folder.*which is not read.*cytolora check"
    ) as caught:
        load_manifest(tmp_path)
    command = shlex.split(str(caught.value).split("`")[1])
    assert command[:2] == ["cytolora", "check"]
    assert [one.label for one in load_manifest(command[2]).samples] == ["hsil", "nilm"]


@pytest.mark.parametrize("name", ["labels.xlsx", "x.ods", "old.xls"])
def test_a_workbook_is_never_named_in_a_command(name: str, tmp_path: Path):
    for place, images in (("flat", ["1.png"]), ("one", ["hsil/1.png"]), ("img", ["images/1.png"])):
        photographs(tmp_path / place, images)
        (tmp_path / place / name).write_bytes(b"PK\x03\x04")
        with pytest.raises(DataError, match=r"save it as manifest\.csv \(CSV UTF-8\)") as caught:
            load_manifest(tmp_path / place)
        assert "cytolora check" not in str(caught.value)
    (_classes(tmp_path / "two", ["hsil", "nilm"]) / name).write_bytes(b"PK\x03\x04")
    said = [str(one) for one in load_manifest(tmp_path / "two").findings if one.code == "F205"]
    assert len(said) == 1
    assert "save it as manifest.csv (CSV UTF-8)" in said[0]
    assert "cytolora check" not in said[0]


def test_images_without_folder_and_table_are_told_what_to_do(tmp_path: Path):
    with pytest.raises(DataError, match=r"It holds 1 image and no folder: put those of each class into a sub-folder"):
        load_manifest(photographs(tmp_path, ["1.png"]))
