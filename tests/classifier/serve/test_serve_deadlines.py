"""Clients that keep the service waiting: each is let go in time, and nobody else waits for them."""

import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from service import LOCAL, TOKEN, Colour, form, httpx, png, running
from slow_clients import (
    HALF_BODY,
    HALF_CHUNKED_BODY,
    HALF_HEADER,
    NOTHING,
    UNASKED_BODY,
    connect,
    seconds_until_closed,
    slow_clients,
)

from cytolora.classifier.inference.classifier import Classifier
from cytolora.classifier.serve.app import make_app
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.server import fit_open_files

SLOW_FOR_A_BUSY_MACHINE = 8
"""Seconds; a deadline of one or two that does not hold takes sixty."""
HEALTH = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
WAYS = (NOTHING, HALF_HEADER, HALF_BODY, UNASKED_BODY)


@pytest.mark.parametrize(
    ("begin", "drip", "status"),
    [
        (NOTHING, b"", b""),
        (HALF_HEADER, b"", b"HTTP/1.1 408"),
        (HALF_HEADER, b"a", b"HTTP/1.1 408"),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + HALF_HEADER, b"a", b"HTTP/1.1 200"),
        (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", b"", b"HTTP/1.1 200"),
        (HALF_BODY, b"", b"HTTP/1.1 408"),
        (HALF_BODY, b"a", b"HTTP/1.1 408"),
        (HALF_CHUNKED_BODY, b"1\r\na\r\n", b"HTTP/1.1 408"),
        (UNASKED_BODY, b"a", b"HTTP/1.1 200"),
    ],
)
def test_a_client_that_is_silent_or_drips_is_let_go_in_time(model: Colour, begin: bytes, drip: bytes, status: bytes):
    limits = Limits(header_seconds=1, body_seconds=1)
    with running(make_app(model, limits), limits) as url, connect(url, begin) as opened:
        seconds, received = seconds_until_closed(opened, drip)
        assert received.startswith(status)
        assert bool(received) == bool(status)
    assert 0.5 < seconds < SLOW_FOR_A_BUSY_MACHINE


@pytest.mark.parametrize(
    "sent", [b"garbage\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"POST /v1/predict HTTP/1.1\r\n\r\n", b"\0" * 100_000]
)
def test_what_is_no_http_is_refused_as_the_schema_says(model: Colour, sent: bytes):
    with running(make_app(model)) as url, connect(url, sent) as opened:
        received = seconds_until_closed(opened)[1]
        head, _, content = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"application/json" in head
        assert json.loads(content) == {"detail": "No valid HTTP request."}


def status(opened: socket.socket) -> int:
    """Reads one answer to its end; 0 where the connection is closed instead."""
    received = b""
    while not received.endswith(b"}"):
        if not (piece := opened.recv(4096)):
            return 0
        received += piece
    return int(received.split(b" ", 2)[1])


def test_a_service_that_stood_still_does_not_close_on_clients_that_it_did_not_listen_to(model: Colour):
    limits = Limits(header_seconds=2, body_seconds=2)
    app = make_app(model, limits)

    @app.get("/stand-still")
    async def stand_still() -> None:
        time.sleep(3)  # the loop reads no socket and notices no deadline

    with running(app, limits) as url, connect(url, HEALTH) as idle, connect(url, HEALTH[:20]) as begun:
        assert status(idle) == 200
        assert httpx.get(f"{url}/stand-still", timeout=60).status_code == 200
        time.sleep(0.2)
        idle.sendall(HEALTH)
        begun.sendall(HEALTH[20:])
        assert status(idle) == 200
        assert status(begun) == 200
        assert seconds_until_closed(idle)[0] < SLOW_FOR_A_BUSY_MACHINE  # the deadlines hold as before


@pytest.mark.slow
def test_a_connection_between_two_requests_has_the_time_of_a_header(model: Colour):
    with running(make_app(model)) as url, connect(url, HEALTH) as idle:
        assert status(idle) == 200
        time.sleep(6)  # uvicorn's own limit is five
        idle.sendall(HEALTH)
        assert status(idle) == 200


def test_a_body_that_comes_at_the_lowest_rate_is_taken_however_long_it_takes_and_a_slower_one_is_not(model: Colour):
    limits = Limits(body_seconds=0.5, min_body_rate=1000)
    body = httpx.Request("POST", f"{LOCAL}/v1/predict", files=form(png((9, 200, 3)) + bytes(4000)))
    content, kind = body.read(), body.headers["content-type"]
    head = (
        f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    with running(make_app(model, limits), limits) as url:
        with connect(url, head) as steady:
            for start in range(0, len(content), 500):
                steady.sendall(content[start : start + 500])
                time.sleep(0.1)  # 5,000 bytes a second, longer in all than body_seconds
            assert steady.recv(65536).startswith(b"HTTP/1.1 200")
        begin = content[: content.index(b"\r\n\r\n") + 4]
        with connect(url, head + begin) as slow:
            assert seconds_until_closed(slow, b"\0")[1].startswith(b"HTTP/1.1 408")


@pytest.mark.slow
def test_an_answer_that_the_client_does_not_read_is_given_up(model: Colour):
    limits = Limits(header_seconds=1, body_seconds=1)
    app = make_app(model, limits)

    @app.get("/large")
    async def large() -> dict[str, str]:
        return {"content": "x" * 30_000_000}

    with running(app, limits) as url, socket.socket() as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        opened.connect(("127.0.0.1", int(url.rpartition(":")[2])))
        opened.sendall(b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(4)
        opened.settimeout(20)
        received = 0
        with suppress(ConnectionResetError):
            while piece := opened.recv(1_000_000):
                received += len(piece)
        assert 0 < received < 30_000_000
        assert httpx.get(f"{url}/health", timeout=20).status_code == 200


def test_connections_without_a_whole_request_yield_to_those_that_have_one(model: Colour):
    limits = Limits(max_connections=40, max_connections_per_client=40)  # deadlines as they are: only yielding helps
    with running(make_app(model, limits), limits) as url, slow_clients(url, 200, WAYS) as opened:
        start = time.monotonic()
        answer = httpx.post(f"{url}/v1/predict", files=form(png((9, 200, 3))), timeout=20)
        assert answer.status_code == 200
        assert time.monotonic() - start < SLOW_FOR_A_BUSY_MACHINE
        opened[-2].settimeout(0.2)
        with pytest.raises(TimeoutError):  # a half body among the last forty is still waited for
            opened[-2].recv(1)
        _, received = seconds_until_closed(opened[1])
        assert received.startswith(b"HTTP/1.1 503") or not received


def test_a_request_among_a_burst_of_connections_is_read_before_they_could_push_it_out(model: Colour):
    """All wait to be accepted while the service is busy; then it takes many of them at once."""
    limits = Limits(max_connections=40, max_connections_per_client=40)
    app = make_app(model, limits)

    @app.get("/stand-still")
    async def stand_still() -> None:
        time.sleep(1)

    with running(app, limits) as url, connect(url, HEALTH.replace(b"/health", b"/stand-still")):
        time.sleep(0.2)
        with slow_clients(url, 100, (NOTHING,)), connect(url, HEALTH) as normal, slow_clients(url, 200, (NOTHING,)):
            assert status(normal) == 200


def test_requests_that_are_being_answered_are_not_closed_for_new_connections(model: Colour):
    limits = Limits(max_connections=4, max_connections_per_client=4)
    gate = threading.Event()
    held = Colour(model.contents, "held")
    held.outputs = lambda views: (gate.wait(60), model.outputs(views))[1]  # type: ignore[method-assign]
    request = httpx.Request(
        "POST", f"{LOCAL}/v1/predict", files=form(png((9, 200, 3))), headers={"connection": "close"}
    )
    body = request.read()
    head = "POST /v1/predict HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with (
        running(make_app(held, limits), limits) as url,
        slow_clients(url, 3, (f"{head}\r\n".encode() + body,)) as asked,
    ):
        until = time.monotonic() + 20
        while httpx.get(f"{url}/health", timeout=20).json()["pending"] < 3 and time.monotonic() < until:
            time.sleep(0.02)
        with slow_clients(url, 12, (HALF_HEADER,)):
            gate.set()
            assert [opened.recv(65536)[:12] for opened in asked] == [b"HTTP/1.1 200"] * 3


@pytest.mark.slow
def test_the_limit_of_open_files_is_raised_or_the_connections_are_fewer():
    program = """
import resource, sys
soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from cytolora.classifier.serve.server import fit_open_files
print(fit_open_files(1000), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""

    def fitted(soft: int, hard: int) -> list[int]:
        done = subprocess.run(
            [sys.executable, "-c", program, str(soft), str(hard)], capture_output=True, text=True, check=True
        )
        return [int(number) for number in done.stdout.split()]

    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 4096:
        pytest.skip("this machine allows fewer than 4,096 open files")
    assert fitted(1024, 4096) == [1000, 2200, 4096]
    assert fitted(256, 1024) == [412, 1024, 1024]
    assert fit_open_files(10) == 10


@pytest.mark.slow
def test_hundreds_of_slow_clients_of_the_command_keep_nobody_waiting(onnx_export: tuple[Classifier, Path]):
    starts = "import sys; from cytolora.cli.app import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", starts, "serve", str(onnx_export[1]), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        assert process.stderr is not None
        url = process.stderr.readline().partition(" on ")[2].partition(" ")[0]
        with slow_clients(url, 600, WAYS):
            for _ in range(3):
                start = time.monotonic()
                answer = httpx.post(f"{url}/v1/predict", files=form(png((9, 200, 3))), timeout=20)
                assert answer.status_code == 200
                assert time.monotonic() - start < SLOW_FOR_A_BUSY_MACHINE
        process.terminate()
        assert process.wait(30) == 0
        assert process.stderr.read() == ""
    finally:
        process.kill()


@pytest.mark.parametrize("token", [None, TOKEN])
def test_a_body_that_is_too_large_is_refused_before_it_is_sent(model: Colour, token: str | None):
    right = "" if token is None else f"Authorization: Bearer {token}\r\n"
    head = f"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n{right}Content-Type: multipart/form-data; boundary=x\r\n"
    named = f"{head}Content-Length: {30 * 2**20}\r\n\r\n".encode()
    with running(make_app(model, token=token)) as url:
        for sent, refusal in (
            (named, b"HTTP/1.1 413"),
            (named.replace(b"/v1/predict", b"/nowhere"), b"HTTP/1.1 413"),
            (named.replace(b"127.0.0.1", b"evil.example"), b"HTTP/1.1 421"),
            (named.replace(b"Bearer ", b"Bearer x"), b"HTTP/1.1 401" if token else b"HTTP/1.1 413"),
        ):
            with connect(url, sent) as opened:
                assert opened.recv(65536).startswith(refusal), sent
