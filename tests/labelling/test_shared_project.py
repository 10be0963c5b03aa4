"""A project that two processes have open, ids that come again, and a full disk: nothing is lost or falsely stored."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from labelling_projects import CLASSES, make_project
from service import LOCAL, ask

from cytolora.errors import ConfigError, DataError
from cytolora.labelling.journal import Journal
from cytolora.labelling.project import JOURNAL
from cytolora.labelling.server import make_app
from cytolora.labelling.session import Labelling, create_project

TOKEN = "t" * 32


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path, groups=4, each=4, with_features=False)


def changed(project: Path, *classes: str) -> Labelling:
    """Opens it as the command does with ``--classes``."""
    create_project(project, project, classes=classes)
    return Labelling(project)


def test_a_server_that_does_not_know_a_class_of_another_one_says_so_every_time_and_stores_nothing(project: Path):
    old, new = Labelling(project), changed(project, *CLASSES, "SCC")
    old.label("ann", [0], "HSIL", client_id="a")
    new.label("ben", [1], "SCC", client_id="b")
    for _ in range(2):
        with pytest.raises(DataError, match=r"label of class 'SCC', which is not among NILM, LSIL, HSIL: .* Stop this"):
            old.label("ann", [2], "HSIL", client_id="c")
    assert [one.client_id for one in Journal(project / JOURNAL).entries()] == ["a", "b"]
    assert (new.cell("ann", 0)["label"], new.cell("ben", 1)["label"]) == ("HSIL", "SCC")


def test_a_class_that_was_removed_while_it_was_used_is_named_and_can_be_given_back(project: Path):
    old, _ = Labelling(project), changed(project, "NILM", "LSIL")
    old.label("ann", [0], "HSIL", client_id="a")  # its own list has the class
    with pytest.raises(DataError, match="label of class 'HSIL', which is not among NILM, LSIL"):
        Labelling(project)
    with pytest.raises(DataError, match="Class 'HSIL' has 1 label"):
        changed(project, "NILM", "LSIL", "SCC")
    assert changed(project, *CLASSES).cell("ann", 0)["label"] == "HSIL"


def test_setting_the_mixture_keeps_the_classes_that_another_process_wrote(project: Path):
    old, _ = Labelling(project), changed(project, *CLASSES, "SCC")
    old.set_mixture({"doubt": 1, "test": 0.5})
    assert old.classes == list(CLASSES)
    again = Labelling(project)
    assert again.classes == [*CLASSES, "SCC"]
    assert again.overview("ann")["mixture"]["test"] == 0.5


def test_an_id_of_another_entry_is_refused_and_not_shown_as_stored(project: Path):
    opened = Labelling(project)
    first = opened.label("ann", [0], "HSIL", client_id="a")
    assert opened.label("ann", [0], "HSIL", client_id="a")["entry"] == first["entry"]
    for cells, value in (([1], "HSIL"), ([0], "LSIL")):
        with pytest.raises(ConfigError, match="Nothing was stored: the id 'a' belongs to another entry"):
            opened.label("ann", cells, value, client_id="a")
    with pytest.raises(ConfigError, match="belongs to another entry"):
        opened.undo("ann", client_id="a")
    assert opened.label("ben", [1], "HSIL", client_id="a")["entry"] == first["entry"] + 1  # ids are of each reader
    undone = opened.undo("ann", client_id="b")
    assert opened.undo("ann", client_id="b")["entry"] == undone["entry"]
    assert (opened.last_entry, opened.cell("ann", 0)["label"]) == (3, None)


def test_a_reader_takes_back_her_own_labels_alone(project: Path):
    one, other = Labelling(project), Labelling(project)
    one.label("ann", [0], "HSIL", client_id="a")
    other.label("ben", [0], "LSIL", client_id="b")
    other.adjudicate("ben", 0, "LSIL", client_id="c")
    assert one.undo("ann", client_id="d")["cells"] == [0]
    with pytest.raises(ConfigError, match="ann has no label to undo"):
        other.undo("ann", client_id="e")
    assert other.cell("ben", 0)["label"] == "LSIL"
    other.undo("ben", client_id="f")  # the decision
    other.redo("ben", client_id="g")
    assert one.overview("ann")["can_redo"]
    assert one.redo("ann", client_id="h")["cells"] == [0]
    assert one.disagreements() == [{"cell": 0, "labels": {"ann": "HSIL", "ben": "LSIL"}, "adjudicated": "LSIL"}]


@contextmanager
def full_disk(journal: Path) -> Iterator[None]:
    """No file of this process grows beyond what the journal's log has: the system refuses the write of a commit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (journal.with_name(f"{journal.name}-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_commit_that_the_disk_refuses_is_not_acknowledged_and_is_one_entry_when_it_is_sent_again(project: Path):
    opened = Labelling(project)
    opened.label("ann", [0], "HSIL", client_id="0123456789")
    app = make_app(opened, project, TOKEN)

    def send(number: int) -> Any:
        body = {"reader": "ann", "client_id": f"client {number}", "cells": [number], "value": "LSIL"}
        return ask(app, "POST", "/v1/labels", json=body, headers={"Authorization": f"Bearer {TOKEN}"})

    with full_disk(project / JOURNAL):
        for _ in range(2):
            refused = send(1)
            assert refused.status_code == 422
            assert refused.json()["detail"].startswith("The label was not stored: ")
            assert "Free space on its disk and try again" in refused.json()["detail"]
    assert [one.cells for one in Journal(project / JOURNAL).entries()] == [(0,)]
    assert opened.cell("ann", 1)["label"] is None
    assert send(1).json()["entry"] == send(1).json()["entry"]
    assert send(2).status_code == 200
    assert [one.cells for one in Journal(project / JOURNAL).entries()] == [(0,), (1,), (2,)]


@pytest.mark.parametrize(("method", "path"), [
    ("POST", "/v1/labels"), ("POST", "/v1/undo"), ("POST", "/v1/redo"), ("POST", "/v1/adjudications"),
    ("PUT", "/v1/mixture"), ("POST", "/v1/finish"), ("GET", "/v1/points?reader=ann"), ("GET", "/v1/cells/0/picture"),
])  # fmt: skip
@pytest.mark.parametrize(("origin", "base", "token", "status"), [
    ("http://evil.example", LOCAL, TOKEN, 403), ("http://127.0.0.1:3000", LOCAL, TOKEN, 403),
    ("http://evil.example", "http://evil.example", TOKEN, 421), (LOCAL, LOCAL, "x" * 32, 401),
])  # fmt: skip
def test_a_page_of_another_site_reaches_no_path_of_a_project(
    tmp_path: Path, method: str, path: str, origin: str, base: str, token: str, status: int
):
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was asked for")

    app = make_app(Untouchable(), tmp_path, TOKEN)  # pyright: ignore[reportArgumentType]
    headers = {"Authorization": f"Bearer {token}", "Origin": origin}
    assert ask(app, method, path, base=base, json={}, headers=headers).status_code == status
