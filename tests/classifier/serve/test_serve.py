import asyncio
import json
import socket
from base64 import b64encode
from typing import Any

import pytest
from small_bundle import CLASSES

pytest.importorskip("fastapi", reason="FastAPI is not installed")

from service import (
    LOCAL,
    TOKEN,
    Colour,
    ask,
    assert_both_modes_are_reached,
    form,
    httpx,
    png,
    running,
    statuses_of_the_schema,
)

import cytolora
from cytolora.classifier.serve.app import make_app
from cytolora.classifier.serve.limits import Limits


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


def test_images_in_base64_are_answered_as_those_of_a_form(model: Colour):
    app, contents = make_app(model), [png((200, 0, 0)), png((0, 0, 200))]
    sent = [{"name": f"{number}.png", "data": b64encode(one).decode()} for number, one in enumerate(contents)]
    answer = ask(app, "POST", "/v1/predict/json", json={"images": sent})
    assert answer.status_code == 200
    assert answer.json() == ask(app, "POST", "/v1/predict", files=form(*contents)).json()


def test_an_image_in_no_base64_is_an_error_in_its_place_and_too_many_are_refused(model: Colour):
    right, app = b64encode(png((1, 2, 3))).decode(), make_app(model, Limits(max_images=2))
    answer = ask(app, "POST", "/v1/predict/json", json={"images": [{"data": right + "!"}, {"data": right}]}).json()
    assert [bool(one["error"]) for one in answer["predictions"]] == [True, False]
    assert answer["predictions"][0]["error"].startswith("data is no base64 of a file")
    assert [one["name"] for one in answer["predictions"]] == ["0", "1"]
    assert ask(app, "POST", "/v1/predict/json", json={"images": [{"data": right}] * 3}).status_code == 413
    assert ask(app, "POST", "/v1/predict/json", json={"images": []}).status_code == 422


def test_half_a_character_in_json_and_long_nonsense_are_answered_briefly(model: Colour):
    half, app = "\ud800", make_app(model)
    sent = json.dumps({"images": [{"name": half, "data": b64encode(png((1, 2, 3))).decode()}]})
    headers = {"content-type": "application/json"}
    answer = ask(app, "POST", "/v1/predict/json", content=sent, headers=headers)
    assert (answer.status_code, answer.json()["predictions"][0]["name"]) == (200, "?")
    for wrong in (half, "x" * 100_000):
        sent = json.dumps({"images": [{"data": [wrong]}]})
        refused = ask(app, "POST", "/v1/predict/json", content=sent, headers=headers)
        assert refused.status_code == 422
        assert refused.json()["detail"][0]["loc"] == ["body", "images", 0, "data"]
        assert len(refused.content) < 200


@pytest.mark.parametrize(
    ("content", "name"),
    [(b"\0\0\0\x18ftypheic", "HEIF"), (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"), (b"\xff\n\xfa\x7f", "JPEG XL")],
)
def test_a_format_that_is_not_read_is_refused_by_its_name(model: Colour, content: bytes, name: str):
    refused = ask(make_app(model), "POST", "/v1/predict", files=form(content + bytes(64)))
    assert refused.status_code == 422
    assert name in refused.json()["detail"][0]["error"]


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


@pytest.mark.slow
def test_a_sender_that_falls_silent_is_let_go_and_others_are_answered(model: Colour):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
    form_type = b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
    limits = Limits(body_seconds=2)
    with running(make_app(model, limits), limits) as url:
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=60)
        silent.sendall(head + form_type)
        assert httpx.post(f"{url}/v1/predict", files=form(png((0, 0, 0))), timeout=60).status_code == 200
        assert silent.recv(4096).startswith(b"HTTP/1.1 408")
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


@pytest.mark.slow
def test_fifty_clients_get_their_own_answers(model: Colour):
    wrong, batches = swapped_answers(model, 1000)
    assert wrong == 0
    assert batches < 1000  # some were answered together


@pytest.mark.parametrize("token", [None, TOKEN])
@pytest.mark.slow
def test_the_whole_schema_is_answered_as_it_says(model: Colour, token: str | None):
    met = statuses_of_the_schema(make_app(model, token=token), 60, token=token)
    assert_both_modes_are_reached(met, token)


def test_the_schema_names_every_status_that_the_tests_above_met(model: Colour):
    schema = ask(make_app(model, token=TOKEN), "GET", "/openapi.json").json()
    assert schema["info"]["version"] == cytolora.__version__
    assert set(schema["paths"]["/v1/predict"]["post"]["responses"]) == {
        "200",
        "400",
        "401",
        "403",
        "408",
        "413",
        "421",
        "422",
        "503",
    }
    assert "HTTPBearer" in json.dumps(schema)
