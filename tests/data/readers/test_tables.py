"""Columns of a table that are meant as group or subset, however they are spelled, are never dropped in silence."""

import csv
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.cli.app import main
from cytolora.data.datasets import load_manifest
from cytolora.data.readers.tables import GROUP, SUBSET, meant_as
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


def test_a_name_stands_for_one_thing_alone():
    assert not set(GROUP) & set(SUBSET)
