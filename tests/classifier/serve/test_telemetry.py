"""Metrics, request ids and the log of requests: right numbers, no names, and nothing that a caller could fill."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from service import TOKEN, Colour, ask, form, png, written

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
    assert found["cytolora_images_total", "predicted"] == 2
    assert found["cytolora_images_total", "unreadable"] == 2
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
    assert about["model"] == name
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
