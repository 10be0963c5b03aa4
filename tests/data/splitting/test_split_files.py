"""A split that was written is read back for the same images, and for no others."""

import csv
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cytolora.config.run import Sampling, SplitSpec
from cytolora.core.delimited import csv_line
from cytolora.core.findings import Finding
from cytolora.data.datasets import load_manifest
from cytolora.data.label_map import LabelMap, apply_label_map
from cytolora.data.manifest import Manifest
from cytolora.data.splitting.split_files import images_fingerprint, read_split, write_split
from cytolora.data.splitting.splits import assign_subsets, draw
from cytolora.errors import ConfigError, DataError


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    for number in range(20):
        path = tmp_path / "cells" / "ab"[number % 2] / f'{number}, "x".png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 3), (number, 0, 0)).save(path)
    return tmp_path / "cells"


@pytest.fixture
def divided(cells: Path) -> Manifest:
    return assign_subsets(load_manifest(cells), SplitSpec(seed=3))


def test_a_split_comes_back_as_it_was_written(cells: Path, divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    again = read_split(tmp_path / "split.csv", load_manifest(cells))
    assert again.samples == divided.samples
    assert again.split_rule == f"{divided.split_rule} (from split.csv)"
    assert draw(again, Sampling(shots=2), 0).fingerprint == draw(divided, Sampling(shots=2), 0).fingerprint


def test_a_split_file_is_plain_csv(divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert list(rows[0])[:4] == ["path", "label", "subset", "group"]
    assert len(rows) == 20
    assert len(rows[0]["fingerprint"]) == 64


def test_a_label_map_keeps_a_split(cells: Path, divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    labels = LabelMap(targets={"a": "b", "b": "a"}, classes=("b", "a"), is_ordered=False)
    swapped = read_split(tmp_path / "split.csv", apply_label_map(load_manifest(cells), labels))
    assert [sample.subset for sample in swapped.samples] == [sample.subset for sample in divided.samples]


def test_a_split_of_other_bytes_is_refused(cells: Path, divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    Image.new("RGB", (3, 3), (99, 0, 0)).save(cells / divided.samples[0].path)
    with pytest.raises(DataError, match="was made for other images"):
        read_split(tmp_path / "split.csv", load_manifest(cells))


def test_missing_and_additional_images_are_named_with_their_number(cells: Path, divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    fewer = replace(divided, samples=divided.samples[1:])
    with pytest.raises(
        DataError, match=re.escape(f"lists 1 image that cells does not have, the first is {divided.samples[0].path}")
    ):
        read_split(tmp_path / "split.csv", fewer)
    write_split(fewer, tmp_path / "split.csv")
    with pytest.raises(DataError, match=r"cells has 1 image that .*split.csv does not list"):
        read_split(tmp_path / "split.csv", divided)


def test_a_split_made_by_hand_needs_path_and_subset_only(tmp_path: Path, cells: Path):
    manifest = load_manifest(cells)
    with (tmp_path / "mine.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "subset"], *([sample.path, "Train"] for sample in manifest.samples)])
    read = read_split(tmp_path / "mine.csv", manifest)
    assert {sample.subset for sample in read.samples} == {"train"}
    assert read.split_rule == "from mine.csv"


@pytest.mark.parametrize(
    ("row", "message"),
    [("x.png,dev", "line 2: subset 'dev'"), ("x.png,train\nx.png,val", "line 3: x.png is listed twice")],
)
def test_a_wrong_line_is_named(tmp_path: Path, divided: Manifest, row: str, message: str):
    (tmp_path / "split.csv").write_text(f"path,subset\n{row}\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read_split(tmp_path / "split.csv", divided)


def test_a_split_by_names_holds_no_fingerprint_and_fits_other_bytes(cells: Path, divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv", by_names=True)
    rows = list(csv.DictReader((tmp_path / "split.csv").open()))
    assert {row["fingerprint"] for row in rows} == {""}
    assert [row["split_rule"] for row in rows] == [divided.split_rule, *[""] * 19]
    Image.new("RGB", (3, 3), (99, 0, 0)).save(cells / divided.samples[0].path)
    again = read_split(tmp_path / "split.csv", load_manifest(cells))
    assert [one.subset for one in again.samples] == [one.subset for one in divided.samples]


def test_images_whose_bytes_were_not_hashed_yet_have_the_same_fingerprint(cells: Path):
    manifest = load_manifest(cells).with_hashes()
    bare = replace(manifest, samples=tuple(replace(sample, sha256="") for sample in manifest.samples))
    assert images_fingerprint(bare) == images_fingerprint(manifest)
    assert len(images_fingerprint(manifest)) == 64


def test_what_a_file_says_of_itself_stands_in_one_row_and_twice_is_refused(divided: Manifest, tmp_path: Path):
    write_split(divided, tmp_path / "split.csv")
    rows = list(csv.reader((tmp_path / "split.csv").open()))
    assert len(rows[1][4]) == 64
    assert [row[4:] for row in rows[2:]] == [["", ""]] * 19
    rows[7][5] = "by hand"
    (tmp_path / "split.csv").write_text("".join(map(csv_line, rows)))
    with pytest.raises(DataError, match=r"column 'split_rule' has several values, expected one: by hand and divided"):
        read_split(tmp_path / "split.csv", divided)


def test_an_undivided_dataset_has_no_split_to_write(cells: Path, tmp_path: Path):
    with pytest.raises(DataError, match="there is no split to write"):
        write_split(load_manifest(cells), tmp_path / "split.csv")
    assert not (tmp_path / "split.csv").exists()


def with_groups(cells: Path, tmp_path: Path, groups: tuple[str, ...], named: tuple[str, ...] = ()) -> list[Finding]:
    """Reads a split file whose rows take groups in turn, for a dataset whose rows take others."""
    images = [path.relative_to(cells).as_posix() for path in sorted(cells.rglob("*.png"))]
    if named:
        rows = [(image, image[0], named[number % len(named)]) for number, image in enumerate(images)]
        (cells / "manifest.csv").write_text("".join(map(csv_line, [("path", "label", "group"), *rows])))
    subsets = ("train", "val", "test", "train")
    rows = [(image, subsets[n % 4], groups[n % len(groups)]) for n, image in enumerate(images)]
    (tmp_path / "split.csv").write_text("".join(map(csv_line, [("path", "subset", "group"), *rows])))
    manifest = load_manifest(cells)
    return list(read_split(tmp_path / "split.csv", manifest).findings[len(manifest.findings) :])


@pytest.mark.parametrize(
    ("groups", "named", "number", "torn"),
    [
        (("p1", "p1", "p3", "p4"), (), 20, 1),
        (("p1", "p2", "p3", "p4"), (), 20, 0),
        (("p1", "p2"), ("p1", "p3"), 10, 2),
        (("7", "7", "9", "7"), ("007", "08", "10", "7.0"), 10, 1),
        (("p1", "", "p3", "p4"), (), 15, 0),
    ],
)
def test_groups_of_a_split_file_that_the_dataset_does_not_have_are_named_and_whether_it_tears_them(
    cells: Path, tmp_path: Path, groups: tuple[str, ...], named: tuple[str, ...], number: int, torn: int
):
    found = with_groups(cells, tmp_path, groups, named)
    assert [(one.code, one.count) for one in found] == [("T301", number), *([("D505", torn)] if torn else [])]


@pytest.mark.parametrize(
    ("groups", "counts"),
    [
        (("p1", *[""] * 19), ["names other groups than cells for 1 image; namely a/0,"]),
        (
            ("p1", "p1", *[""] * 18),
            ["names other groups than cells for 2 images; namely a/0,", "split.csv: 1 group stands in more than one"],
        ),
        (
            ("p2", "p2", "p1", "p1", *[""] * 16),
            ["for 4 images; the first are a/0,", "split.csv: 2 groups stand in more than one subset"],
        ),
    ],
)
def test_other_groups_of_a_split_file_are_told_with_the_numbers_of_images_and_torn_groups(
    cells: Path, tmp_path: Path, groups: tuple[str, ...], counts: list[str]
):
    texts = [str(one) for one in with_groups(cells, tmp_path, groups)]
    assert len(texts) == len(counts)
    assert all(part in text for part, text in zip(counts, texts, strict=True)), texts


@pytest.mark.parametrize(
    ("groups", "named"),
    [(("p1", "p2"), ("p1", "p2")), (("7", "08"), ("007", "8")), (("", "nan"), ()), (("", "p2"), ("p1", "p2"))],
)
def test_groups_of_a_split_file_that_are_those_of_the_dataset_are_nothing_to_speak_of(
    cells: Path, tmp_path: Path, groups: tuple[str, ...], named: tuple[str, ...]
):
    assert with_groups(cells, tmp_path, groups, named) == []


def test_a_table_of_labels_is_not_replaced_by_a_split(divided: Manifest, tmp_path: Path):
    out = tmp_path / "manifest.csv"
    out.write_text("path,label,subset\na.png,hsil,train\n")
    with pytest.raises(ConfigError, match="is there and is no split file; it would be lost"):
        write_split(divided, out)
    assert out.read_text().startswith("path,label,subset\na.png")
