"""Metrics, request ids and the log of requests: right numbers, no names, and nothing that a caller could fill."""

import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from service import TOKEN, Colour, ask, form, png, running, written
from slow_clients import connect

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
prometheus = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is not installed")

from cytolora.classifier.serve.app import make_app  # noqa: E402
from cytolora.classifier.serve.limits import Limits  # noqa: E402
from cytolora.classifier.serve.request_log import request_log  # noqa: E402


def _numbers(app: Any, **headers: str) -> dict[tuple[str, ...], float]:
    """What Prometheus' own parser reads, by name and values of labels."""
    answer = ask(app, "GET", "/metrics", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = prometheus.text_string_to_metric_families(answer.text)
    return {(row.name, *row.labels.values()): row.value for family in families for row in family.samples}


def test_requests_and_images_are_counted_as_they_were(model: Colour):
    app = make_app(model)
    ask(app, "GET", "/health")
    ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0)), png((9, 9, 9)), b"no image"))
    assert ask(app, "POST", "/v1/predict", files=form(b"no image")).status_code == 422
    found = _numbers(app)
    assert found["cytolora_requests_total", "/health", "200"] == 1
    assert found["cytolora_requests_total", "/v1/predict", "200"] == 1
    assert found["cytolora_requests_total", "/v1/predict", "422"] == 1
    assert found["cytolora_images_total", "model", "predicted"] == 2
    assert found["cytolora_images_total", "model", "unreadable"] == 2
    by_class = {key[1]: value for key, value in found.items() if key[0] == "cytolora_predicted_total"}
    assert set(by_class) == set(model.classes)
    assert sum(by_class.values()) == 2
    assert found["cytolora_batch_images_sum",] == 2
    assert found["cytolora_request_seconds_count", "/v1/predict"] == 2
    assert found["cytolora_pending_images",] == 0
    assert found["process_resident_memory_bytes",] > 1e6


def test_the_model_of_the_metrics_is_that_of_the_answers(model: Colour):
    app = make_app(model)
    name = ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0)))).json()["model"]
    families = prometheus.text_string_to_metric_families(ask(app, "GET", "/metrics").text)
    (about,) = [row.labels for family in families for row in family.samples if row.name == "cytolora_model_info"]
    assert about["hash"] == name
    assert about["backbone"] == model.contents.backbone.spec.name


def test_paths_that_do_not_exist_are_counted_together(model: Colour):
    app = make_app(model)
    for number in range(30):
        ask(app, "GET", f"/{number}")
    found = _numbers(app)
    assert found["cytolora_requests_total", "other", "404"] == 30
    assert not any("/7" in part for key in found for part in key)


def test_metrics_need_the_token_where_there_is_one(model: Colour):
    app = make_app(model, token=TOKEN, loopback_only=False)
    assert ask(app, "GET", "/metrics").status_code == 401
    found = _numbers(app, Authorization=f"Bearer {TOKEN}")
    assert found["cytolora_requests_total", "/metrics", "401"] == 1
    prefixed = make_app(model, token=TOKEN, loopback_only=False, root_path="/cyto")
    assert ask(prefixed, "GET", "/cyto/metrics").status_code == 401


@pytest.mark.parametrize("given", ["abc-1._", "x" * 64])
def test_an_id_of_the_caller_comes_back(model: Colour, given: str):
    answer = ask(make_app(model), "GET", "/health", headers={"X-Request-ID": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"b', "ä", "a\tb"])
def test_any_other_id_is_replaced(model: Colour, given: str):
    app = make_app(model)
    answers = [ask(app, "GET", "/health", headers={"X-Request-ID": given.encode()}) for _ in range(2)]
    names = {answer.headers["x-request-id"] for answer in answers}
    assert len(names) == 2
    assert given not in names


def test_every_refusal_has_an_id_and_is_json(model: Colour):
    app = make_app(model, Limits(max_body_bytes=1000), token=TOKEN)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "multipart/form-data; boundary=x"}

    async def pieces() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        for _ in range(3):
            yield b"x" * 900

    answers = [
        ask(app, "POST", "/v1/predict", content=b"x" * 2000, headers=headers),
        ask(app, "POST", "/v1/predict", content=pieces(), headers=headers),
        ask(app, "POST", "/v1/predict"),
        ask(app, "GET", "/health", headers={"Host": "elsewhere.org"}),
        ask(app, "GET", "/nothing"),
    ]
    assert [answer.status_code for answer in answers] == [413, 413, 401, 421, 404]
    for answer in answers:
        assert len(answer.headers["x-request-id"]) == 32
        assert set(answer.json()) == {"detail"}


def test_the_log_holds_a_line_a_request_and_no_name_of_a_file(model: Colour, tmp_path: Path):
    path = tmp_path / "requests.jsonl"
    log = request_log(path)
    app = make_app(model, log=log)
    files = [("images", ("anna_meyer.png", png((0, 0, 0)), "image/png")), ("images", ("b.png", b"", "image/png"))]
    ask(app, "POST", "/v1/predict", files=files, headers={"X-Request-ID": "one"})
    written(log)
    path.rename(tmp_path / "older.jsonl")
    ask(app, "GET", "/health")
    written(log)
    (first,), (second,) = (
        [json.loads(line) for line in file.read_text().splitlines()] for file in (tmp_path / "older.jsonl", path)
    )
    assert (first["id"], first["method"], first["path"]) == ("one", "POST", "/v1/predict")
    assert (first["status"], first["images"]) == (200, 2)
    assert first["seconds"] >= 0
    assert set(first) == {"time", "id", "client", "method", "path", "status", "seconds", "images"}
    assert (second["path"], second["images"]) == ("/health", 0)
    assert "meyer" not in (tmp_path / "older.jsonl").read_text()


def test_a_fault_of_the_program_is_counted_and_logged_as_500(model: Colour):
    rows: list[dict[str, Any]] = []
    app = make_app(model, log=rows.append)

    @app.get("/fault")
    async def fault() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask(app, "GET", "/fault")
    ask(app, "A" * 1000, "/health")
    assert [(row["status"], row["method"]) for row in rows] == [(500, "GET"), (405, "other")]
    assert _numbers(app)["cytolora_requests_total", "other", "500"] == 1


def _faulty(model: Colour, rows: list[dict[str, Any]], **options: Any) -> Any:
    app = make_app(model, log=rows.append, **options)

    @app.get("/v1/fault")
    async def fault() -> None:
        raise ZeroDivisionError("of a programmer")

    return app


def test_a_fault_of_the_program_is_answered_in_json_with_its_id_and_the_guards_headers(
    model: Colour, capsys: pytest.CaptureFixture[str]
):
    rows: list[dict[str, Any]] = []
    with running(_faulty(model, rows)) as url, httpx.Client(base_url=url) as client:
        answer = client.get("/v1/fault", headers={"X-Request-ID": "mine"})
        fine = client.get("/health")
    assert answer.status_code == 500
    assert answer.json() == {"detail": "A fault of the service; its own log has the reason."}
    assert answer.headers["x-request-id"] == "mine"
    for name in ("content-security-policy", "x-content-type-options", "cache-control", "referrer-policy"):
        assert answer.headers[name] == fine.headers[name]
    assert [(row["id"], row["status"]) for row in rows] == [("mine", 500), (fine.headers["x-request-id"], 200)]
    assert "of a programmer" in capsys.readouterr().err  # the server's own log


def test_a_fault_behind_a_token_says_nothing_to_those_without(model: Colour):
    rows: list[dict[str, Any]] = []
    with running(_faulty(model, rows, token=TOKEN)) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/fault").status_code == 401
        assert client.get("/v1/fault", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 500
    assert [row["status"] for row in rows] == [401, 500]


class _Slow(Colour):
    begun: Event
    goes_on: Event

    def outputs(self, views: Any) -> Any:
        self.begun.set()
        self.goes_on.wait(20)
        return super().outputs(views)


@pytest.fixture
def slow(model: Colour) -> _Slow:
    made = _Slow(model.contents, "slow")
    made.begun, made.goes_on = Event(), Event()
    return made


def _request(content: bytes, *, length: int | None = None) -> bytes:
    body = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length or len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    return head.encode() + body


def _until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("sent", [0.3, 0.6, 0.999])
def test_a_client_that_goes_in_the_middle_of_its_body_is_noted_as_499(model: Colour, sent: float):
    rows: list[dict[str, Any]] = []
    whole = _request(png((1, 2, 3), (64, 64)))
    app = make_app(model, log=rows.append)
    with running(app) as url:
        head = whole.index(b"\r\n\r\n") + 4
        connect(url, whole[: head + int(sent * (len(whole) - head))]).close()
        _until(lambda: bool(rows))
    assert [(row["path"], row["status"]) for row in rows] == [("/v1/predict", 499)]
    assert _numbers(app)["cytolora_requests_total", "/v1/predict", "499"] == 1


@pytest.mark.parametrize("is_reset", [True, False])
def test_a_client_that_goes_while_its_images_are_computed_is_noted_as_499(slow: _Slow, is_reset: bool):
    rows: list[dict[str, Any]] = []
    with running(make_app(slow, log=rows.append)) as url:
        client = connect(url, _request(png((1, 2, 3))))
        assert slow.begun.wait(20)
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        time.sleep(0.1)
        slow.goes_on.set()
        _until(lambda: bool(rows))
    assert [(row["path"], row["status"], row["images"]) for row in rows] == [("/v1/predict", 499, 1)]


def test_clients_that_wait_are_noted_with_their_answer(slow: _Slow):
    """Also one that closes as soon as it has the answer, and one connection with several requests."""
    rows: list[dict[str, Any]] = []
    with running(make_app(slow, log=rows.append)) as url:
        slow.goes_on.set()
        for content in (png((1, 2, 3)), b"no image"):
            with connect(url, _request(content)) as client:
                client.recv(65536)
        with httpx.Client(base_url=url) as client:
            for _ in range(3):
                client.post("/v1/predict", files=form(png((0, 0, 0))))
                client.get("/health")
        _until(lambda: len(rows) == 8)
    assert [row["status"] for row in rows] == [200, 422, *[200] * 6]
