"""Croissant: what mlcroissant reads from the description is the dataset."""

import json
import shutil
from pathlib import Path

import mlcroissant
import numpy as np
import pytest
from PIL import Image

from cytolora.cli.app import main
from cytolora.data.croissant import RESPONSIBLE, UNKNOWN, VERSION, write_croissant
from cytolora.data.datasets import find_dataset, load_manifest
from cytolora.errors import ConfigError


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """Class folders and a table of groups and sites; names with blanks, brackets and letters beyond ASCII."""
    rng, lines = np.random.default_rng(0), ["path,label,group,site"]
    for label in ("hsil", "normal (ö)"):
        for number in range(6):
            name = f"{label}/cell [{number}].png"
            (tmp_path / "cells" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8 + number, 9, 3), dtype=np.uint8)).save(tmp_path / "cells" / name)
            lines.append(f"{name},{label},slide {number % 3},{'AB'[number % 2]}")
    (tmp_path / "cells" / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "cells"


def cli(*arguments: str | Path) -> int | None:
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code  # pyright: ignore[reportReturnType]


def read(path: Path) -> list[dict[str, object]]:
    """The records of the images, as text."""
    records = mlcroissant.Dataset(str(path)).records("images")
    plain = [{key.removeprefix("images/"): value for key, value in record.items()} for record in records]
    return [{key: one.decode() if isinstance(one, bytes) else one for key, one in row.items()} for row in plain]


@pytest.mark.parametrize("place", ["cells/croissant.json", "above.json"])
def test_records_are_the_images_with_their_pixels_class_group_subset_and_metadata(
    place: str, cells: Path, tmp_path: Path
):
    assert not cli("split", cells, "--croissant", tmp_path / place, "--out", tmp_path / "split.csv", "--quiet")
    split = dict(line.split(",")[:3:2] for line in (tmp_path / "split.csv").read_text(encoding="utf-8").splitlines())
    manifest, records = load_manifest(cells).with_hashes(), read(tmp_path / place)
    prefix = "" if "/" in place else "cells/"
    found = {str(row["file_name"]).removeprefix(prefix): row for row in records}
    assert found.keys() == {one.path for one in manifest.samples}
    for one in manifest.samples:
        row = found[one.path]
        told = {"label": one.label, "group": one.group, "sha256": one.sha256, "split": split[one.path]}
        told["meta_site"] = dict(one.metadata)["site"]
        assert {name: row[name] for name in told} == told
        assert np.array_equal(np.asarray(row["image"]), np.asarray(Image.open(cells / one.path)))


def test_the_description_has_what_the_specification_requires_but_what_nobody_told(
    cells: Path, capsys: pytest.CaptureFixture[str]
):
    assert not cli("check", cells, "--croissant", cells / "croissant.json", "--quiet")
    assert "license, url, creator, datePublished" in capsys.readouterr().out
    described = json.loads((cells / "croissant.json").read_text(encoding="utf-8"))
    assert described["conformsTo"] == [VERSION, RESPONSIBLE]
    assert {"@context", "@type", "name", "description", "distribution", "recordSet"} <= described.keys()
    assert described["rai:dataAnnotationProtocol"] == UNKNOWN
    issues = mlcroissant.Dataset(str(cells / "croissant.json")).metadata.ctx.issues
    assert not issues.errors


def test_what_is_missing_is_one_text_and_the_file_is_called_json(cells: Path, capsys: pytest.CaptureFixture[str]):
    (cells / "notes.txt").write_text("notes")
    Image.new("RGB", (8, 8)).save(cells / "overview.png")
    described = cells / "croissant.json"
    assert cli("check", cells, "--croissant", described, "--quiet") == 1, "there are findings"
    missing = json.loads(described.read_text(encoding="utf-8"))["rai:dataCollectionMissingData"]
    assert isinstance(missing, str)
    assert "1 image that manifest.csv does not list is left out" in missing
    assert "1 file that is no image is not read" in missing
    issues = mlcroissant.Dataset(str(described)).metadata.ctx.issues
    assert not [one for one in (*issues.errors, *issues.warnings) if "cardinality" in str(one)]
    assert cli("check", cells, "--croissant", cells / "c.txt", "--quiet") == 2
    assert "name that ends in .json" in " ".join(capsys.readouterr().err.split())
    assert not (cells / "c.txt").exists()


def test_a_published_dataset_says_its_page_licence_and_authors(cells: Path):
    manifest = load_manifest(cells)
    missing = write_croissant(manifest, cells / "c.json", spec=find_dataset("sipakmed"), findings=())
    described = json.loads((cells / "c.json").read_text(encoding="utf-8"))
    assert missing == ["datePublished"]
    assert described["url"] == find_dataset("sipakmed").page
    assert described["creator"][0]["name"] == "Plissiti"
    assert described["citeAs"] == find_dataset("sipakmed").citation


def test_the_description_in_the_folder_changes_nothing_of_the_dataset(cells: Path):
    before = load_manifest(cells)
    assert not cli("check", cells, "--croissant", cells / "croissant.json", "--quiet")
    again = load_manifest(cells)
    assert (again.fingerprint, again.findings) == (before.fingerprint, before.findings)


def test_class_folders_stay_class_folders_with_a_description_beside_them(cells: Path):
    (cells / "manifest.csv").unlink()
    before = load_manifest(cells)
    assert not cli("check", cells, "--croissant", cells / "croissant.json", "--quiet")
    again = load_manifest(cells)
    assert (again.fingerprint, again.findings) == (before.fingerprint, before.findings)


def test_files_that_are_no_part_of_the_dataset_are_no_part_of_the_description(cells: Path):
    Image.new("RGB", (8, 8)).save(cells / "overview.png")
    assert cli("check", cells, "--croissant", cells / "croissant.json", "--quiet") in (0, 1, None)
    assert {row["file_name"] for row in read(cells / "croissant.json")} == {
        one.path for one in load_manifest(cells).samples
    }


def test_a_place_from_which_images_cannot_be_named_is_one_line_and_writes_nothing(
    cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "other").mkdir()
    assert cli("check", cells, "--croissant", tmp_path / "other" / "c.json", "--quiet") == 2
    assert str(cells / "croissant.json") in " ".join(capsys.readouterr().err.split())
    assert not list((tmp_path / "other").iterdir())
    with pytest.raises(ConfigError, match="Cannot write"):
        write_croissant(load_manifest(cells), tmp_path / "cells" / "hsil", spec=None, findings=())


def test_classes_that_begin_like_a_formula_are_joined_with_their_images(tmp_path: Path):
    for label in ("+", "-pos", "=x"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (8, 8), (len(label), 0, ord(label[0]))).save(tmp_path / label / "0.png")
    write_croissant(load_manifest(tmp_path), tmp_path / "c.json", spec=None, findings=())
    assert {(row["file_name"], row["label"]) for row in read(tmp_path / "c.json")} == {
        ("+/0.png", "+"),
        ("-pos/0.png", "-pos"),
        ("=x/0.png", "=x"),
    }


@pytest.mark.parametrize("name", ["manifest.csv", "notes.json", "mine.json"])
def test_a_file_of_ones_own_is_not_overwritten(name: str, cells: Path, capsys: pytest.CaptureFixture[str]):
    (cells / "notes.json").write_text("{}")
    (cells / "mine.json.csv").write_text("mine")
    before = {path.name: path.read_bytes() for path in cells.iterdir() if path.is_file()}
    assert cli("check", cells, "--croissant", cells / name, "--quiet") == 2
    assert "would be lost" in " ".join(capsys.readouterr().err.split())
    assert {path.name: path.read_bytes() for path in cells.iterdir() if path.is_file()} == before
    for _ in range(2):
        assert not cli("check", cells, "--croissant", cells / "croissant.json", "--quiet")


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_description_named_as_data_is_one_line_with_its_version_and_the_folder(
    version: str, cells: Path, capsys: pytest.CaptureFixture[str]
):
    described = cells / "croissant.json"
    write_croissant(load_manifest(cells), described, spec=None, findings=())
    described.write_text(described.read_text(encoding="utf-8").replace(VERSION, VERSION[:-3] + version))
    assert cli("check", described, "--quiet") == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"describes a dataset (Croissant {version})" in said
    assert f"the folder that it lies in, {cells}" in said


def test_what_the_author_wrote_into_the_description_stays_when_it_is_written_again(
    cells: Path, capsys: pytest.CaptureFixture[str]
):
    described = cells / "croissant.json"
    assert not cli("check", cells, "--croissant", described, "--quiet")
    mine = {"license": "CC-BY-4.0", "creator": [{"@type": "Person", "name": "A. Author"}], "citeAs": "Our paper."}
    mine |= {"rai:annotatorDemographics": "Two cytologists."}
    before = json.loads(described.read_text(encoding="utf-8"))
    conforms = [{"@id": one} for one in before["conformsTo"]]
    told = {**before, **mine, "conformsTo": conforms, "name": "not its name"}
    described.write_text(json.dumps(told), encoding="utf-8")
    capsys.readouterr()
    assert not cli("check", cells, "--croissant", described, "--quiet")
    assert json.loads(described.read_text(encoding="utf-8")) == {**before, **mine}
    assert "No file tells its url, datePublished" in " ".join(capsys.readouterr().out.split())


def test_a_description_of_another_version_is_not_replaced(cells: Path, capsys: pytest.CaptureFixture[str]):
    described = cells / "croissant.json"
    described.write_text(json.dumps({"conformsTo": "http://mlcommons.org/croissant/1.0", "name": "mine"}))
    before = described.read_bytes()
    assert cli("check", cells, "--croissant", described, "--quiet") == 2
    assert "of another version (http://mlcommons.org/croissant/1.0): it would be lost" in " ".join(
        capsys.readouterr().err.split()
    )
    assert described.read_bytes() == before
    assert not described.with_name("croissant.json.csv").exists()


def test_a_zip_file_is_to_be_unpacked_first(cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", cells)
    assert cli("check", packed, "--croissant", tmp_path / "c.json", "--quiet") == 2
    assert "unpack it first" in " ".join(capsys.readouterr().err.split())
