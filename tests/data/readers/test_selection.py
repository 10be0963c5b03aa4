"""Tables of a labelling project's labels, read as tables of one's own: what was chosen, and what was drawn."""

from pathlib import Path

import pytest
from labelling_projects import make_project

from cytolora.classifier.fit.corrections import read_labels
from cytolora.data.datasets import load_manifest
from cytolora.data.manifest import Manifest
from cytolora.errors import ConfigError
from cytolora.labelling.session import Labelling


def table(folder: Path, name: str, header: str, rows: str) -> Path:
    """Writes a table of some of six cells; a row is the class, and what stands behind it."""
    folder.mkdir(exist_ok=True)
    for number in range(6):
        (folder / f"{number}.png").write_bytes(b"")
    (folder / name).write_text(header + "".join(f"\n{number}.png,{row}" for number, row in enumerate(rows.split())))
    return folder / name


def found(manifest: Manifest) -> dict[str, str]:
    return {one.code: one.text for one in manifest.findings}


@pytest.mark.parametrize("name", ["labels.csv", "copied.csv"])
def test_chosen_cells_beside_drawn_test_cells_are_a_note_and_the_test_cells_stay(name: str, tmp_path: Path):
    rows = "a,train,s1,chosen b,train,s1,chosen a,test,s2,drawn"
    read = load_manifest(table(tmp_path, name, "path,label,subset,group,selection", rows))
    assert [one.path for one in read.subset("test")] == ["2.png"]
    assert found(read)["D515"] == (
        f"{name}: 2 of 3 cells were chosen while labelling (`cytolora label`), not drawn at random; its 1 test cell "
        "was drawn: figures of another test set would be biased."
    )
    assert not found(read).keys() & {"D516", "T301"}


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("copied.csv", "path,label,subset,group,selection", "a,train,s1,chosen b,train,s2,chosen"),
        ("copied.csv", "path,label,group,selection", "a,s1,chosen b,s2,chosen a,s3,drawn"),
        ("copied.csv", "path,label,subset,selection", "a,test,chosen b,train,chosen a,test,drawn"),
        ("labels.csv", "path,label,subset,group", "a,train,s1 b,train,s2"),  # of an earlier version
    ],
)
def test_chosen_cells_that_may_be_tested_on_are_a_warning(name: str, header: str, rows: str, tmp_path: Path):
    (text,) = [
        text for code, text in found(load_manifest(table(tmp_path, name, header, rows))).items() if code == "D516"
    ]
    assert f"{name}: 2 of " in text
    assert ("were chosen" if "selection" in header else "seem to have been chosen") in text
    assert text.endswith("not drawn at random, and may come into the test set, whose figures are then biased.")


@pytest.mark.parametrize(
    ("name", "header", "rows"),
    [
        ("labels.csv", "path,label,subset,group", "a,train,s1 b,val,s2 a,test,s3"),
        ("labels.csv", "path,label,subset,group", "a,train,s1 b,train,s2 a,test,s3"),
        ("cells.csv", "path,label,subset,group", "a,train,s1 b,train,s2"),
        ("labels.csv", "path,label,group", "a,s1 b,s2"),
        ("labels.csv", "path,label,selection", "a,random b,all"),
    ],
)
def test_a_table_of_ones_own_says_nothing_of_chosen_cells(name: str, header: str, rows: str, tmp_path: Path):
    assert not found(load_manifest(table(tmp_path, name, header, rows))).keys() & {"D515", "D516"}


def test_labels_that_replace_others_say_that_their_test_cells_are_not_used(tmp_path: Path):
    cells = tmp_path / "cells"
    own = table(cells, "own.csv", "path,label", "a b a")
    copied = table(
        cells, "copied.csv", "path,label,subset,group,selection", "a,train,s,chosen b,train,s,chosen a,test,s,drawn"
    )
    (one,) = read_labels(copied, load_manifest(own)).findings
    assert one.code == "D516"
    assert "Its test cells are used where copied.csv itself is named as the dataset." in one.text
    divided = load_manifest(table(cells, "own.csv", "path,label,subset", "a,train b,train a,test"))
    assert not read_labels(copied, divided).findings


def test_a_project_writes_which_cells_were_chosen_and_replaces_no_table_of_others(tmp_path: Path):
    project = make_project(tmp_path, groups=8, each=3, with_features=False)
    opened = Labelling(project)
    for one in opened.queue("ann", 24, kind="test") + opened.queue("ann", 24):
        opened.label("ann", [one["cell"]], "NILM", client_id=str(one["cell"]))
    copied = opened.write_labels(tmp_path / "cells" / "copied.csv")
    read = load_manifest(copied)
    assert "D515" in found(read)
    assert read.subset("test")
    assert "T301" not in found(read)
    opened.write_labels(copied)
    for theirs in (tmp_path / "cells" / "mine.csv", project / "labels.csv"):
        theirs.write_text("path,label\n")
        with pytest.raises(ConfigError, match="is no table of a project's labels; it would be lost"):
            opened.write_labels(None if theirs.parent == project else theirs)
        assert theirs.read_text() == "path,label\n"
    opened.close()
