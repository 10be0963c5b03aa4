"""`cytolora fit PROJECT`: the drawn test cells are the test set, and the report says how cells were chosen."""

from pathlib import Path

import numpy as np
import pytest
from labelling_projects import CLASSES, make_project, truth_of
from quick_fit import quick_fit

from cytolora.cli.app import main
from cytolora.config.run import SplitSpec
from cytolora.data.label_map import LabelMap, apply_label_map
from cytolora.data.splitting.splits import assign_subsets
from cytolora.errors import ConfigError, DataError
from cytolora.labelling.export import read_labelled
from cytolora.labelling.session import Labelling, create_project
from cytolora.metrics.agreement import kappa


@pytest.mark.slow
def test_a_labelled_project_becomes_a_bundle_whose_test_set_is_the_drawn_cells(
    drawn_cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = [line.split(",")[:2] for line in (drawn_cells / "manifest.csv").read_text().splitlines()[1:]]
    truth = dict(names)
    project = create_project(drawn_cells, tmp_path / "p", classes=sorted(set(truth.values())), test_share=0.3)
    opened = Labelling(project)
    number = opened.n_cells
    for kind in ("test", "next"):
        for one in opened.queue("ann", number, kind=kind):
            opened.label("ann", [one["cell"]], truth[one["name"]], client_id=f"{one['cell']}")
    drawn = opened._board.drawn()
    for cell in drawn:  # a second reader, who takes every fifth cell for another class
        own = truth[opened._project.names[cell]]
        other = next(name for name in opened.classes if name != own)
        opened.label("bea", [cell], own if cell % 5 else other, client_id=f"{cell}")
    for at, one in enumerate(opened.disagreements()):
        if at:  # the first stays undecided
            name = opened._project.names[one["cell"]]
            opened.adjudicate("ann", one["cell"], truth[name], client_id=f"decided {one['cell']}")
    num_differ = len(opened.disagreements())
    undecided = list(opened._board.training())[:3]
    for cell in undecided:
        other = next(name for name in opened.classes if name != truth[opened._project.names[cell]])
        opened.label("bea", [cell], other, client_id=f"undecided {cell}")
    opened.close()
    classifier = quick_fit(project, tmp_path / "model", max_steps=2, learning_rates=0.1)
    test, readers = classifier.contents.metrics["test"], classifier.contents.metrics["readers"]
    assert test["n"] == 19
    assert readers["num_untested"] == 1
    assert [(one["a"], one["b"], one["cells"]) for one in readers["between"]] == [("ann", "bea", 20)]
    assert 1 < num_differ < 10
    assert readers["between"][0]["kappa"] < 1
    with_ann = readers["classifier"][0]
    assert (with_ann["a"], with_ann["b"], with_ann["cells"]) == ("classifier", "ann", 19)
    assert with_ann["kappa"] == pytest.approx(kappa(np.array(test["confusion"])))
    report = (tmp_path / "model" / "report.html").read_text()
    assert "Test cells: 19 labelled cells out of 20 of 2 groups" in report
    assert "Agreement with readers" in report
    assert "1 cell that several readers labelled is no test image" in report
    assert classifier.contents.backbone.name == "nano"
    soft = quick_fit(project, tmp_path / "soft", max_steps=2, learning_rates=0.1, reader_labels="soft")
    assert "Soft labels: 3 training cells on which readers differ" in (tmp_path / "soft" / "report.html").read_text()
    assert soft.contents.metrics["test"]["n"] == test["n"]
    assert 0 < soft.contents.training["num_added_images"] <= 3  # but for those of a group that calibrates
    with pytest.raises(ConfigError, match=r"is a labelling project: .* --dataset asks for others"):
        quick_fit(project, tmp_path / "model2", dataset="csv")


def label_train_and(opened: Labelling, test: dict[int, str]) -> None:
    train = np.flatnonzero(~opened._project.is_test).tolist()
    for cell, value in {**{cell: truth_of(opened._project.names[cell]) for cell in train}, **test}.items():
        opened.label("ann", [cell], value, client_id=str(cell))


@pytest.mark.parametrize(
    ("test_of", "found"),
    [
        (lambda order: {}, "0 of 20 cells of the test share were labelled in the order drawn. Label more of them"),
        (
            lambda order: dict.fromkeys(order, "unsure"),
            "20 of 20 cells .* Give some of them a class",
        ),
        (
            lambda order: dict.fromkeys(order[1:8], "LSIL"),
            r"0 of 20 .* \(7 out of turn, which do not count yet\)",
        ),
    ],
    ids=["not labelled", "unsure", "out of turn"],
)
@pytest.mark.parametrize("reader_labels", ["agreed", "soft"])
def test_without_a_drawn_test_cell_of_a_class_nothing_is_fitted(
    tmp_path: Path, test_of, found: str, reader_labels, capsys: pytest.CaptureFixture[str]
) -> None:
    project = make_project(tmp_path, groups=8)
    opened = Labelling(project)
    label_train_and(opened, test_of(opened._project.order.tolist()))
    opened.close()
    with pytest.raises(DataError, match=f"no drawn test cell has a class, .*{found}"):
        read_labelled(project, reader_labels)
    with pytest.raises(SystemExit) as ended:
        main(
            ["fit", str(project), "--out", str(tmp_path / "model"), "--repeats", "2", "--reader-labels", reader_labels]
        )
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "model").exists()


def test_drawn_test_cells_that_are_lost_on_the_way_are_not_replaced_by_training_cells(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=8)
    opened = Labelling(project)
    order = opened._project.order.tolist()
    label_train_and(opened, {order[0]: "HSIL"})
    assert opened.lacking() == ""
    manifest = read_labelled(project).manifest
    assert assign_subsets(manifest, SplitSpec()).counts()["HSIL"]["test"] == 1
    kept = LabelMap(
        targets={**dict(zip(CLASSES, CLASSES, strict=True)), "HSIL": ""}, classes=CLASSES[:2], is_ordered=False
    )
    with pytest.raises(DataError, match="no image of its test set can be used any more"):
        assign_subsets(apply_label_map(manifest, kept), SplitSpec())


def test_a_project_with_test_cells_alone_lacks_cells_to_train_on(tmp_path: Path) -> None:
    project = make_project(tmp_path, groups=8)
    opened = Labelling(project)
    opened.label("ann", [opened._project.order.tolist()[0]], "HSIL", client_id="1")
    with pytest.raises(DataError, match="no readable cell outside of the test share has a class"):
        read_labelled(project)
