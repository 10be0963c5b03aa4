"""Tables of images: columns of other names, paths as other systems write them, and what is said of the rest."""

import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.reading import ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.data.readers.paths import NamesOnDisk, PathIndex, path_key
from cytolora.data.splitting.split_files import read_split
from cytolora.errors import ConfigError, DataError

NAMES = ("img/a.png", "img/b.png", "Träger/c.PNG", "img/d e.png")


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images; every test writes its own table of them."""
    folder = tmp_path_factory.mktemp("cells")
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(folder / name)
    return folder


def read(
    cells: Path, header: str, *columns: tuple[str, ...], paths: tuple[str, ...] = NAMES, **reading: Any
) -> Manifest:
    """Reads a table of path, label (a, b, a, b) and further columns."""
    rows = (",".join((path, "ab"[n % 2], *(column[n] for column in columns))) for n, path in enumerate(paths))
    (cells / "manifest.csv").write_text("\n".join((f"path,label{header}", *rows)) + "\n", encoding="utf-8")
    return load_manifest(cells, "csv", reading=ReadOptions(**reading))


def groups(manifest: Manifest) -> dict[str, str | None]:
    return {one.path: one.group for one in manifest.samples}


PATIENTS = ("P0", "P0", "P1", "P1")
PARTS = ("train", "train", "test", "test")


@pytest.mark.parametrize("column", ["patient_id", "Slide No.", "whose", "site", "Patiënt"])
def test_a_column_of_any_name_is_taken_as_the_group(cells: Path, column: str):
    manifest = read(cells, f",{column}", PATIENTS, group_column=column)
    assert groups(manifest) == dict(zip(NAMES, PATIENTS, strict=True))
    assert manifest.group_rule == f"column {column} of manifest.csv"
    assert not manifest.findings


@pytest.mark.parametrize("column", ["split", "fold", "usage", "Set"])
def test_a_column_of_any_name_is_taken_as_the_subset(cells: Path, column: str):
    manifest = read(cells, f",{column}", PARTS, subset_column=column)
    assert {one.path: one.subset for one in manifest.samples} == dict(zip(NAMES, PARTS, strict=True))
    assert manifest.split_rule == f"column {column} of manifest.csv"


def test_a_chosen_column_goes_before_one_of_the_right_name_which_is_then_named(cells: Path):
    manifest = read(cells, ",group,patient", ("f1", "f2", "f3", "f4"), PATIENTS, group_column="patient")
    assert groups(manifest) == dict(zip(NAMES, PATIENTS, strict=True))
    assert [(one.code, one.examples) for one in manifest.findings] == [("T301", ("group",))]


def test_a_group_that_was_chosen_leaves_a_split_refused(cells: Path):
    with pytest.raises(DataError, match="found column 'split', expected 'subset'"):
        read(cells, ",patient,split", PATIENTS, PARTS, group_column="patient")
    manifest = read(cells, ",patient,split", PATIENTS, PARTS, group_column="patient", subset_column="split")
    assert {(one.group, one.subset) for one in manifest.samples} == {("P0", "train"), ("P1", "test")}


def test_a_table_that_was_found_is_told_as_the_reader_that_was_taken(cells: Path):
    read(cells, "")
    texts = [str(one) for one in load_manifest(cells).findings]
    assert texts == ["Read as A table of one's own (--dataset csv): the table manifest.csv."]


def test_a_column_that_is_absent_or_empty_cannot_be_chosen(cells: Path):
    with pytest.raises(ConfigError, match=r"'patiend'\. Did you mean 'patient'\? Known: label, path, patient"):
        read(cells, ",patient", PATIENTS, group_column="patiend")
    with pytest.raises(DataError, match="column 'part' is empty, expected the subset of every image"):
        read(cells, ",part", ("",) * 4, subset_column="part")


@pytest.mark.parametrize("option", [{"group_column": "patient"}, {"subset_column": "split"}])
@pytest.mark.parametrize("dataset", ["folder", None, "txt", "flat"])
def test_columns_cannot_be_chosen_where_there_is_no_table(tmp_path: Path, dataset: str | None, option: dict[str, Any]):
    for number, label in enumerate("ab"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / label / "x.png")
    with pytest.raises(
        DataError, match=r"is no table with columns to choose, and --(group|subset)-column \w+ names one"
    ):
        load_manifest(tmp_path, dataset, reading=ReadOptions(**option))


@pytest.mark.parametrize("column", ["usage", "phase", "part", "dataset_type", "x", "quelle"])
def test_a_column_that_holds_nothing_but_subsets_is_refused_whatever_its_name(cells: Path, column: str):
    with pytest.raises(DataError, match=f"found column '{column}', expected 'subset'.*--subset-column {column}"):
        read(cells, f",{column}", ("Training", "train", " TEST", "validation"))
    manifest = read(cells, f",{column},subset", PARTS, PARTS)
    assert [(one.code, one.examples) for one in manifest.findings] == [("T301", (column,))]


@pytest.mark.parametrize(
    "values", [("train",) * 4, ("train", "test", "x", "y"), ("", "", "", "train"), ("trained", "tests", "a", "b")]
)
def test_a_column_of_other_words_is_only_named(cells: Path, values: tuple[str, ...]):
    (one,) = read(cells, ",remark", values).findings
    assert (one.code, one.severity, one.examples) == ("T301", "note", ("remark",))
    assert str(one) == "manifest.csv: columns that are not used: 'remark'."


def test_unused_columns_stand_in_one_note_and_ordinary_tables_give_none(cells: Path):
    (one,) = read(cells, ",age,comment,stain", tuple("1234"), tuple("wxyz"), ("pap",) * 4).findings
    assert (one.count, one.examples) == (2, ("age", "comment"))
    known = read(cells, ",subset,group,stain,scanner,site,preparation,mpp", PARTS, PATIENTS, *[tuple("1111")] * 5)
    assert not known.findings
    assert known.samples[0].metadata[0] == ("mpp", "1")


def test_repeated_identifiers_in_an_unused_column_are_guessed_to_be_groups(tmp_path: Path):
    rows = []
    for number in range(9):
        Image.new("RGB", (8, 8), (20 * number, 0, 0)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'ab'[number % 2]},S-{number // 3},{60 + number // 2}")
    (tmp_path / "manifest.csv").write_text("path,label,origin,age\n" + "\n".join(rows) + "\n")
    (one,) = load_manifest(tmp_path, "csv").findings
    assert str(one).endswith(" Does 'origin' name the patient, slide or field? --group-column takes it.")


WRITTEN = [
    ("IMG\\A.png", "img/a.png"),
    ("Img/B.PNG", "img/b.png"),
    (unicodedata.normalize("NFD", "Träger/c.PNG"), "Träger/c.PNG"),
    ("träger/c.png", "Träger/c.PNG"),
    ("img/d\u00a0e.png", "img/d e.png"),
    ("img /a.png", "img/a.png"),
    ("img/\u200bb.png", "img/b.png"),
]


@pytest.mark.parametrize(("written", "path"), WRITTEN)
def test_a_file_is_opened_under_its_name_on_disk_and_the_difference_is_said(cells: Path, written: str, path: str):
    manifest = read(cells, "", paths=tuple(written if name == path else name for name in NAMES))
    assert [one.path for one in manifest.samples] == sorted(NAMES)
    assert all(one.file_in(manifest.root).is_file() for one in manifest.samples)
    (one,) = manifest.findings
    assert (one.code, one.count) == ("T302", 1)


@pytest.mark.parametrize(
    "written", [".\\img\\a.png", "./img/a.png", "img//a.png", " img/a.png ", "img\\a.png", "./././img/a.png"]
)
def test_slashes_and_blanks_around_a_path_are_nothing_to_speak_of(cells: Path, written: str):
    manifest = read(cells, "", paths=(written, *NAMES[1:]))
    assert [one.path for one in manifest.samples] == sorted(NAMES)
    assert not manifest.findings


@pytest.mark.parametrize(
    "path", ["C:\\cells\\a.png", "\\\\server\\share\\a.png", "/a.png", "..\\a.png", "img/../../a.png", "D:a.png"]
)
def test_a_path_out_of_the_folder_is_refused_on_every_system(cells: Path, path: str):
    with pytest.raises(DataError, match=r"line 2: .* leaves the folder of the table"):
        read(cells, "", paths=(path, *NAMES[1:]))


def test_a_path_that_two_files_fit_is_refused_and_each_by_its_own_name_read(tmp_path: Path):
    for number, name in enumerate(("A.png", "a.PNG", "b.png")):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(tmp_path / name)
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("the file system knows no case")
    table = tmp_path / "manifest.csv"
    table.write_text("path,label\nA.png,x\na.PNG,y\nb.png,y\n")
    assert {one.path: one.label for one in load_manifest(tmp_path).samples} == {
        "A.png": "x",
        "a.PNG": "y",
        "b.png": "y",
    }
    table.write_text("path,label\na.png,x\nb.png,y\n")
    with pytest.raises(DataError, match=r"line 2: 'a\.png' may be 'A\.png' or 'a\.PNG'; write which one is meant"):
        load_manifest(tmp_path)


@given(st.sampled_from(NAMES), st.sampled_from([str.upper, str.lower, str.title]), st.sampled_from(["/", "\\"]))
def test_every_spelling_of_a_path_finds_its_image(cells: Path, name: str, case, slash: str):
    written = case(name).replace("/", slash)
    assert NamesOnDisk(cells).find("t.csv", written) == name
    assert PathIndex(NAMES).find("t.csv", unicodedata.normalize("NFD", written)) == name
    assert path_key(written) == path_key(name)


def test_a_cell_that_swallowed_lines_is_refused(cells: Path):
    (cells / "manifest.csv").write_text('path,label\nimg/a.png,"a\nimg/b.png,b\nimg/d e.png,a"\n')
    with pytest.raises(DataError, match=r"line 2: label goes on in the next line; is there a quote that is not closed"):
        load_manifest(cells, "csv")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda path: path.replace("/", "\\"),
        lambda path: f"./{path}",
        lambda path: unicodedata.normalize("NFD", path),
        str.upper,
        lambda path: f" {path} ",
        lambda path: path.replace("/", "//"),
    ],
)
def test_a_split_file_finds_images_by_paths_of_other_systems(cells: Path, tmp_path: Path, rewrite):
    manifest = read(cells, "")
    rows = "".join(f"{rewrite(name)};{part};x\n" for name, part in zip(NAMES, PARTS, strict=True))
    (tmp_path / "s.csv").write_text(f"sep=;\npath;subset;note\n{rows}", encoding="utf-16")
    divided = read_split(tmp_path / "s.csv", manifest)
    assert {one.path: one.subset for one in divided.samples} == dict(zip(NAMES, PARTS, strict=True))
    assert [(one.code, one.examples) for one in divided.findings] == [("T301", ("note",))]


def test_a_split_file_that_names_an_image_in_two_ways_is_refused(cells: Path, tmp_path: Path):
    (tmp_path / "s.csv").write_text("path,subset\nimg/a.png,train\nIMG\\a.png,test\n")
    with pytest.raises(DataError, match=r"line 3: img/a\.png is listed twice"):
        read_split(tmp_path / "s.csv", read(cells, ""))


def test_a_sorted_split_file_still_tells_that_images_have_changed(cells: Path, tmp_path: Path):
    rows = [f"{name},{part}," for name, part in zip(NAMES, PARTS, strict=True)]
    rows[2] += "0" * 64
    (tmp_path / "s.csv").write_text("\n".join(["path,subset,fingerprint", *rows]) + "\n")
    with pytest.raises(DataError, match=re.escape("s.csv was made for other images")):
        read_split(tmp_path / "s.csv", read(cells, ""))


def test_check_takes_columns_by_option(cells: Path, capsys: pytest.CaptureFixture[str]):
    read(cells, "")
    rows = "".join(f"{name};{'ab'[n % 2]};{PATIENTS[n]};{PARTS[n]}\n" for n, name in enumerate(NAMES))
    (cells / "manifest.csv").write_text(f"path;label;patient_id;split\n{rows}", encoding="utf-8")
    with pytest.raises(SystemExit):
        main(["check", str(cells), "--group-column", "patient_id", "--subset-column", "split", "--quiet"])
    said = capsys.readouterr().out
    assert "2 groups." in said
    assert "column split of manifest.csv" in said


def test_a_table_on_which_no_rule_acts_keeps_its_fingerprint(tmp_path: Path):
    """Pins the fingerprint: a change here makes every stored run on such a table stale."""
    for number in range(6):
        (tmp_path / f"ä {number}.png").write_bytes(b"cell %d" % number)
    rows = "".join(
        f".\\ä {number}.png; {'ASC-US' if number % 2 else 'Träger, low'} ;{number // 2:03}\n" for number in range(6)
    )
    (tmp_path / "manifest.csv").write_text(f"path;label;group\n{rows}", encoding="utf-8")
    manifest = load_manifest(tmp_path, "csv")
    assert not manifest.findings
    assert manifest.fingerprint == "8ef96ab0df035d78c29ad40923df516e9fc5e199a5a35187477c14324416db69"


@pytest.mark.parametrize("column", ["class", "Class Name", "category", "diagnosis", "labels", "TARGET"])
def test_a_column_of_labels_by_another_name_is_to_be_renamed(cells: Path, column: str):
    (cells / "manifest.csv").write_text(f"path,{column}\n{NAMES[0]},a\n")
    with pytest.raises(DataError, match=rf"no column 'label'; .* Rename '{column}' to label\."):
        load_manifest(cells, "csv")


@pytest.mark.parametrize(
    "column", ["image", "img", "file", "File_Name", "filepath", "image name", "imagefile", "Image Path"]
)
def test_a_column_of_images_by_another_name_is_to_be_renamed(cells: Path, column: str):
    (cells / "manifest.csv").write_text(f"{column},label\n{NAMES[0]},a\n")
    with pytest.raises(DataError, match=rf"no column 'path'; .* Rename '{column}' to path\."):
        load_manifest(cells, "csv")


@pytest.mark.parametrize(
    "values",
    [("0", "1"), ("0.0", "1.0"), ("True", "False"), ("yes", "no"), ("Y", "N"), ("t", "f"), ("x", ""), ("1", "1")],
)
@pytest.mark.parametrize("column", ["is_train", "test", "for validation", "InTestSet", "holdout", "use_val_split"])
def test_a_column_that_says_of_one_subset_yes_or_no_is_refused(cells: Path, column: str, values: tuple[str, str]):
    with pytest.raises(DataError, match=rf"found column '{column}', expected 'subset' .* Write train, val or test for"):
        read(cells, f",{column}", values * 2)


@pytest.mark.parametrize(
    ("column", "values"), [("is_train", ("maybe", "1")), ("is_trained", "01"), ("test_score", "01")]
)
def test_a_column_that_says_anything_else_is_only_named(cells: Path, column: str, values: tuple[str, str]):
    (one,) = read(cells, f",{column}", tuple(values) * 2).findings
    assert (one.code, one.examples) == ("T301", (column,))


def test_two_subsets_in_a_column_of_any_name_are_enough_to_refuse_it(cells: Path):
    with pytest.raises(DataError, match="found column 'usage', expected 'subset'"):
        read(cells, ",usage", ("train", "test") * 2)


def test_two_texts_of_a_group_that_count_as_one_are_said_once_and_one_text_is_not(cells: Path):
    manifest = read(cells, ",group", ("P 0", "P\u00a00", "P1", "P1"))
    assert [one.group for one in sorted(manifest.samples, key=lambda one: NAMES.index(one.path))] == [
        "P 0",
        "P 0",
        "P1",
        "P1",
    ]
    (one,) = manifest.findings
    assert (one.code, one.count) == ("T302", 1)
    assert "texts of column 'group' that count as one: 1, " in str(one)
    assert not read(cells, ",group", ("P 0", "P 0", "P1", "P1")).findings
