"""Columns of a table that are meant as group or subset, however they are spelled, are never dropped in silence."""

import csv
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.reading import ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.readers.tables import GROUP, SUBSET, how_to_name, meant_as, refuse_other_names
from cytolora.data.splitting.split_files import read_split
from cytolora.errors import DataError

AS_GROUP = (
    ("patient", "id"),
    ("slide",),
    ("case", "no"),
    ("group", "id"),
    ("field", "of", "view"),
    ("wsi",),
    ("donor",),
)
AS_SUBSET = (("split",), ("set",), ("train", "test", "split"), ("partition",), ("data", "split"), ("fold",))
NEITHER = (
    "age_group",
    "patient_age",
    "slide_scanner",
    "stain",
    "image_id",
    "test_score",
    "comment",
    "bright_field",
    "x",
)


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images; every test writes its own table of them."""
    folder = tmp_path_factory.mktemp("cells")
    for number in range(4):
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(folder / f"{number}.png")
    return folder


def write_table(cells: Path, **columns: str | tuple[str, ...]) -> Path:
    """Writes ``manifest.csv`` of four images with these columns besides path and label; a text is that of every row."""
    table = cells / "manifest.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", *columns])
        for number in range(4):
            more = [text if isinstance(text, str) else text[number] for text in columns.values()]
            writer.writerow([f"{number}.png", "ab"[number % 2], *more])
    return table


@st.composite
def spellings(draw: st.DrawFn, names: tuple[tuple[str, ...], ...]) -> str:
    words = draw(st.sampled_from(names))
    case = draw(st.sampled_from([str.lower, str.upper, str.title, str.capitalize]))
    mark = draw(st.sampled_from(["_", "-", " ", "", ".", " - "]))
    pad = draw(st.sampled_from(["", " "]))
    return pad + mark.join(case(word) for word in words) + pad


@given(spelling=spellings(AS_GROUP))
def test_every_spelling_of_a_patient_slide_or_field_is_meant_as_group(spelling: str):
    assert meant_as(spelling) == "group"


@given(spelling=spellings(AS_SUBSET))
def test_every_spelling_of_a_split_is_meant_as_subset(spelling: str):
    assert meant_as(spelling) == "subset"


@pytest.mark.parametrize("name", ["patientID", "SlideNr", "pseudo_patient_id", "Group", "groups", "Case No.", "PID"])
def test_names_of_other_programs_are_meant_as_group(name: str):
    assert meant_as(name) == "group"


@pytest.mark.parametrize("name", ["repo_split", "official-split", "cv_fold", "dataSplit", "Subset", "TrainValTest"])
def test_names_of_other_programs_are_meant_as_subset(name: str):
    assert meant_as(name) == "subset"


@pytest.mark.parametrize("name", NEITHER)
def test_columns_about_something_else_are_meant_as_neither(name: str):
    assert meant_as(name) is None


@given(spelling=spellings(AS_GROUP))
def test_a_group_by_another_name_is_refused_and_by_its_own_read(cells: Path, spelling: str):
    groups = ("p1", "p1", "p2", "p2")
    table = write_table(cells, **{spelling: groups})
    with pytest.raises(DataError) as caught:
        load_manifest(cells, "csv")
    assert str(caught.value) == (
        f"{table}: found column {spelling.strip()!r}, expected 'group'. "
        f"Take it with --group-column {shlex.quote(spelling.strip())}, rename it to group (the patient, slide or field "
        "that an image comes from), or remove it."
    )
    write_table(cells, group=groups)
    assert [sample.group for sample in load_manifest(cells, "csv").samples] == list(groups)


@given(spelling=spellings(AS_SUBSET))
def test_a_subset_by_another_name_is_refused_and_by_its_own_read(cells: Path, spelling: str):
    subsets = ("train", "train", "val", "test")
    write_table(cells, **{spelling: subsets})
    with pytest.raises(
        DataError,
        match=r"expected 'subset'.* --subset-column .*, rename it to subset \(train, val or test\), or remove it.",
    ):
        load_manifest(cells, "csv")
    write_table(cells, subset=subsets)
    assert [sample.subset for sample in load_manifest(cells, "csv").samples] == list(subsets)


def test_beside_a_group_a_patient_is_a_column_like_any_other(cells: Path):
    write_table(cells, group=("f1", "f2", "f3", "f4"), patient_id="p1", stain="pap")
    manifest = load_manifest(cells, "csv")
    assert [sample.group for sample in manifest.samples] == ["f1", "f2", "f3", "f4"]
    assert manifest.samples[0].metadata == (("stain", "pap"),)


def test_beside_an_empty_group_a_patient_is_refused(cells: Path):
    write_table(cells, group="", patient_id=("p1", "p1", "p2", "p2"))
    with pytest.raises(
        DataError,
        match=r"found column 'patient_id', expected 'group', which is empty\. Take it with",
    ):
        load_manifest(cells, "csv")


def test_a_column_that_holds_nothing_is_no_group(cells: Path):
    write_table(cells, patient_id="", Split="")
    assert {sample.group for sample in load_manifest(cells, "csv").samples} == {None}


def test_several_candidates_are_all_named(cells: Path):
    write_table(cells, slide="s1", Patient="p1")
    with pytest.raises(
        DataError,
        match=r"found columns 'slide', 'Patient', expected 'group'. Take one of them with --group-column slide",
    ):
        load_manifest(cells, "csv")


def test_a_split_file_whose_subset_has_another_name_says_what_to_rename(cells: Path):
    write_table(cells)
    path = cells / "mine.csv"
    path.write_text("path,Split\n0.png,train\n")
    with pytest.raises(DataError, match=r"no column 'subset'; its header is: path, Split. Rename 'Split' to subset."):
        read_split(path, load_manifest(cells, "csv"))


@pytest.mark.parametrize("column", ["patient_id", "split"])
@pytest.mark.parametrize("command", ["check", "split"])
def test_the_command_line_refuses_in_one_line(
    cells: Path, capsys: pytest.CaptureFixture[str], column: str, command: str
):
    write_table(cells, **{column: ("train", "train", "test", "test")})
    with pytest.raises(SystemExit) as stopped:
        main([command, str(cells), *(["--out", str(cells / "s.csv")] if command == "split" else [])])
    said = capsys.readouterr().err
    assert (stopped.value.code, said.count("\n")) == (2, 1)
    assert f"found column {column!r}" in said
    assert not (cells / "s.csv").exists()


@pytest.mark.parametrize("word", ["dev", "trains", "0", "train/val", "tst"])
def test_a_subset_that_is_none_of_the_three_is_refused_with_its_line(cells: Path, word: str):
    table = write_table(cells, subset=("train", word, "val", "test"))
    with pytest.raises(DataError) as caught:
        load_manifest(cells, "csv")
    assert str(caught.value) == f"{table}, line 3: subset {word!r} is none of train, val and test."


@pytest.mark.parametrize(
    ("words", "subset"),
    [
        (("train", "Training", " TRAIN "), "train"),
        (("val", "valid", "Validation", "VAL"), "val"),
        (("test", "Testing", "TEST"), "test"),
    ],
)
def test_a_subset_is_read_in_any_case_and_in_its_longer_forms(cells: Path, words: tuple[str, ...], subset: str):
    for word in words:
        write_table(cells, subset=word)
        assert {sample.subset for sample in load_manifest(cells, "csv").samples} == {subset}


def test_a_column_that_holds_every_word_for_a_subset_is_one_of_subsets():
    words = ("train", "training", "val", "valid", "validation", "test", "testing")
    with pytest.raises(
        DataError, match=r"found column 'usage', expected 'subset'\. Take it with --subset-column usage"
    ):
        refuse_other_names(Path("t.csv"), [{"path": f"{word}.png", "usage": word} for word in words])


def test_a_name_stands_for_one_thing_alone():
    assert not set(GROUP) & set(SUBSET)


SLIDES = ("s1", "s2", "s3", "s3")


@pytest.mark.parametrize("column", ["patient_id", "Case No.", "PID", "donor", "subject", "accession"])
def test_a_column_that_holds_groups_together_is_named(cells: Path, column: str):
    table = write_table(cells, group=SLIDES, **{column: ("p1", "p1", "p2", "p2")})
    (one,) = (one for one in load_manifest(cells, "csv").findings if one.code == "L408")
    assert (one.severity, one.count, one.examples) == ("warning", 1, ("p1",))
    assert f"--group-column {shlex.quote(column)} keeps them whole" in str(one)
    manifest = load_manifest(table, "csv", reading=ReadOptions(group_column=column))
    assert [sample.group for sample in manifest.samples] == ["p1", "p1", "p2", "p2"]
    assert "L408" not in {one.code for one in manifest.findings}


@pytest.mark.parametrize("values", [SLIDES, ("f1", "f2", "f3", "f4"), ("p1",) * 4, ("", "", "p1", "p1"), ("",) * 4])
def test_a_column_that_divides_groups_or_tells_nothing_is_not_named(cells: Path, values: tuple[str, ...]):
    write_table(cells, group=SLIDES, field=values)
    assert "L408" not in {one.code for one in load_manifest(cells, "csv").findings}


FLAGS = [
    ("is_train", ("1", "1", "0", "0")),
    ("train", ("True", "False", "True", "True")),
    ("in_test_set", ("yes", "no", "no", "no")),
    ("Holdout", ("", "", "x", "x")),
    ("isTest", ("0.0", "1.0", "0.0", "1.0")),
    ("validation", ("n", "y", "n", "n")),
    ("fold", ("0", "1", "2", "3")),
    ("cv_fold", ("1", "1", "2", "2")),
]


@pytest.mark.parametrize(("column", "values"), FLAGS)
def test_a_subset_in_other_words_than_train_val_and_test_is_refused_with_advice_that_leads_on(
    cells: Path, column: str, values: tuple[str, ...]
):
    write_table(cells, **{column: values})
    with pytest.raises(DataError, match=r"Write train, val or test for every image into a column subset") as caught:
        load_manifest(cells, "csv")
    assert f"found column {column!r}, expected 'subset'" in str(caught.value)
    assert "--subset-column" not in str(caught.value)
    write_table(cells, **{column: values}, subset=("train", "train", "val", "test"))
    assert [one.subset for one in load_manifest(cells, "csv").samples] == ["train", "train", "val", "test"]


@pytest.mark.parametrize("column", ["HPV_test", "test", "training_site", "validated", "test_score", "train_no"])
def test_a_column_about_a_test_is_no_subset(cells: Path, column: str):
    write_table(cells, **{column: ("HPV16", "HPV18", "0", "1")})
    assert {one.subset for one in load_manifest(cells, "csv").samples} == {None}


@pytest.mark.parametrize("given", [{"group_column": "label"}, {"group_column": "path"}, {"subset_column": "label"}])
def test_a_column_is_not_taken_for_two_things(cells: Path, given: dict[str, Any]):
    write_table(cells, stain="pap")
    with pytest.raises(DataError, match=r"column '(label|path)' is taken for two things; name a column of the groups"):
        load_manifest(cells, "csv", reading=ReadOptions(**given))


def test_group_and_subset_are_two_columns(cells: Path):
    write_table(cells, split=("train", "train", "val", "test"))
    with pytest.raises(DataError, match=r"column 'split' is taken for two things"):
        load_manifest(cells, "csv", reading=ReadOptions(group_column="split", subset_column="split"))


@pytest.mark.parametrize("name", ["cells.tsv", "manifest.tsv", "cells.tab", "cells.txt", "CELLS.TSV", "a.csv"])
def test_a_table_that_is_named_is_read_whatever_its_suffix(cells: Path, name: str):
    (cells / name).write_text("path\tlabel\tgroup\n" + "".join(f"{n}.png\t{'ab'[n % 2]}\tg{n}\n" for n in range(4)))
    manifest = load_manifest(cells / name)
    assert [(one.path, one.label, one.group) for one in manifest.samples] == [
        (f"{n}.png", "ab"[n % 2], f"g{n}") for n in range(4)
    ]
    (cells / name).unlink()


@pytest.mark.parametrize("name", ["cells.xlsx", "cells.xls", "cells.ods"])
def test_a_workbook_that_is_named_says_how_to_save_it(cells: Path, name: str):
    begins = {
        "cells.xlsx": b"PK\x03\x04\x14\0[Content_Types].xml",
        "cells.xls": b"\xd0\xcf\x11\xe0",
        "cells.ods": b"PK\x03\x04\x14\0mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
    }
    (cells / name).write_bytes(begins[name] + bytes(60))
    with pytest.raises(DataError, match=r"it is an (old Excel|Excel|OpenDocument) workbook.* Save it as CSV UTF-8\."):
        load_manifest(cells / name)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("4.png", "such as 0.png"),
        ("cells/0.png", "such as 0.png"),
        ("0", "such as 0.png"),
        ("https://example.org/0.png", "is an address, expected a file"),
        ("s3://bucket/0.png", "is an address, expected a file"),
        ("file:///data/0.png", "is an address, expected a file"),
    ],
)
def test_an_image_that_is_not_there_is_refused_with_a_path_that_would_be(cells: Path, path: str, said: str):
    (cells / "manifest.csv").write_text(f"path,label\n{path},a\n1.png,b\n")
    with pytest.raises(DataError, match=re.escape(said)):
        load_manifest(cells, "csv")


GROUP_WORDS = (
    "group patient subject donor participant individual person pid mrn case accession specimen smear slide wsi"
)
GROUP_WORDS += " field fieldofview fov micrograph"
SUBSET_WORDS = "subset split set fold partition datasplit datasetsplit traintest trainval trainvaltest traintestsplit"
SUBSET_WORDS += " trainvalsplit trainvaltestsplit"


@pytest.mark.parametrize(
    ("words", "meaning"), [(GROUP_WORDS, "group"), (SUBSET_WORDS, "subset")], ids=["group", "subset"]
)
def test_each_of_these_words_alone_or_with_an_ending_has_its_meaning(words: str, meaning: str):
    endings = ("", "s", "_id", "IDs", " no", "Nr", "_num", "-number", "Name", "_code", ".key", "Index", "_idx")
    endings += ("UID", "_uuid", "File", "_path")
    for word in words.split():
        for ending in endings:
            assert meant_as(f"{word}{ending}") == meaning, (word, ending)
        assert meant_as(f"{word}x{word}") is None


def test_only_some_words_keep_their_meaning_after_others():
    kept = {word for word in GROUP_WORDS.split() if meant_as(f"pseudo_{word}") == "group"}
    assert kept == {"patient", "subject", "donor"}
    kept = {word for word in SUBSET_WORDS.split() if meant_as(f"repo_{word}") == "subset"}
    assert {"split", "subset", "fold", "partition"} <= kept
    assert "set" not in kept


def test_a_table_that_nobody_named_is_told_how_to_be_read_and_a_workbook_how_to_be_saved():
    said = how_to_name(Path("my cells.csv"))
    assert "name it (`cytolora check 'my cells.csv'`), or call it manifest.csv, with columns path,label" in said
    for name in ("cells.xlsx", "cells.ods"):
        assert "save it as manifest.csv (CSV UTF-8), with columns path,label" in how_to_name(Path(name))
        assert "cytolora check" not in how_to_name(Path(name))
