"""A labelling project from cells to labels.csv: shares, queues, entries, two readers, bad input."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from labelling_projects import CLASSES, label_next, make_project, truth_of, write_cells
from PIL import Image

from cytolora.data.datasets import load_manifest
from cytolora.errors import ConfigError, CytoloraError, DataError
from cytolora.labelling.board import BY_OTHERS, NOT_SURE
from cytolora.labelling.export import read_labelled
from cytolora.labelling.session import Labelling, create_project


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of 240 cells, 24 groups, of which 130 are labelled; read only."""
    project = make_project(tmp_path_factory.mktemp("worked"), groups=24)
    opened = Labelling(project)
    for _ in range(13):
        label_next(opened, 10)
        opened.refit()
    opened.close()
    return project


def test_no_cell_of_a_test_group_is_trained_on_and_its_prediction_is_hidden(worked: Path) -> None:
    opened = Labelling(worked)
    opened.refit()
    test = np.flatnonzero(opened.points()["test"])
    assert set(test).isdisjoint(opened._board.training())
    assert opened.overview("ann")["estimate"]["n"] > 20
    for cell in test.tolist():
        assert opened.cell("ann", cell)["prediction"] is None
    assert np.isnan(opened.points()["doubt"][test]).all()
    groups = opened.points()["group"]
    assert set(groups[test]).isdisjoint(groups[list(opened._board.training())])


def test_an_estimate_is_the_mean_over_drawn_cells_with_an_interval_over_groups(worked: Path) -> None:
    opened = Labelling(worked)
    opened.refit()
    estimate = opened.estimates()
    drawn = opened._board.drawn()
    assert opened._fitted is not None
    truth = np.array([CLASSES.index(truth_of(opened._project.names[cell])) for cell in drawn])
    assert estimate["accuracy"][0] == pytest.approx((opened._fitted.predictions[drawn] == truth).mean())
    assert estimate["accuracy"][1] < estimate["accuracy"][0] <= estimate["accuracy"][2]
    assert estimate["groups"] == 6
    assert "first look" in estimate["hint"]["sentence"]


def test_test_labels_out_of_turn_do_not_count_until_their_turn_has_come(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    opened = Labelling(project)
    order = opened._project.order.tolist()
    opened.label("ann", [order[1]], "LSIL", client_id="1")
    assert opened._board.drawn() == []
    opened.label("ann", [order[0]], "unsure", client_id="2")
    assert opened._board.drawn() == order[:2]


def test_a_lasso_leaves_test_cells_out_and_says_which(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, with_features=False))
    test, train = (np.flatnonzero(opened.points()["test"] == value).tolist() for value in (1, 0))
    answer = opened.label("ann", [*train[:3], test[0]], "HSIL", client_id="1", how="lasso")
    assert answer["left_out"] == [test[0]]
    assert answer["overview"]["classes"][2]["labels"] == 3
    with pytest.raises(ConfigError, match="judged blind"):
        opened.label("ann", [test[0]], "HSIL", client_id="2", how="row")
    assert opened.last_entry == 1


def test_two_openings_and_two_readers_do_not_overwrite_each_other(tmp_path: Path) -> None:
    project = make_project(tmp_path, with_features=False)
    one, other = Labelling(project), Labelling(project)
    one.label("ann", [4], "HSIL", client_id="a")
    other.label("bob", [4], "LSIL", client_id="a")
    other.label("bob", [5], "LSIL", client_id="b")
    assert one.overview("ann")["last_entry"] == 3
    assert one.disagreements() == [{"cell": 4, "labels": {"ann": "HSIL", "bob": "LSIL"}, "adjudicated": None}]
    assert (one.cell("ann", 4)["label"], one.cell("bob", 4)["label"], one.cell("eve", 4)["label"]) == (
        *("HSIL", "LSIL"),
        None,
    )
    assert other.undo("ann", client_id="c")["cells"] == [4]
    assert one.points()["label"][4] == CLASSES.index("LSIL")
    one.redo("ann", client_id="d")
    one.adjudicate("eve", 4, "HSIL", client_id="e")
    assert other.points()["label"][4] == CLASSES.index("HSIL")
    assert (other.cell("eve", 4)["label"], other.cell("nobody", 4)["label"]) == ("HSIL", None)  # eve decided
    assert other.agreement()["cells"] == 1


def test_the_history_of_a_cell_shows_others_only_to_who_has_read_it_and_what_was_taken_back(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, with_features=False))
    opened.label("ann", [4], "LSIL", client_id="1")
    opened.undo("ann", client_id="2")
    opened.label("ann", [4], "HSIL", client_id="3", how="lasso")
    assert opened.cell("bob", 4)["history"] == []
    opened.label("bob", [4], "LSIL", client_id="4")
    told = [(one["reader"], one["value"], one["how"], one["undone"]) for one in opened.cell("bob", 4)["history"]]
    assert told == [("ann", "LSIL", "key", True), ("ann", "HSIL", "lasso", False), ("bob", "LSIL", "key", False)]


def test_a_reader_sees_that_others_labelled_a_cell_and_not_what_they_said(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, with_features=False))
    opened.label("ann", [3, 4], "HSIL", client_id="1")
    opened.label("bob", [3], "LSIL", client_id="2")
    opened.label("bob", [5], "unsure", client_id="3")
    hsil, lsil = CLASSES.index("HSIL"), CLASSES.index("LSIL")
    assert opened.points("ann")["label"][:6].tolist() == [-1, -1, -1, hsil, hsil, BY_OTHERS]
    assert opened.points("bob")["label"][3:6].tolist() == [lsil, BY_OTHERS, NOT_SURE]
    assert opened.points("eve")["label"][3:6].tolist() == [BY_OTHERS] * 3
    assert opened.points()["label"][3:6].tolist() == [-1, hsil, NOT_SURE]  # agreed ones, for nobody
    assert [opened.cell("eve", cell)["label"] for cell in (3, 4, 5)] == [None] * 3
    opened.adjudicate("bob", 3, "HSIL", client_id="4")
    assert opened.points("eve")["label"][3] == BY_OTHERS
    opened.undo("bob", client_id="5")
    opened.undo("bob", client_id="6")
    opened.undo("bob", client_id="7")
    assert opened.points("bob")["label"][3:6].tolist() == [BY_OTHERS, BY_OTHERS, -1]


def test_kappa_on_few_groups_is_cautioned_and_on_many_not(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, groups=40, each=1, with_features=False))
    assert opened.agreement()["caution"] is None
    for reader in ("ann", "bob"):
        opened.label(reader, list(range(20)), CLASSES[0], client_id="few")
    assert "rests on 20 groups; under about 30" in opened.agreement()["caution"]
    for reader in ("ann", "bob"):
        opened.label(reader, list(range(20, 40)), CLASSES[1], client_id="more")
    assert opened.agreement()["caution"] is None


def test_second_readings_are_blind_and_of_cells_that_others_labelled(worked: Path) -> None:
    opened = Labelling(worked)
    opened.refit()
    queue = opened.queue("bob", 500, kind="second")
    assert len(queue) == opened._board.is_held.sum() > 100
    assert all(one["prediction"] is None for one in queue)
    train = next(one["cell"] for one in queue if one["share"] == "train")
    assert opened.cell("bob", train)["prediction"] is opened.cell("bob", train)["doubt"] is None
    assert opened.cell("ann", train)["prediction"] is not None
    assert opened.queue("ann", 500, kind="second") == []
    with pytest.raises(ConfigError, match=r"Unknown queue 'secnd'. Did you mean 'second'"):
        opened.queue("ann", kind="secnd")


def test_a_suspected_mistake_is_shown_until_it_is_changed_or_confirmed(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path, groups=24))
    for _ in range(6):
        label_next(opened, 12)
    cell = next(iter(opened._board.training()))
    right = truth_of(opened._project.names[cell])
    wrong = CLASSES[(CLASSES.index(right) + 1) % 3]
    opened.label("ann", [cell], wrong, client_id="wrong")
    opened.refit()
    suspects = {one["cell"]: one for one in opened.queue("ann", kind="mistakes")}
    assert f"It is labelled {wrong}" in suspects[cell]["why"]
    assert suspects[cell]["prediction"] is not None
    for_another = {one["cell"]: one for one in opened.queue("Ben", kind="mistakes")}[cell]
    assert for_another["why"] == "Another reader labelled it: a second reading, blind."
    assert for_another["prediction"] is for_another["probabilities"] is None
    opened.label("ann", [cell], wrong, client_id="again")
    assert cell not in [one["cell"] for one in opened.queue("ann", kind="mistakes")]


def test_a_refit_changes_nothing_where_one_class_is_labelled(tmp_path: Path) -> None:
    opened = Labelling(make_project(tmp_path))
    assert opened.refit()["number"] == 0
    assert opened.overview("ann")["classifier"] is None
    assert opened.estimates()["accuracy"] is None


def test_labels_csv_is_read_as_a_dataset_beside_its_cells_and_by_fit(worked: Path) -> None:
    opened = Labelling(worked)
    table = opened.write_labels(worked.parent / "cells" / "labels.csv")
    read = load_manifest(table)
    labels = read_labelled(worked)
    assert [(one.path, one.label, one.group, one.subset) for one in read.samples] == [
        (one.path, one.label, one.group, one.subset) for one in labels.manifest.samples
    ]
    assert all(truth_of(one.path) == one.label for one in read.samples)
    assert len(read.subset("test")) == opened.estimates()["n"]
    assert (worked / "labels.csv").read_bytes() == table.read_bytes()
    assert labels.statements[0].startswith(
        f"Test cells: {len(read.subset('test'))} labelled cells out of 60 of 6 groups"
    )
    table.unlink()


def test_labels_made_elsewhere_are_entries_and_a_second_import_stores_nothing(tmp_path: Path) -> None:
    names = write_cells(tmp_path / "cells", groups=4, each=3)
    table = tmp_path / "theirs.csv"
    table.write_text("path,label\n" + "".join(f"{name},{truth_of(name)}\n" for name in names[:6]))
    given = {"classes": CLASSES, "labels": table, "reader": "eve"}
    project = create_project(tmp_path / "cells", tmp_path / "p", **given)
    create_project(tmp_path / "cells", tmp_path / "p", **given)
    opened = Labelling(project)
    assert opened.last_entry == 3
    assert opened.cell("eve", sorted(names).index(names[0]))["history"][0]["how"] == "import"


def test_labels_go_to_other_programs_through_the_exchange_formats(worked: Path, tmp_path: Path) -> None:
    (written,) = Labelling(worked).write_format("coco", tmp_path / "coco.json")
    assert len(json.loads(written.read_text())["images"]) == len(read_labelled(worked).manifest.samples)


def _newer(project: Path) -> None:
    about = json.loads((project / "project.json").read_text())
    (project / "project.json").write_text(json.dumps({**about, "version": 2}))


def test_bad_input_is_one_clear_line_and_nothing_is_written(tmp_path: Path) -> None:
    cells, out = tmp_path / "cells", tmp_path / "p"
    write_cells(cells, groups=4, each=3)

    def refused(match: str, **given: object) -> None:
        with pytest.raises(CytoloraError, match=match) as caught:
            create_project(given.pop("cells", cells), given.pop("out", out), **given)  # pyright: ignore
        assert "\n" not in str(caught.value)

    refused("two or more classes apart, got 1 class", classes=["HSIL"])
    refused("Two classes have one name, 'HSIL' and 'hsil'", classes=["HSIL", "hsil"])
    refused("is no name of a class", classes=["HSIL", "Unsure"])
    refused("Did you mean 'bethesda", like="bethesd")
    refused("does not exist", cells=tmp_path / "none", classes=CLASSES)
    refused("lies among the cells", out=cells / "p", classes=CLASSES)
    refused(r"share of the groups in \(0, 1\)", classes=CLASSES, test_share=25)
    table = tmp_path / "bad.csv"
    table.write_text("path,label\nnone.png,HSIL\n")
    refused("line 2: none.png is none of the cells of the project", classes=CLASSES, labels=table)
    assert not out.exists()
    create_project(cells, out, classes=CLASSES)
    refused("is a project of the cells in", cells=tmp_path, classes=CLASSES)
    opened = Labelling(out)
    for arguments in (([99], "HSIL"), ([0], "HSILL"), ([], "HSIL")):
        with pytest.raises(ConfigError):
            opened.label("ann", *arguments, client_id="1")
    with pytest.raises(ConfigError, match="A reader has a name"):
        opened.label(" ", [0], "HSIL", client_id="1")
    assert opened.last_entry == 0
    opened.label("ann", [0], "HSIL", client_id="1")
    refused("Class 'HSIL' has 1 label", classes=["NILM", "LSIL"])
    create_project(cells, out, classes=["NILM", "HSIL", "SCC"])
    assert Labelling(out).classes == ["NILM", "HSIL", "SCC"]
    assert Labelling(out).cell("ann", 0)["label"] == "HSIL"
    _newer(out)
    with pytest.raises(DataError, match=r"version 2, and this cytolora reads version 1. Update"):
        Labelling(out)


def test_unreadable_images_are_named_and_the_others_get_features(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=3, each=2, with_features=False)
    names = sorted(path.name for path in (tmp_path / "cells").glob("*.png"))
    (tmp_path / "cells" / names[1]).write_bytes(b"no image")
    (tmp_path / "cells" / names[4]).unlink()
    told: list[tuple[int, int]] = []
    opened = Labelling(project, cache=tmp_path / "cache")
    opened.start_features(lambda done, total: told.append((done, total)))
    overview = opened.overview("ann")
    assert overview["features"] == {"done": 6, "total": 6, "error": None}
    assert overview["unreadable"] == 2
    assert told[-1] == (6, 6)
    assert "no longer there" in opened.cell("ann", 4)["why"]
    assert len(opened.cell("ann", 0)["similar"]) == 3
    assert {one["cell"] for one in opened.queue("ann")} == {0, 2, 3, 5}
    assert opened.picture(0)[1] == "image/png"
    again = Labelling(project)
    assert again.overview("ann")["unreadable"] == 2


def _in_folders(folder: Path, names: Sequence[str]) -> Path:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (at, 0, 90)).save(folder / name)
    return folder


def test_sub_folders_are_groups_when_asked_and_are_pointed_out_when_not(tmp_path: Path) -> None:
    names = [f"all/p{patient}/s{at % 2}/{at}.png" for patient in range(4) for at in range(3)]
    cells = _in_folders(tmp_path / "cells", names)
    asked = Labelling(create_project(cells, tmp_path / "asked", classes=CLASSES, groups="folders"))
    assert set(asked._project.groups) == {f"all/p{patient}" for patient in range(4)}
    assert asked.overview("ann")["groups"] == "Groups: 4 groups (sub-folders (--groups-from folders))."
    left = Labelling(create_project(cells, tmp_path / "left", classes=CLASSES))
    assert set(left._project.groups) == {""}
    assert "The cells lie in 4 sub-folders: where these are patients" in left.overview("ann")["groups"]


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["a/1.png", "a/2.png"], "all cells of cells lie in one folder; expected a sub-folder"),
        (["a/1.png", "b/2.png", "3.png"], "1 of 3 cells lie in no sub-folder, the first is 3.png"),
    ],
)
def test_sub_folders_that_are_no_groups_are_one_clear_error(tmp_path: Path, names: list[str], found: str) -> None:
    cells = _in_folders(tmp_path / "cells", names)
    with pytest.raises(CytoloraError, match=found):
        create_project(cells, tmp_path / "p", classes=CLASSES, groups="folders")
    assert not (tmp_path / "p").exists()
