import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_bundle import CLASSES, write_small_bundle

from cytolora.cli import main
from cytolora.lab.bundle import Bundle
from cytolora.lab.bundle_files import read_bundle
from cytolora.lab.microbatch import MicroBatcher, QueueFullError
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
    with running(make_app(model, Limits(body_seconds=0.2))) as url:
        silent = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10)
        silent.sendall(head + form_type)
        assert httpx.post(f"{url}/v1/predict", files=form(png((0, 0, 0)))).status_code == 200
        assert silent.recv(4096).startswith(b"HTTP/1.1 400")
        silent.close()


def test_a_token_is_asked_for_and_compared_whole(model: Colour):
    app = make_app(model, token=TOKEN, loopback_only=False)
    files = form(png((0, 0, 0)))
    for header in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": b"Bearer \xff"},
    ):
        refused = ask(app, "POST", "/v1/predict", base="http://clinic.example", files=files, headers=header)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(app, "POST", "/v1/predict", base="http://clinic.example", files=files, headers=right).status_code == 200
    assert ask(app, "GET", "/health", base="http://clinic.example").status_code == 200


def test_a_name_of_another_host_led_to_loopback_is_refused(model: Colour):
    app = make_app(model)
    assert ask(app, "GET", "/", base="http://evil.example:8000").status_code == 421
    for base in ("http://localhost:8000", "http://127.0.0.1", "http://[::1]:8000"):
        assert ask(app, "GET", "/health", base=base).status_code == 200


def test_a_page_of_another_site_cannot_send_images_to_a_service_without_a_token(model: Colour):
    def status(origin: str, **options: Any) -> int:
        app, files = make_app(model, **options), form(png((0, 0, 0)))
        base = "http://127.0.0.1:8000"
        right = {"Authorization": f"Bearer {TOKEN}"}
        return ask(app, "POST", "/v1/predict", base, files=files, headers={"Origin": origin, **right}).status_code

    for foreign in ("http://evil.example", "null", "http://127.0.0.1:3000", "http://127.0.0.1:8000.evil.example"):
        assert status(foreign) == 403
        assert status(foreign, token=TOKEN) == 200  # which the page cannot know
    assert status("http://127.0.0.1:8000") == 200


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(model: Colour):
    found = ask(make_app(model), "GET", "/")
    assert "Drop images here" in found.text
    assert "://" not in found.text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "needs-token=yes" in ask(make_app(model, token=TOKEN), "GET", "/").text


def test_other_interfaces_than_loopback_need_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "short").write_text("secret\n")
    for options, words in (
        (["--host", "0.0.0.0"], "--token-file FILE; or stay on 127.0.0.1"),
        (["--host", "192.168.1.5"], "can be reached from other machines"),
        (["--host", "0.0.0.0", "--token-file", str(tmp_path / "short")], "at least 16 characters"),
        (["--token-file", str(tmp_path / "none")], "No such file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(tmp_path / "model"), *options])
        assert stopped.value.code == 2
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1


def test_a_port_that_is_taken_is_said_in_one_line(
    onnx_export: tuple[Bundle, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)  # of this process, which goes on
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SystemExit) as stopped:
            main(["serve", str(onnx_export[1]), "--port", str(other.getsockname()[1])])
    assert stopped.value.code == 2
    assert "Choose another --port" in capsys.readouterr().err


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


def test_ctrl_c_stops_the_service_without_an_error(onnx_export: tuple[Bundle, Path]):
    starts = "import sys; from cytolora.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", starts, "serve", str(onnx_export[1]), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        url = process.stderr.readline().partition(" on ")[2].partition(" ")[0]
        assert httpx.get(f"{url}/ready", timeout=30).status_code == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


def test_sixty_requests_in_flight_at_sigterm_get_sixty_answers(onnx_export: tuple[Bundle, Path]):
    """The command itself, on a port of its own: the batch waits for more than will come, and is told to stop."""
    starts = "import sys; from cytolora.cli import main; main(sys.argv[1:])"
    options = ["--port", "0", "--max-batch", "100", "--max-wait-ms", "2000"]
    command = [sys.executable, "-c", starts, "serve", str(onnx_export[1]), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        url = said.partition(" on ")[2].partition(" ")[0]
        assert url.startswith(LOCAL), said

        def post(number: int) -> int:
            return httpx.post(f"{url}/v1/predict", files=form(png((number, 0, 0))), timeout=60).status_code

        with ThreadPoolExecutor(60) as clients:
            answers = [clients.submit(post, number) for number in range(60)]
            until = time.monotonic() + 30
            while httpx.get(f"{url}/ready").json()["pending"] < 60 and time.monotonic() < until:
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert [answer.result() for answer in answers] == [200] * 60
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


def statuses_of_the_schema(app: Any, max_examples: int) -> set[int]:
    """Asks what Schemathesis makes of the schema; returns the statuses of all answers."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    seen: set[int] = set()
    quietly = (HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large)
    for operation in schema.get_all_operations():

        @given(case=operation.ok().as_strategy())
        @settings(
            max_examples=max_examples, deadline=None, derandomize=True, database=None, suppress_health_check=quietly
        )
        def holds(case: Any) -> None:
            response = case.call(headers={"Host": "127.0.0.1"})
            seen.add(response.status_code)
            assert response.status_code < 500

        holds()
    return seen


def test_the_whole_schema_is_answered_without_an_error_of_the_server(model: Colour):
    assert {200, 422} <= statuses_of_the_schema(make_app(model), 60)


def test_batches_hold_what_waits_together_and_answers_go_to_their_questions():
    sizes, gate = [], threading.Event()

    def double(numbers: Sequence[int]) -> list[int]:
        gate.wait(10)
        sizes.append(len(numbers))
        return [2 * number for number in numbers]

    batcher: MicroBatcher[int, int] = MicroBatcher(double, max_batch=8, max_wait_seconds=0.2)
    futures = [batcher.submit(number) for number in range(20)]
    gate.set()
    assert [future.result(10) for future in futures] == [2 * number for number in range(20)]
    assert sizes == [8, 8, 4]
    batcher.stop()


def test_stopping_answers_everything_that_was_taken_at_once_and_takes_no_more():
    batcher: MicroBatcher[int, int] = MicroBatcher(list, max_batch=100, max_wait_seconds=30)
    futures = [batcher.submit(number) for number in range(5)]
    start = time.monotonic()
    batcher.stop()
    assert [future.result(0) for future in futures] == list(range(5))
    assert time.monotonic() - start < 5
    with pytest.raises(QueueFullError):
        batcher.submit(1)


def test_an_error_reaches_everybody_in_the_batch_and_the_next_batch_is_answered():
    def picky(numbers: Sequence[int]) -> list[int]:
        if 0 in numbers:
            raise ZeroDivisionError
        return list(numbers)

    batcher: MicroBatcher[int, int] = MicroBatcher(picky, max_wait_seconds=0)
    with pytest.raises(ZeroDivisionError):
        batcher.submit(0).result(10)
    assert batcher.submit(1).result(10) == 1
    batcher.stop()


def test_a_picture_dropped_on_the_page_is_answered_there(model: Colour, tmp_path: Path):
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    (tmp_path / "cell.png").write_bytes(png((9, 250, 9)))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with running(make_app(model)) as url, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#files", [tmp_path / "cell.png", tmp_path / "bad.png"])
        page.locator(".result").nth(1).wait_for()
        assert page.inner_text(".result .what") == CLASSES[1]
        assert "Cannot read" in page.inner_text(".result .wrong")
        browser.close()


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
