"""What holds for every published dataset, tried on a tiny download in its exact layout."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from finding_texts import texts
from tiny_downloads import DOWNLOADS, packed, paint_all

from cytolora.data.datasets import DATASETS, find_dataset, load_manifest, recognise
from cytolora.data.manifest import Manifest
from cytolora.errors import DataError

MakeDownload = Callable[[str], Path]

every_source = pytest.mark.parametrize("name", DOWNLOADS)


@pytest.fixture
def download(tmp_path: Path) -> MakeDownload:
    def make(name: str) -> Path:
        (tmp_path / "download").mkdir(exist_ok=True)
        return DOWNLOADS[name].make(tmp_path / "download")

    return make


def _groups(manifest: Manifest) -> set[str]:
    return {sample.group for sample in manifest.samples if sample.group is not None}


def test_every_published_dataset_has_a_download_here():
    assert {spec.name for spec in DATASETS if not (spec.generic or spec.drawn)} == set(DOWNLOADS)


@every_source
def test_classes_counts_subsets_and_groups_are_those_of_the_download(name: str, download: MakeDownload):
    expected, manifest = DOWNLOADS[name], load_manifest(download(name), name)
    assert manifest.name == find_dataset(name).name
    assert manifest.classes == find_dataset(name).classes
    assert {label: row["all"] for label, row in manifest.counts().items()} == dict(expected.counts)
    assert tuple(manifest.counts()) == tuple(expected.counts)
    found = {subset: len(manifest.subset(subset)) for subset in ("train", "val", "test")}
    assert found == {"train": 0, "val": 0, "test": 0} | dict(expected.subsets)
    assert _groups(manifest) == expected.groups
    assert manifest.has_groups == bool(expected.groups) == bool(manifest.group_rule)
    assert manifest.has_subsets == bool(expected.subsets) == bool(manifest.split_rule)


@every_source
def test_samples_are_sorted_and_fingerprinted_and_the_same_in_every_copy(
    name: str, download: MakeDownload, tmp_path: Path
):
    root = download(name)
    manifest = load_manifest(root, name)
    paths = [sample.path for sample in manifest.samples]
    assert paths == sorted(paths)
    assert all(len(sample.sha256) == 64 and (manifest.root / sample.path).is_file() for sample in manifest.samples)
    shutil.copytree(root, tmp_path / "copy")
    assert load_manifest(tmp_path / "copy", name).fingerprint == manifest.fingerprint


@every_source
def test_a_zip_file_gives_what_the_folder_gives(name: str, download: MakeDownload, tmp_path: Path):
    root = download(name)
    archive = packed(root, tmp_path / "archive.zip")
    expected = load_manifest(root, name).fingerprint
    assert load_manifest(archive, name, cache=tmp_path / "cache").fingerprint == expected


@every_source
def test_the_download_itself_is_left_as_it_is(name: str, download: MakeDownload):
    root = download(name)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    load_manifest(root, name)
    assert {path: path.read_bytes() for path in before} == before


@every_source
def test_a_download_is_recognised_unless_anyone_may_use_such_names(name: str, download: MakeDownload):
    root = download(name)
    known = [spec.name for spec in DATASETS if not spec.generic and spec.looks_like(root)]
    assert known == ([name] if DOWNLOADS[name].is_recognised else [])


@every_source
def test_fewer_images_than_published_are_one_note_with_both_numbers(name: str, download: MakeDownload):
    spec, root = find_dataset(name), download(name)
    [note] = [one for one in load_manifest(root, name).findings if "published" in one.text]
    numbers = {*spec.expected_counts.values(), *spec.expected_subsets.values(), spec.expected_total} - {None}
    assert (note.code, note.severity) == ("F215", "note")
    assert all(any(f"of {number:,}" in text for number in numbers) for text in note.examples)
    with pytest.raises(DataError, match="are published"):
        load_manifest(root, name, strict=True)


@pytest.mark.parametrize("name", sorted(DOWNLOADS.keys() - {"bloodmnist", "cric"}))  # there no class can go alone
def test_a_class_that_is_gone_is_named(name: str, download: MakeDownload):
    root = download(name)
    manifest = load_manifest(root, name)
    for sample in manifest.samples:
        if sample.label == manifest.classes[-1]:
            (manifest.root / sample.path).unlink()
    with pytest.raises(DataError, match=r"complete the download|unpack the download again|has no images"):
        load_manifest(root, name)


@every_source
def test_another_folder_is_refused_with_what_was_found_and_expected(name: str, tmp_path: Path):
    holiday = paint_all(tmp_path / "holiday", ["2024/beach", "2025/forest"], ".jpg")
    with pytest.raises(DataError, match=r"holiday is not .*expected ") as caught:
        load_manifest(holiday, name)
    assert "\n" not in str(caught.value)
    assert not any(spec.looks_like(holiday) for spec in DATASETS if not spec.generic)
    assert recognise(holiday).name == "folder"


@pytest.mark.parametrize("kind", ["empty", "file"])
@every_source
def test_an_empty_folder_and_a_file_are_refused(name: str, kind: str, tmp_path: Path):
    path = tmp_path / "it"
    if kind == "empty":
        path.mkdir()
    else:
        path.write_bytes(b"no image")
    with pytest.raises(DataError):
        load_manifest(path, name)


@pytest.mark.parametrize("name", [name for name, made in DOWNLOADS.items() if made.subsets and name != "bloodmnist"])
def test_the_class_list_is_the_same_whatever_stands_in_one_subset(name: str, download: MakeDownload):
    root = download(name)
    manifest = load_manifest(root, name)
    gone = [sample for sample in manifest.subset("test") if sample.label == manifest.classes[0]]
    for sample in gone:
        (root / sample.path).unlink()
    table = root / "test.csv"
    if table.exists():
        rows = table.read_text().splitlines(keepends=True)
        table.write_text("".join(row for row in rows if not any(Path(one.path).name in row for one in gone)))
    smaller = load_manifest(root, name)
    assert smaller.classes == manifest.classes
    assert any(f"class {manifest.classes[0]!r} has no images in test" in text for text in texts(smaller.findings))
