"""Soft labels: shares of readers who differ, of training cells alone, and what they do not go with."""

from pathlib import Path
from typing import Any

import pytest
from labelling_projects import CLASSES, make_project

import cytolora
from cytolora import FitOptions
from cytolora.errors import ConfigError
from cytolora.labelling.export import labels_of
from cytolora.labelling.session import Labelling


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Labelling:
    """Two cells of each class on which readers agree, then a tie, a majority, a decision, and cells of no class."""
    opened = Labelling(make_project(tmp_path_factory.mktemp("soft"), with_features=False))
    train = [cell for cell in range(opened.n_cells) if not opened._project.is_test[cell]]
    given = {
        **{at: {"ann": CLASSES[at % 3], "bea": CLASSES[at % 3]} for at in range(6)},
        6: {"ann": "HSIL", "bea": "LSIL"},
        7: {"ann": "NILM", "bea": "NILM", "cid": "HSIL"},
        8: {"ann": "NILM", "bea": "HSIL"},
        9: {"ann": "NILM", "bea": "unsure"},
        10: {"ann": "NILM", "bea": "HSIL", "cid": "not a cell"},
    }
    for at, by_reader in given.items():
        for reader, value in by_reader.items():
            opened.label(reader, [train[at]], value, client_id=f"{reader} {at}")
    opened.adjudicate("ann", train[8], "HSIL", client_id="decided")
    test, with_class = opened._project.order.tolist()[:2]
    opened.label("ann", [with_class], "NILM", client_id="test")
    for reader, value in (("ann", "NILM"), ("bea", "LSIL")):
        opened.label(reader, [test], value, client_id=f"test {value}")
    return opened


def test_shares_are_those_of_the_readers_and_cells_without_a_majority_are_trained_on_alone(opened: Labelling) -> None:
    agreed, soft = (labels_of(opened._project, opened._board, kind) for kind in ("agreed", "soft"))
    assert not any(one.shares or one.is_added for one in agreed.manifest.samples)
    names = [name for cell, name in enumerate(opened._project.names) if not opened._project.is_test[cell]]
    of = {one.path: one for one in soft.manifest.samples}
    assert of[names[6]].shares == (("LSIL", 0.5), ("HSIL", 0.5))
    assert of[names[7]].shares == (("NILM", pytest.approx(2 / 3)), ("HSIL", pytest.approx(1 / 3)))
    assert of[names[10]].shares == (("NILM", 0.5), ("HSIL", 0.5))
    assert [at for at, name in enumerate(names[:11]) if name in of and of[name].is_added] == [6, 10]
    assert (of[names[6]].label, of[names[7]].label, of[names[8]].label) == ("LSIL", "NILM", "HSIL")
    assert not of[names[8]].shares
    assert names[9] not in of
    assert {one.subset for one in soft.manifest.samples if one.shares} == {"train"}
    assert len(soft.manifest.samples) == len(agreed.manifest.samples) + 2
    assert "3 training cells on which readers differ" in soft.statements[-1]
    assert "2 of them without a majority" in soft.statements[-1]


def test_what_soft_labels_do_not_go_with_is_one_line(opened: Labelling, tmp_path: Path) -> None:
    def refused(data: Path, **options: Any) -> str:
        with pytest.raises(ConfigError) as caught:
            cytolora.fit(data, tmp_path / "out", options=FitOptions(model="nano", reader_labels="soft", **options))
        return str(caught.value)

    project = opened._project.folder
    assert "gda takes one class a cell. Choose --method linear" in refused(project, method="gda")
    assert "gda takes one class a cell" in refused(project, ensemble=("linear", "gda"))
    assert "a label map makes others" in refused(project, label_map=tmp_path / "map.csv")
    assert "no project of `cytolora label`" in refused(project.parent / "cells")
    with pytest.raises(ConfigError, match="Unknown kind of reader labels 'sof'"):
        FitOptions(reader_labels="sof")  # pyright: ignore[reportArgumentType]
    assert not (tmp_path / "out").exists()
