"""Classes and groups whose names differ by what nobody means are named, and no split tears such groups."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.core.findings import Finding
from cytolora.data.datasets import load_manifest
from cytolora.data.grouping import as_known_groups, group_key, names_of_groups
from cytolora.data.label_map import apply_label_map
from cytolora.data.manifest import Manifest, Sample
from cytolora.data.similar_names import join_groups, with_label_findings
from cytolora.data.splitting.leave_out import left_out
from cytolora.data.splitting.splits import assign_subsets

NUMBERS = "leading zeros, the form of a number, quotes or slashes"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 images; every test writes its own table of them."""
    folder = tmp_path_factory.mktemp("cells")
    for number in range(24):
        Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(folder / f"{number:02}.png")
    return folder


def read(cells: Path, *, labels: tuple[str, ...] = ("a", "b"), groups: tuple[str, ...] = ()) -> Manifest:
    """Reads a table whose rows take labels and groups in turn."""
    with (cells / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", *(["group"] if groups else [])])
        for number in range(24):
            group = [groups[number // len(labels) % len(groups)]] if groups else []
            writer.writerow([f"{number:02}.png", labels[number % len(labels)], *group])
    return load_manifest(cells, "csv")


def with_code(manifest: Manifest, code: str) -> list[Finding]:
    return [one for one in manifest.findings if one.code == code]


@pytest.mark.parametrize(
    ("labels", "by"),
    [
        (("hsil", "HSIL"), "case"),
        (("low grade", "low-grade"), "a dash, underscore or blank"),
        (("ASC-US", "ASC_US"), "a dash, underscore or blank"),
        (("ASCUS", "asc-us"), "case and a dash, underscore or blank"),
        (("CIN2", "CIN²"), "Unicode form"),
        (("NILM", "Nilm", "nilm"), "case"),
        (("koilo-cytotic", "koilocytotic"), "a dash, underscore or blank"),
        (("grade１", "grade1"), "Unicode form"),
        (("1", "1.0"), NUMBERS),
        (("0", "00"), NUMBERS),
        (("CIN 01", "cin1"), NUMBERS),
        (("hsil", "'hsil'"), NUMBERS),
        (("ASC-H/HSIL", "ASC-H-HSIL"), NUMBERS),
        (("3,0", "3"), NUMBERS),
    ],
)
def test_labels_of_a_table_that_differ_by_little_are_named_with_their_counts(
    cells: Path, labels: tuple[str, ...], by: str
):
    manifest = read(cells, labels=(*labels, "other"))
    assert set(manifest.classes) == {*labels, "other"}
    (one,) = with_code(manifest, "L401")
    assert str(one).endswith(f" differ only by {by}.")
    for label in labels:
        assert f"{label!r} ({24 // (len(labels) + 1)} images)" in str(one)
    assert (one.count, set(one.examples)) == (len(labels), set(labels))


@pytest.mark.parametrize("other", ["hsil ", "HSIL", "hs\u200bil", " hsil", "h-sil", "hsi\u0301l"])
def test_class_folders_that_look_alike_are_told_apart_in_print(tmp_path: Path, other: str):
    first = "hsíl" if "\u0301" in other else "hsil"
    for number, (part, label) in enumerate((("train", first), ("train", "nilm"), ("test", other), ("test", "nilm"))):
        folder = tmp_path / part / label
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (60 * number, 0, 0)).save(folder / "x.png")
    manifest = load_manifest(tmp_path)
    (one,) = with_code(manifest, "L401")
    assert set(one.examples) == {first, other}
    assert len(set(str(one).split("'")[1::2])) == 2


def test_labels_of_one_normal_form_are_one_class_and_it_is_said(cells: Path):
    manifest = read(cells, labels=("low grade", "low\u00a0grade", "Tra\u0308ger", "Träger", "hsil\u200b", "hsil"))
    assert Counter(one.label for one in manifest.samples) == {"low grade": 8, "Träger": 8, "hsil": 8}
    (one,) = with_code(manifest, "T302")
    assert one.count == 3
    assert r"'low grade' = 'low\xa0grade'" in str(one)
    assert not with_code(manifest, "L401")


@pytest.mark.parametrize(
    "label",
    ["nan", "NaN", "NA", "n/a", "N/A", "#N/A", "None", "null", "NULL", "-", "?", "<NA>", "missing", "(blank)", "NaT"],
)
def test_a_class_named_like_a_missing_value_is_named_with_its_count(cells: Path, label: str):
    (one,) = with_code(read(cells, labels=("hsil", "nilm", label)), "L403")
    assert f"{label!r} (8 images)" in str(one)
    assert (one.count, one.examples, one.severity) == (8, (label,), "warning")


@pytest.mark.parametrize(
    "labels",
    [
        ("hsil", "lsil", "nilm", "asc-us", "asc-h", "scc"),
        ("unknown", "NIL", "other", "no cell"),
        ("HPV+", "HPV-", "HPV"),
        ("CIN1", "CIN2", "CIN3", "CIN1-2", "CIN12"),
        ("1", "2", "10", "0", "1-0"),
        ("AGC", "AGC-NOS", "AGC-EC-NOS", "ADC"),
        ("negative", "positive", "nonspecific"),
        ("na-thin", "nannies", "nonesuch"),
    ],
)
def test_ordinary_classes_give_no_finding_of_labels(cells: Path, labels: tuple[str, ...]):
    assert not [one for one in read(cells, labels=labels).findings if one.code[0] in "LT"]


def test_a_label_map_that_joins_similar_classes_is_the_cure(cells: Path, tmp_path: Path):
    manifest = read(cells, labels=("hsil", "HSIL", "nan", "nilm"))
    assert {one.code for one in manifest.findings} == {"L401", "L403"}
    (tmp_path / "map.csv").write_text("from,to\nhsil,hsil\nHSIL,hsil\nnan,\nnilm,nilm\n")
    assert not apply_label_map(manifest, tmp_path / "map.csv").findings
    (tmp_path / "map.csv").write_text("from,to\nhsil,x\nHSIL,X\nnan,none\nnilm,nilm\n")
    assert {one.code for one in apply_label_map(manifest, tmp_path / "map.csv").findings} == {"L401", "L403"}


SAME_GROUPS = [
    (("007", "7", "7.0", "7 ", "07"), ["L402"]),
    (("P01", "P1", "p1", "P-1", "P 1"), ["L402"]),
    (("slide_3", "slide-3", "Slide 3"), ["L402"]),
    (("12,0", "12", "12.00"), ["L402"]),
    (("2020-01-02", "2020-1-2"), ["L402"]),
    (("A–12", "A-12", "a12"), ["L402"]),
    (("case\u00a07", "case 7", "case\u200b 7"), ["T302"]),
    (("Mu\u0308ller", "Müller"), ["T302"]),
    (("7 ", "7"), []),
    (('="007"', "007", "'007", '"7"'), ["L402"]),
    (("H19/1234", "H19-1234", "h19_1234"), ["L402"]),
    (("12/2020", "12-2020", "012/2020"), ["L402"]),
]


@pytest.mark.parametrize(("forms", "codes"), SAME_GROUPS)
def test_a_group_written_in_several_forms_is_one_group_that_no_split_tears(
    cells: Path, forms: tuple[str, ...], codes: list[str]
):
    others = tuple(f"other{letter}" for letter in "abcde")
    manifest = read(cells, groups=(*forms, *others))
    assert [one.code for one in manifest.findings] == codes
    (name,) = {one.group for one in manifest.samples} - set(others)
    assert name in {" ".join(form.split()) for form in forms} | {"Müller"}
    divided = assign_subsets(manifest, SplitSpec())
    assert len({one.subset for one in divided.samples if one.group == name}) == 1


@pytest.mark.parametrize(
    "groups",
    [
        ("001", "002", "010", "100"),
        ("1.1", "1.10", "1.2", "1.01"),
        ("P1", "P10", "P100", "P1001"),
        ("1-2", "12", "1-20"),
        ("0", "1", "2"),
        ("149014631-149014646", "149014631-149014656"),
        ("a1b0", "a1b", "a10b"),
        ("7.5", "75", "7"),
        ("1/22", "12/2", "122"),
        ("O'7", "O7", "7"),
        ("1E5", "2E5", "100000"),
    ],
)
def test_groups_that_are_several_stay_several_without_a_finding(cells: Path, groups: tuple[str, ...]):
    manifest = read(cells, groups=groups)
    assert {one.group for one in manifest.samples} == set(groups)
    assert not manifest.findings


@given(number=st.integers(0, 10**12), zeros=st.lists(st.integers(0, 9), min_size=2, max_size=6))
def test_a_number_is_one_group_with_any_zeros_before_or_after_the_point(number: int, zeros: list[int]):
    forms = [f"{'0' * count}{number}{'.' + '0' * count if count > 1 else ''}" for count in zeros]
    assert {group_key(form) for form in forms} == {str(number)}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30, unique=True), st.integers(7, 9))
def test_numbers_of_one_width_stay_apart(numbers: list[int], width: int):
    groups = [f"{number:0{width}}" for number in numbers]
    assert names_of_groups(groups) == {group: group for group in groups}


def test_the_name_of_joined_groups_is_the_most_frequent_one_in_any_order_of_the_rows():
    groups = ["7.0", "007", "7", "007", "P1", "p1"]
    samples = [Sample(path=f"{number}.png", label="a", group=group) for number, group in enumerate(groups)]
    joined, findings = join_groups("toy", samples)
    assert [one.group for one in joined] == ["007", "007", "007", "007", "P1", "P1"]
    assert [one.code for one in findings] == ["L402"]
    assert "'007' = '7' = '7.0'" in str(findings[0])
    again, _ = join_groups("toy", reversed(samples))
    assert sorted(again) == sorted(joined)


def test_groups_of_another_table_take_the_names_that_are_known():
    assert as_known_groups(["7", "9", "p2"], ["007", "P2", "8"]) == {"7": "007", "9": "9", "p2": "P2"}


def test_findings_of_labels_are_said_once_however_often_they_are_looked_for(cells: Path):
    manifest = read(cells, labels=("hsil", "HSIL"))
    assert with_label_findings(with_label_findings(manifest)).findings == manifest.findings


def test_the_command_line_counts_similar_labels_and_groups_as_problems(cells: Path, capsys: pytest.CaptureFixture[str]):
    read(cells, labels=("hsil", "HSIL"), groups=("007", "7", "8"))
    with pytest.raises(SystemExit) as stopped:
        main(["check", str(cells), "--quiet"])
    said = capsys.readouterr().out
    assert stopped.value.code == 1
    assert "! L401 " in said
    assert (
        "! L402 manifest.csv: groups written in several forms, which count as one group each: 1, namely '007' = '7'."
        in said
    )


@pytest.mark.parametrize("missing", ["nan", "NaN", "NA", "-", "?", "none", "#N/A", "unknown", "<NA>", "Unknown "])
def test_a_group_named_like_a_missing_value_is_not_known(cells: Path, missing: str):
    manifest = read(cells, groups=(*(f"P{number}" for number in range(5)), missing))
    assert {one.group for one in manifest.samples} == {"P0", "P1", "P2", "P3", "P4", None}
    assert sum(one.group is None for one in manifest.samples) == 4
    (one,) = with_code(manifest, "L406")
    assert (one.severity, one.count, one.examples) == ("warning", 4, (missing.strip(),))
    assert f"{missing.strip()!r} (4 images)" in str(one)


def test_a_table_whose_groups_are_all_missing_has_none(cells: Path):
    manifest = read(cells, groups=("nan", "NA"))
    assert {one.group for one in manifest.samples} == {None}
    assert manifest.group_rule == ""


@pytest.mark.parametrize("group", ["2.02411E+11", "1,5e+12", "3E+09", "-1.0E+10", "9.87654321E+15", "1e+100"])
def test_a_number_that_a_spreadsheet_rounded_is_no_group_to_trust(cells: Path, group: str):
    (one,) = with_code(read(cells, groups=("P1", "P2", "P3", group)), "L407")
    assert (one.severity, one.count, one.examples) == ("warning", 1, (group,))


def with_column(cells: Path, column: str, values: tuple[str, ...]) -> Manifest:
    with (cells / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", column])
        writer.writerows(
            [f"{number:02}.png", "ab"[number % 2], values[number // 2 % len(values)]] for number in range(24)
        )
    return load_manifest(cells, "csv")


def values_of(manifest: Manifest, column: str) -> set[str | None]:
    return {dict(one.metadata).get(column) for one in manifest.samples}


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("site", ("Basel", "BASEL", "Basel"), {"Basel"}),
        ("site", ("Basel", "Ba\u200bsel", "Basel", "Bern"), {"Basel", "Bern"}),
        ("scanner", ("P-250", "P-250", "p 250"), {"P-250"}),
        ("scanner", ("3D  Histech", "3D Histech", "3D Histech"), {"3D Histech"}),
        ("stain", ("Pap", "Pap", "nan", "PAP"), {"Pap", None}),
        ("site", ("Zu\u0308rich", "Zürich", "Zürich"), {"Zürich"}),
        ("site", ("1", "01", "1.0", "1"), {"1"}),
        ("preparation", ("LBC", "n/a"), {"LBC", None}),
    ],
)
def test_metadata_in_several_forms_of_one_text_is_one_value_and_it_is_said(
    cells: Path, column: str, values: tuple[str, ...], expected: set[str | None]
):
    manifest = with_column(cells, column, values)
    assert values_of(manifest, column) == expected
    (said,) = with_code(manifest, "T302")
    assert f"column {column!r}" in said.text


def test_a_site_in_two_forms_is_left_out_whole(cells: Path):
    manifest = with_column(cells, "site", ("Basel", "Bern", "basel", "Basel"))
    taken = left_out(manifest, "site=Basel", by_group=True, with_copies=False).paths
    assert taken == {f"{number:02}.png" for number in range(24) if number // 2 % 4 != 1}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("site", ("Basel", "Bern")),
        ("mpp", ("0.25", "0.5")),
        ("scanner", ("AT2", "GT450", "")),
        ("stain", ("1.1", "1.10")),
    ],
)
def test_ordinary_metadata_stays_as_it_is_without_a_finding(cells: Path, column: str, values: tuple[str, ...]):
    manifest = with_column(cells, column, values)
    assert values_of(manifest, column) == {value or None for value in values}
    assert with_code(manifest, "T302") == []
