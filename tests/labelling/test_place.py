"""Place of a project's cells: cells that are gone or came since, folders that moved, and what was unpacked."""

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from labelling_projects import CLASSES, label_next, make_project, truth_of, write_cells

from cytolora.core.cache_entries import ARCHIVES, Entry, remove
from cytolora.data.archive import unpack, unpacked_in
from cytolora.errors import ConfigError, DataError
from cytolora.labelling.export import read_labelled
from cytolora.labelling.session import Labelling, create_project


def plain_cells(folder: Path) -> Path:
    """Writes twelve cells without a table."""
    write_cells(folder, groups=4, each=3)
    (folder / "manifest.csv").unlink()
    return folder


def zipped(folder: Path) -> Path:
    """Packs a folder of cells, wrapped in a folder of its own."""
    out = folder.with_suffix(".zip")
    with zipfile.ZipFile(out, "w") as packed:
        for path in sorted(folder.iterdir()):
            packed.write(path, f"inner/{path.name}")
    return out


def as_before(project: Path) -> None:
    """Makes the description one of the versions that did not say what was named."""
    about = json.loads((project / "project.json").read_text())
    for name in ("source", "inside", "dataset"):
        del about[name]
    (project / "project.json").write_text(json.dumps(about))


def test_cells_that_are_gone_are_counted_not_drawn_take_no_label_and_are_left_out_of_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    project = make_project(tmp_path, groups=8, each=4)
    opened = Labelling(project)
    for kind in ("test", "next"):
        label_next(opened, opened.n_cells, kind=kind)
    test = opened._project.order.tolist()[0]
    train, other = np.flatnonzero(~opened._project.is_test).tolist()[:2]
    opened.close()
    assert not caplog.records
    for cell in (test, train):
        (tmp_path / "cells" / opened._project.names[cell]).unlink()
    again = Labelling(project)
    (told,) = caplog.messages
    assert f"2 of 32 cells missing in {tmp_path / 'cells'}" in told
    assert again.overview("bea")["unreadable"] == 2
    shown = {row["cell"] for kind in ("test", "next", "second") for row in again.queue("bea", 40, kind=kind)}
    assert shown
    assert shown.isdisjoint({test, train})
    assert "is no longer there" in again.cell("bea", train)["why"]
    assert np.isnan(again.points()["x"][[test, train]]).all()
    assert train not in again.cell("bea", other)["similar"]
    with pytest.raises(ConfigError, match=r"Nothing was stored: .* is no longer there\."):
        again.label("bea", [train], "HSIL", client_id="1")
    labels = read_labelled(project)
    names = {one.path for one in labels.manifest.samples}
    assert names == set(again._project.names) - {again._project.names[cell] for cell in (test, train)}
    assert any(text.startswith("2 labelled cells are no longer there or cannot be read,") for text in labels.statements)
    assert not any("out of turn" in text for text in labels.statements)


@pytest.mark.parametrize("is_old", [False, True])
def test_cells_that_moved_are_found_where_the_command_names_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, is_old: bool
) -> None:
    cells, moved, project = plain_cells(tmp_path / "cells"), tmp_path / "moved", tmp_path / "p"
    create_project(cells, project, classes=CLASSES)
    if is_old:
        as_before(project)
    shutil.copytree(cells, moved)
    with pytest.raises(DataError, match=r"is a project of the cells in .*cells, which are there, not of .*moved\."):
        create_project(moved, project)
    shutil.rmtree(cells)
    with pytest.raises(DataError, match=r"None of the 12 cells of .* `cytolora label NEW_PLACE --out "):
        Labelling(project)
    with pytest.raises(DataError, match=r"cells does not exist, and .* Name where they are now\."):
        create_project(cells, project)
    names = sorted(path.name for path in moved.iterdir())
    for name in names[:7]:
        (moved / name).rename(tmp_path / name)
    before = (project / "project.json").read_bytes()
    with pytest.raises(DataError, match=rf"missing there 7 of 12 cells, {names[0]} first"):
        create_project(moved, project)
    assert (project / "project.json").read_bytes() == before
    for name in names[:7]:
        (tmp_path / name).rename(moved / name)
    create_project(moved, project)
    assert "its cells are in" in caplog.messages[-1]
    assert Labelling(project).picture(0)[0]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("named", ["folder", "table in it", "table"])
def test_cells_that_got_lost_in_a_move_are_missing_and_the_others_are_found(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: str
) -> None:
    cells, moved, project = tmp_path / "cells", tmp_path / "moved", tmp_path / "p"
    names = write_cells(cells, groups=4, each=3)
    if named == "folder":
        (cells / "manifest.csv").unlink()
    create_project(cells, project, classes=CLASSES)
    cells.rename(moved)
    (moved / names[4]).unlink()
    cells.mkdir()
    shutil.copy(moved / names[5], cells)  # one was left behind
    create_project(moved / "manifest.csv" if named == "table" else moved, project)
    opened = Labelling(project)
    assert opened.overview("ann")["unreadable"] == 1
    assert not opened._project.is_there[opened._project.names.index(names[4])]
    assert f"1 of 12 cells missing in {moved}, {names[4]} first: left out; labels stay." in caplog.messages[-1]


def test_images_that_came_since_are_counted_and_not_taken_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cells, project = plain_cells(tmp_path / "cells"), tmp_path / "p"
    create_project(cells, project, classes=CLASSES)
    create_project(cells, project)
    assert not caplog.records
    (cells / "new").mkdir()
    shutil.copy(next(cells.glob("*.png")), cells / "new" / "x.png")
    create_project(cells, project)
    assert caplog.messages[-1].endswith("has 1 image that is not in the project, new/x.png first; not taken in.")
    assert Labelling(project).n_cells == 12


@pytest.mark.parametrize("is_old", [False, True])
def test_a_zip_file_is_unpacked_again_and_held_while_its_project_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_old: bool
) -> None:
    monkeypatch.setattr(unpack, "__defaults__", (tmp_path / ARCHIVES,))
    packed, project = zipped(plain_cells(tmp_path / "cells")), tmp_path / "p"
    create_project(packed, project, classes=CLASSES)
    if is_old:
        as_before(project)
    root = Labelling(project)._project.root
    entry = unpacked_in(root)
    assert entry is not None
    assert entry.parent.name == ARCHIVES
    assert not remove(Entry(kind=ARCHIVES, path=entry, num_bytes=0, last_used=0.0))
    shutil.rmtree(entry)
    if is_old:
        with pytest.raises(DataError, match="or the zip file that they came from"):
            Labelling(project)
        create_project(packed, project)
    assert Labelling(project).picture(0)[0]
    create_project(packed, project)
    if is_old:
        return
    shutil.rmtree(entry)
    packed = packed.rename(tmp_path / "moved.zip")
    with pytest.raises(DataError, match=r"None of the 12 cells of .* is in .*cells\.zip,"):
        Labelling(project)
    create_project(packed, project)
    assert Labelling(project).picture(0)[0]


def test_a_project_of_a_tar_file_opens_with_its_own_command_and_unpacks_what_is_gone(tmp_path: Path) -> None:
    cells, packed, project = plain_cells(tmp_path / "cells"), tmp_path / "cells.tar", tmp_path / "p"
    with tarfile.open(packed, "w") as archive:
        for path in sorted(cells.iterdir()):
            archive.add(path, path.name)
            label = tarfile.TarInfo(f"{path.stem}.txt")
            text = truth_of(path.name).encode()
            label.size = len(text)
            archive.addfile(label, io.BytesIO(text))
    for _ in range(2):
        create_project(packed, project, classes=CLASSES, dataset="webdataset")
    create_project(packed, project)
    next(Labelling(project)._project.root.rglob("*.png")).unlink()
    assert Labelling(project)._project.is_there.all()
    shutil.rmtree(Labelling(project)._project.root)
    assert Labelling(project).picture(0)[0]
