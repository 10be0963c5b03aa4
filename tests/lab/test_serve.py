import asyncio
import io
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bundle import CLASSES, write_small_bundle

from cytolora.lab.bundle_files import read_bundle
from cytolora.lab.predictor import Predictor, pixels_of

httpx = pytest.importorskip("httpx", reason="httpx is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("fastapi", reason="FastAPI is not installed")

from cytolora.lab.serve import Limits, make_app  # noqa: E402

LOCAL = "http://127.0.0.1"
TOKEN = "0123456789abcdef"


class Colour(Predictor[np.ndarray]):
    """Answers with the colour of an image: cheap, and another answer for every image."""

    def read_bank(self) -> None:
        return None

    def view(self, image: Any) -> np.ndarray:
        return pixels_of(image)[0, 0]

    def outputs(self, views: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        colours = np.stack(list(views)).astype(np.float32)
        return np.concatenate([colours, np.zeros((len(views), 1), np.float32)], axis=1) / 64, colours


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Colour:
    contents, _ = read_bundle(write_small_bundle(tmp_path_factory.mktemp("serve") / "model"))
    return Colour(replace(contents, unfamiliar=None), "colour")


def png(colour: tuple[int, int, int], size: tuple[int, int] = (4, 4)) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", size, colour).save(sink, "PNG")
    return sink.getvalue()


def form(*images: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (f"{number}.png", image, "image/png")) for number, image in enumerate(images)]


def ask(app: Any, method: str, path: str, base: str = LOCAL, **options: Any) -> Any:
    async def once() -> Any:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url=base) as client:
            return await client.request(method, path, **options)

    return asyncio.run(once())


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The service on a free port of loopback, in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"{LOCAL}:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def test_one_image_and_many_are_answered_in_their_order(model: Colour):
    colours = [(9, 200, 3), (250, 1, 1), (0, 0, 240)]
    answer = ask(make_app(model), "POST", "/v1/predict", files=form(*map(png, colours))).json()
    assert [found["name"] for found in answer["predictions"]] == ["0.png", "1.png", "2.png"]
    assert [found["predicted"] for found in answer["predictions"]] == [CLASSES[1], CLASSES[0], CLASSES[2]]
    assert answer["classes"] == list(CLASSES)
    assert answer["use"] == "research"
    for colour, found in zip(colours, answer["predictions"], strict=True):
        (expected,) = model.predict([png(colour)])
        assert tuple(found["probabilities"].values()) == expected.probabilities
        assert found["prediction_set"] == list(expected.prediction_set or ())


def test_a_damaged_image_among_others_is_an_error_in_its_place_and_alone_a_422(model: Colour):
    app = make_app(model)
    answer = ask(app, "POST", "/v1/predict", files=form(b"no image", png((1, 2, 3)))).json()
    assert "Cannot read the file as an image" in answer["predictions"][0]["error"]
    assert "cytolora check" not in answer["predictions"][0]["error"]
    assert answer["predictions"][1]["predicted"] in CLASSES
    refused = ask(app, "POST", "/v1/predict", files=form(b"no image"))
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["name"] == "0.png"


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(model: Colour):
    app = make_app(model, Limits(max_pixels=10_000))
    refused = ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0), (101, 100))))
    assert refused.status_code == 422
    assert "101 x 100 pixels, at most 10,000" in refused.text
    assert ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0), (100, 100)))).status_code == 200


def test_too_many_images_in_one_request_are_refused(model: Colour):
    app = make_app(model, Limits(max_images=2))
    assert ask(app, "POST", "/v1/predict", files=form(*[png((0, 0, 0))] * 3)).status_code == 413


def test_a_full_queue_says_when_to_come_back(model: Colour):
    app = make_app(model, Limits(max_queue=1))
    refused = ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0)), png((1, 1, 1))))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0)))).status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_thirty_megabytes_at_a_limit_of_two_are_refused(model: Colour, chunked: bool):
    content = form(png((0, 0, 0)) + bytes(30 * 1024 * 1024))
    request = httpx.Request("POST", f"{LOCAL}/v1/predict", files=content)
    body = request.read()
    headers = {"content-type": request.headers["content-type"]}

    async def pieces() -> Any:
        for start in range(0, len(body), 65536):
            yield body[start : start + 65536]

    sent: Any = pieces() if chunked else body
    refused = ask(make_app(model), "POST", "/v1/predict", content=sent, headers=headers)
    assert refused.status_code == 413


def test_a_sender_that_falls_silent_is_let_go_and_others_are_answered(model: Colour):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    form_type = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    with running(make_app(model, Limits(body_seconds=2))) as url:
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
        silent.sendall(head + form_type)
        assert httpx.post(f"{url}/v1/predict", files=form(png((0, 0, 0))), timeout=60).status_code == 200
        assert silent.recv(4096).startswith(b"HTTP/1.1 400")
        silent.close()


def test_ready_says_no_once_the_service_has_stopped(model: Colour):
    app = make_app(model)
    assert ask(app, "GET", "/ready").json() == {"status": "ready", "pending": 0}

    async def through() -> None:
        async with app.router.lifespan_context(app):
            pass

    asyncio.run(through())
    assert ask(app, "GET", "/ready").status_code == 503
    assert ask(app, "POST", "/v1/predict", files=form(png((0, 0, 0)))).status_code == 503
    assert ask(app, "GET", "/health").status_code == 200


def swapped_answers(model: Colour, requests: int, clients: int = 50) -> tuple[int, int]:
    """Asks with as many clients at once, each with a colour of its own; returns wrong answers and batches."""
    batches = []
    counting = Colour(model.contents, "counting")
    counting.outputs = lambda views: (batches.append(len(views)), model.outputs(views))[1]  # type: ignore[method-assign]
    colours = [(5 * number, 250 - 5 * number, 37 * number % 256) for number in range(clients)]
    expected = [prediction.probabilities for prediction in model.predict([png(colour) for colour in colours])]

    async def client(number: int, url: str) -> int:
        wrong, content = 0, png(colours[number])
        async with httpx.AsyncClient(base_url=url, timeout=60) as session:
            for _ in range(requests // clients):
                answer = await session.post("/v1/predict", files=form(content))
                found = answer.json()["predictions"][0]["probabilities"].values()
                wrong += tuple(found) != expected[number]
        return wrong

    async def everybody(url: str) -> int:
        return sum(await asyncio.gather(*(client(number, url) for number in range(clients))))

    with running(make_app(counting)) as url:
        return asyncio.run(everybody(url)), len(batches)


def test_fifty_clients_get_their_own_answers(model: Colour):
    wrong, batches = swapped_answers(model, 1000)
    assert wrong == 0
    assert batches < 1000  # some were answered together


@pytest.mark.slow
def test_fifty_clients_get_their_own_answers_ten_thousand_times(model: Colour):
    wrong, batches = swapped_answers(model, 10_000)
    assert wrong == 0
    assert batches < 10_000


def statuses_of_the_schema(app: Any, max_examples: int) -> set[int]:
    """Asks what Schemathesis makes of the schema; returns the statuses of all answers."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    seen: set[int] = set()
    quietly = (*settings().suppress_health_check, HealthCheck.filter_too_much, HealthCheck.data_too_large)
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(max_examples=max_examples, suppress_health_check=quietly)
        def holds(case: Any) -> None:
            response = case.call(headers={"Host": "127.0.0.1"})
            seen.add(response.status_code)
            assert response.status_code < 500

        holds()
    return seen


def test_the_whole_schema_is_answered_without_an_error_of_the_server(model: Colour):
    assert {200, 422} <= statuses_of_the_schema(make_app(model), 60)


def test_the_schema_names_every_status_that_the_tests_above_met(model: Colour):
    schema = ask(make_app(model, token=TOKEN), "GET", "/openapi.json").json()
    assert set(schema["paths"]["/v1/predict"]["post"]["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "413",
        "421",
        "422",
        "503",
    }
    assert "HTTPBearer" in json.dumps(schema)
