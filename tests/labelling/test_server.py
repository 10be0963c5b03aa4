"""The server of a labelling project: who may ask, what is stored before it is answered, what is refused."""

import errno
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_labelling import FakeLabelling
from service import LOCAL, ask

from cytolora.errors import WeightsError
from cytolora.labelling.points import pack_points
from cytolora.labelling.server import Background, make_app, new_token, page

TOKEN = "t" * 32
RIGHT = {"Authorization": f"Bearer {TOKEN}"}


def body(**more: Any) -> dict[str, Any]:
    return {"reader": "anna", "client_id": "0123456789", "cells": [3], "value": "lsil", **more}


def post(project: FakeLabelling, path: str, content: dict[str, Any], headers: dict[str, str] | None = None) -> Any:
    app = make_app(project, "project", TOKEN)
    return ask(app, "POST", path, json=content, headers={**RIGHT, **(headers or {})})


@pytest.mark.parametrize("path", [
    "/", "/?token=wrong", f"/?other={TOKEN}", f"/?token={TOKEN}x", "/v1/overview?reader=a",
    f"/v1/overview?reader=a&token={TOKEN}", "/v1/points?reader=a", "/v1/cells/1/picture",
])  # fmt: skip
def test_nothing_is_answered_without_the_token(path: str):
    assert ask(make_app(FakeLabelling(), "project", TOKEN), "GET", path).status_code == 401


def test_the_page_opens_with_the_token_in_its_address_and_loads_nothing_from_elsewhere():
    found = ask(make_app(FakeLabelling(), "project", TOKEN), "GET", f"/?token={TOKEN}")
    assert found.status_code == 200
    assert "Label cells" in found.text
    assert "://" not in found.text
    assert "connect-src 'self'" in found.headers["content-security-policy"]
    assert TOKEN not in found.text


def test_a_readers_name_cannot_leave_its_place_in_the_page():
    assert "<script>alert" not in page('"><script>alert(1)</script>')


@pytest.mark.parametrize(("base", "origin", "status"), [
    (LOCAL, "http://evil.example", 403), (LOCAL, "null", 403), (LOCAL, "http://127.0.0.1:3000", 403),
    ("http://evil.example", "http://evil.example", 421), (LOCAL, LOCAL, 200),
])  # fmt: skip
def test_a_page_of_another_site_is_refused_even_with_the_token(base: str, origin: str, status: int):
    project = FakeLabelling()
    app = make_app(project, "project", TOKEN)
    answer = ask(app, "POST", "/v1/labels", base=base, json=body(), headers={**RIGHT, "Origin": origin})
    assert answer.status_code == status
    assert len(project.entries) == (status == 200)


def test_a_label_that_is_sent_again_is_one_entry():
    project = FakeLabelling()
    first, second = post(project, "/v1/labels", body()), post(project, "/v1/labels", body())
    assert first.json()["entry"] == second.json()["entry"] == 0
    assert project.labels_of("anna") == {3: "lsil"}
    assert first.json()["overview"]["classes"][1]["labels"] == 1


def test_a_full_disk_is_said_and_the_label_can_be_sent_again():
    project = FakeLabelling()
    project.fail_with = OSError(errno.ENOSPC, "No space left on device")
    refused = post(project, "/v1/labels", body())
    assert refused.status_code == 507
    assert refused.json()["detail"].startswith("Nothing was stored: No space left on device.")
    assert project.entries == []
    assert post(project, "/v1/labels", body()).status_code == 200
    assert project.labels_of("anna") == {3: "lsil"}


def test_what_a_reader_can_change_is_one_line_and_a_fault_of_the_program_is_none_of_its_text():
    project = FakeLabelling()
    refused = post(project, "/v1/labels", body(value="cancer"))
    assert (refused.status_code, refused.json()) == (
        422, {"detail": "'cancer' is no class of this project: normal, lsil, hsil."}
    )  # fmt: skip
    project.fail_with = RuntimeError("secret path /home")
    with pytest.raises(RuntimeError):  # for the server's own log
        post(project, "/v1/labels", body())
    assert project.entries == []


@pytest.mark.parametrize(("path", "content"), [
    ("/v1/labels", body(cells=[])), ("/v1/labels", body(cells=[-1])), ("/v1/labels", body(cells=["1"])),
    ("/v1/labels", body(client_id="")), ("/v1/labels", body(reader="")), ("/v1/labels", body(how="import")),
    ("/v1/labels", body(more=1)), ("/v1/undo", {"reader": "anna"}), ("/v1/adjudications", body()),
    ("/v1/undo", {"reader": "anna", "client_id": "0123456789"}),
])  # fmt: skip
def test_requests_that_are_none_store_nothing(path: str, content: dict[str, Any]):
    project = FakeLabelling()
    assert post(project, path, content).status_code == 422
    assert project.entries == []


@pytest.mark.parametrize(("path", "status"), [
    ("/v1/queue?reader=a&kind=all", 422), ("/v1/queue?reader=a&n=0", 422), ("/v1/queue", 422),
    ("/v1/cells/60?reader=a", 422), ("/v1/cells/-1?reader=a", 422), ("/v1/cells/x?reader=a", 422),
    ("/v1/cells/1/picture?size=100000", 422), ("/openapi.json", 404), ("/v1/labels", 405),
    ("/v1/cells/5?reader=a", 200), ("/v1/disagreements", 200), ("/v1/cells/5/picture", 200),
])  # fmt: skip
def test_reading_is_bounded(path: str, status: int):
    assert ask(make_app(FakeLabelling(), "project", TOKEN), "GET", path, headers=RIGHT).status_code == status


def test_a_mixture_is_shares_and_a_large_request_is_refused():
    project = FakeLabelling()
    app = make_app(project, "project", TOKEN)
    mixture = dict.fromkeys(("doubt", "diversity", "mistakes", "rare", "test"), 0.5)
    assert ask(app, "PUT", "/v1/mixture", json=mixture, headers=RIGHT).status_code == 200
    assert project.mixture == mixture
    for wrong in ({**mixture, "test": 2}, {**mixture, "more": 1}, {"test": 0.5}):
        assert ask(app, "PUT", "/v1/mixture", json=wrong, headers=RIGHT).status_code == 422
    assert project.mixture == mixture
    assert ask(app, "POST", "/v1/labels", content=b" " * 3_000_000, headers=RIGHT).status_code == 413


def test_undo_redo_adjudication_and_the_end_travel(tmp_path: Path):
    project = FakeLabelling(folder=tmp_path)
    reader = {"reader": "anna"}
    post(project, "/v1/labels", body())
    undone = post(project, "/v1/undo", {**reader, "client_id": "undo-0001"}).json()
    assert (undone["cells"], undone["overview"]["can_redo"], project.labels_of("anna")) == ([3], True, {})
    post(project, "/v1/redo", {**reader, "client_id": "redo-0001"})
    post(project, "/v1/labels", body(reader="ben", client_id="ben-00001", value="hsil"))
    decided = {"reader": "cora", "client_id": "cora-0001", "cell": 3, "value": "hsil"}
    assert post(project, "/v1/adjudications", decided).status_code == 200
    answer = ask(make_app(project, "my project", TOKEN), "GET", "/v1/disagreements", headers=RIGHT).json()
    assert [one["adjudicated"] for one in answer["cells"]] == ["hsil"]
    ended = ask(make_app(project, "my project", TOKEN), "POST", "/v1/finish", headers=RIGHT).json()
    command = "cytolora fit 'my project' --out 'my project-bundle'"
    assert ended == {"labels": str(tmp_path / "labels.csv"), "lacking": "", "command": command}
    project.lack = "No drawn test cell has a class."
    ended = ask(make_app(project, "my project", TOKEN), "POST", "/v1/finish", headers=RIGHT).json()
    assert (ended["lacking"], ended["command"]) == (project.lack, "")


def test_points_are_packed_as_the_page_reads_them():
    points = FakeLabelling(7).points()
    packed = pack_points(points)
    n, has_positions = np.frombuffer(packed, "<i4", 2)
    assert (n, has_positions) == (7, 1)
    at = 8
    for name, kind in (("x", "<f4"), ("y", "<f4"), ("doubt", "<f4"), ("group", "<i4"), ("label", "<i2"),
                       ("prediction", "<i2"), ("test", "u1")):  # fmt: skip
        found = np.frombuffer(packed, kind, 7, at)
        np.testing.assert_array_equal(found, points[name])
        at += found.nbytes
    assert at == len(packed)
    without = pack_points(FakeLabelling(7, has_features=False).points())
    assert (len(without), np.frombuffer(without, "<i4", 2)[1]) == (len(packed), 0)


def wait_for(condition: Any) -> None:
    ends = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_labels_that_come_together_are_one_refit_and_a_failed_one_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("cytolora.labelling.server._GATHER_SECONDS", 0.05)
    monkeypatch.setattr("cytolora.labelling.server._FIRST_SECONDS", 0.05)
    project = FakeLabelling(has_features=False)
    background = Background(project)
    background.start()
    wait_for(lambda: project.number == 1)  # of labels from before, once the features are there
    assert project.has_features
    for _ in range(50):
        background.labelled()
    wait_for(lambda: project.number == 2)
    monkeypatch.setattr(project, "refit", lambda: 1 / 0)
    background.labelled()
    wait_for(lambda: background.problem)
    assert "Labels are stored all the same" in str(background.problem)
    monkeypatch.undo()
    background.labelled()
    wait_for(lambda: background.problem is None and project.number > 2)
    background.stop()
    assert project.is_closed
    assert project.number < 6


def test_why_there_are_no_features_stays_after_the_next_label(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cytolora.labelling.server._GATHER_SECONDS", 0.01)
    monkeypatch.setattr("cytolora.labelling.server._FIRST_SECONDS", 0.01)

    def no_weights() -> None:
        raise WeightsError("No weights of uni.")

    project = FakeLabelling(has_features=False)
    monkeypatch.setattr(project, "start_features", no_weights)
    background = Background(project)
    background.start()
    wait_for(lambda: background.problem == "No weights of uni.")
    for number in (1, 2):
        background.labelled()
        wait_for(lambda number=number: project.number >= number)
    assert background.problem == "No weights of uni."
    background.stop()


def test_of_two_requests_for_lora_at_once_one_trains_and_the_other_is_told_that_it_does():
    project = FakeLabelling()
    app = make_app(project, "project", TOKEN)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(app, "POST", "/v1/lora", headers=RIGHT), range(8)))
    assert sorted(answer.status_code for answer in answers) == [202, *[409] * 7]
    told = {answer.json()["detail"] for answer in answers if answer.status_code == 409}
    assert told == {"LoRA is being trained already."}
    project.may_train.set()
    wait_for(lambda: ask(app, "POST", "/v1/lora", headers=RIGHT).status_code == 202)


def test_a_lora_of_another_server_is_taken_without_a_label(monkeypatch: pytest.MonkeyPatch):
    labelled: list[bool] = []
    monkeypatch.setattr(Background, "labelled", lambda self: labelled.append(True))
    for is_new in (False, True):
        monkeypatch.setattr(FakeLabelling, "is_lora_new", is_new)
        ask(make_app(FakeLabelling(), "p", TOKEN), "GET", "/v1/overview?reader=a", headers=RIGHT)
        assert labelled == [True] * is_new


def test_nothing_is_loaded_in_the_background_before_the_first_cells_are_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cytolora.labelling.server._FIRST_SECONDS", 60)
    project = FakeLabelling(has_features=False)
    background = Background(project)
    background.start()
    time.sleep(0.1)
    assert not project.has_features
    assert not project.is_prepared
    background.asked()
    wait_for(lambda: project.has_features and project.is_prepared)
    background.stop()


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/queue?reader=a"), ("POST", "/v1/labels")])
def test_cells_and_labels_say_that_the_page_is_there(method: str, path: str, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(Background, "asked", lambda self: asked.append(path))
    content: dict[str, Any] = {"json": body()} if method == "POST" else {}
    assert ask(make_app(FakeLabelling(), "p", TOKEN), method, path, headers=RIGHT, **content).status_code == 200
    assert asked == [path]


def test_tokens_are_long_and_differ():
    assert len({new_token() for _ in range(100)}) == 100
    assert min(map(len, (new_token() for _ in range(100)))) >= 32
