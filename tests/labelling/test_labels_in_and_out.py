"""Labels of a project leave and come in through the exchange formats, and what a project has settled is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
from labelling_projects import CLASSES, make_project, truth_of, write_cells

import cytolora
from cytolora.classifier.fit.config import FitOptions
from cytolora.cli.app import main
from cytolora.config.reading import ReadOptions
from cytolora.data.datasets import load_manifest
from cytolora.data.exchange.formats import FORMATS, convert
from cytolora.data.manifest import Manifest, Sample
from cytolora.errors import ConfigError, DataError
from cytolora.labelling.labels_elsewhere import read_labels
from cytolora.labelling.session import Labelling, create_project

WRITTEN = {"coco": "coco.json", "cvat": "cvat.xml", "fiftyone": "labels.json", "imagefolder": "metadata.csv",
           "label-studio": "tasks.json", "qupath": "qupath"}  # fmt: skip


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Six labelled cells of twelve, two of them in a sub-folder."""
    folder = tmp_path_factory.mktemp("theirs") / "cells"
    names = write_cells(folder, groups=4, each=3)
    samples = tuple(Sample(path=name, label=truth_of(name)) for name in names[:6])
    return Manifest(name="cells", root=folder, classes=CLASSES, samples=samples)


@pytest.mark.parametrize("place", ["beside", "above", "elsewhere"])
@pytest.mark.parametrize("name", WRITTEN)
def test_labels_of_every_written_format_come_in_wherever_the_file_lies(
    theirs: Manifest, tmp_path: Path, name: str, place: str
):
    if name == "imagefolder" and place == "elsewhere":
        pytest.skip("its file lies with the images or above them")
    folder = {"beside": theirs.root, "above": theirs.root.parent, "elsewhere": tmp_path}[place]
    _, (out, *_) = convert(theirs, name, folder / f"{WRITTEN[name]}")
    try:
        names = sorted(path.name for path in theirs.root.glob("*.png"))
        found = read_labels(out, names, CLASSES, theirs.root)
        assert {names[cell]: label for cell, label in found.items()} == {one.path: one.label for one in theirs.samples}
    finally:
        out.rename(tmp_path / f"moved {WRITTEN[name]}")


def test_every_format_that_is_written_is_tried():
    assert set(WRITTEN) == {one.name for one in FORMATS if one.write is not None}


def test_a_table_may_name_cells_from_its_own_folder_and_what_is_no_labels_is_one_line(theirs: Manifest, tmp_path: Path):
    names = [one.path for one in theirs.samples]
    table = theirs.root.parent / "table.csv"
    table.write_text(f"path,label\ncells/{names[0]},HSIL\n{names[1]},unsure\n")
    assert read_labels(table, names, CLASSES, theirs.root) == {0: "HSIL", 1: "unsure"}
    for text, told in (
        (f"path,label\n{names[0]},HSIL\ncells/{names[0]},HSIL\n", "line 3: .* is listed twice"),
        ("path,label\nnone.png,HSIL\n", "line 2: none.png is none of the cells of the project"),
        (f"path,label\n{names[0]},HSILL\n", "Unknown class in .*line 2, 'HSILL'. Did you mean 'HSIL'"),
        ("file,label\na.png,HSIL\n", "has no column 'path'"),
    ):
        table.write_text(text)
        with pytest.raises((DataError, ConfigError), match=told):
            read_labels(table, names, CLASSES, theirs.root)
    (tmp_path / "notes.txt").write_text("nothing")
    for source, told in ((tmp_path / "notes.txt", "is no file of labels; expected a table with columns path"),
                         (tmp_path / "none", "does not exist; expected a file of labels")):  # fmt: skip
        with pytest.raises(DataError, match=told):
            read_labels(source, names, CLASSES, theirs.root)


@pytest.mark.parametrize("written", [
    "cells/a/1.png", "{top}/cells/a/1.png", "./cells/../cells/a/1.png", "way/a/1.png", "{top}/way/a/1.png",
    "way/./a/1", "store/one.png", "{top}/store/one.png",
])  # fmt: skip
def test_cells_that_are_links_are_found_by_every_spelling_of_their_path(tmp_path: Path, written: str):
    """The cells are links to a store, one by one; ``way`` is a link to their folder."""
    top, root = tmp_path / "top", tmp_path / "top" / "cells"
    for folder in (root / "a", top / "store", top / "tables"):
        folder.mkdir(parents=True)
    for number, name in enumerate(("one.png", "two.png"), 1):
        (top / "store" / name).write_bytes(b"")
        (root / "a" / f"{number}.png").symlink_to(top / "store" / name)
    (top / "way").symlink_to(root, target_is_directory=True)
    table = top / "labels.csv"
    table.write_text(f"path,label\n{written.format(top=top)},HSIL\n")
    names = ["a/1.png", "a/2.png"]
    assert read_labels(table, names, CLASSES, root) == {0: "HSIL"}
    assert read_labels(table, names, CLASSES, top / "way") == {0: "HSIL"}
    table.write_text("path,label\nstore/none.png,HSIL\n")
    with pytest.raises(DataError, match=r"store/none\.png is none of the cells"):
        read_labels(table, names, CLASSES, root)


def test_a_file_that_two_cells_lead_to_is_none_of_them(tmp_path: Path):
    (tmp_path / "one.png").write_bytes(b"")
    (tmp_path / "cells").mkdir()
    for name in ("1.png", "2.png"):
        (tmp_path / "cells" / name).symlink_to(tmp_path / "one.png")
    (tmp_path / "labels.csv").write_text("path,label\none.png,HSIL\n")
    with pytest.raises(DataError, match=r"one\.png is none of the cells"):
        read_labels(tmp_path / "labels.csv", ["1.png", "2.png"], CLASSES, tmp_path / "cells")


def test_a_project_takes_labels_of_another_program_at_the_command_line(
    theirs: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("cytolora.cli.label.run_service", lambda *arguments: None)
    _, (coco,) = convert(theirs, "coco", tmp_path / "coco.json")
    given = ("--labels", str(coco), "--reader", "eve", "--no-browser")
    assert code_of("label", str(theirs.root), "--out", str(tmp_path / "p"), "--classes", *CLASSES, *given) == 0
    opened = Labelling(tmp_path / "p")
    assert {opened.label_of("eve", cell) for cell in range(12)} == {*CLASSES, None}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of which all is labelled; read only."""
    project = make_project(tmp_path_factory.mktemp("labelled"), groups=8, each=3, with_features=False)
    opened = Labelling(project)
    for value in CLASSES:
        cells = [cell for cell, name in enumerate(opened._project.names) if truth_of(name) == value]
        opened.label("ann", cells, value, client_id=f"label {value}")
    opened.close()
    return project


def test_convert_writes_the_agreed_labels_of_a_project_with_subsets_and_groups(
    labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    cells = labelled.parent / "cells"
    assert code_of("convert", str(labelled), "--to", "coco", "--out", str(cells / "coco.json"), "--quiet") == 0
    assert "coco: 24 images of" in capsys.readouterr().out
    read = cytolora.load_dataset(cells / "coco.json", "coco")
    (cells / "coco.json").unlink()
    own = cytolora.load_dataset(labelled)
    assert [(one.path, one.label, one.group, one.subset) for one in read.samples] == [
        (one.path, one.label, one.group, one.subset) for one in own.samples
    ]
    assert {one.subset for one in own.samples} == {"train", "test"}
    (labelled / "labels.csv").write_text("path,label\n")
    assert cytolora.load_dataset(labelled / "labels.csv") == own
    (labelled / "labels.csv").unlink()
    (written,) = Labelling(labelled).write_format("coco", tmp_path / "by_python.json")
    (again,) = cytolora.convert(labelled, "coco", tmp_path / "by_convert.json")
    assert again.read_bytes() == written.read_bytes()


def test_check_looks_at_the_labelled_cells_of_a_project(labelled: Path, capsys: pytest.CaptureFixture[str]):
    code_of("check", str(labelled), "--quiet")
    assert "24 images, 3 classes, 8 groups" in capsys.readouterr().out
    assert not (labelled / "labels.csv").exists()  # it writes nothing


@pytest.mark.parametrize(("arguments", "told"), [
    (("check", "--groups-from", "none"), "--groups-from asks for others"),
    (("convert", "--to", "coco", "--out", "c.json", "--group-column", "nope"), "--group-column asks for others"),
    (("convert", "--to", "coco", "--out", "c.json", "--split", "s.csv"), "--split asks for others"),
    (("check", "--dataset", "csv"), "--dataset asks for others"),
    (("check", "--icc", "srgb"), "decoding of images asks for others"),
])  # fmt: skip
def test_what_a_project_has_settled_is_refused(
    labelled: Path, arguments: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    assert code_of(arguments[0], str(labelled), *arguments[1:]) == 2
    printed = capsys.readouterr().err
    assert told in printed
    assert "is a labelling project: its cells, groups and test cells are settled" in printed.replace("\n", " ")


def test_fit_refuses_it_too_and_other_commands_say_what_takes_a_project(labelled: Path, tmp_path: Path):
    for reading in (ReadOptions(groups_from="none"), ReadOptions(group_column="nope")):
        with pytest.raises(ConfigError, match=r"a labelling project: .* --group\S+ asks for others"):
            cytolora.fit(labelled, tmp_path / "b", options=replace(FitOptions(), reading=reading))
    with pytest.raises(DataError, match="It is a project of `cytolora label`: `fit`, `check` and `convert` take it"):
        load_manifest(labelled)


def test_labels_of_a_zip_or_a_folder_without_labels_make_no_project(theirs: Manifest, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is no file of labels"):
        create_project(theirs.root, tmp_path / "p", classes=CLASSES, labels=tmp_path / "empty")
    assert not (tmp_path / "p").exists()
