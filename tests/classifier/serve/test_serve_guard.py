"""Who may ask, and the page to drop images on."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium
from service import TOKEN, Colour, ask, form, png, running
from small_bundle import CLASSES

from cytolora.classifier.serve.app import make_app


def test_a_token_is_asked_for_and_compared_whole(model: Colour):
    app = make_app(model, token=TOKEN, loopback_only=False)
    files = form(png((0, 0, 0)))
    for header in (
        {},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN},
        {"Authorization": b"Bearer \xff"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer{TOKEN}"},
        {"Authorization": f"Bearer  {TOKEN} {TOKEN}"},
        {"Authorization": f"XBearer {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN.upper()}x"},
        [("Authorization", f"Bearer {TOKEN}"), ("Authorization", f"Bearer {TOKEN}x")],
    ):
        refused = ask(app, "POST", "/v1/predict", base="http://clinic.example", files=files, headers=header)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
    for scheme in ("Bearer", "bearer", "BEARER", "bEaReR", "Bearer "):  # RFC 9110, 11.1
        right = {"Authorization": f"{scheme} {TOKEN}"}
        answer = ask(app, "POST", "/v1/predict", base="http://clinic.example", files=files, headers=right)
        assert answer.status_code == 200
    assert ask(app, "GET", "/health", base="http://clinic.example").status_code == 200


def test_a_name_of_another_host_led_to_loopback_is_refused(model: Colour):
    app = make_app(model)
    assert ask(app, "GET", "/", base="http://evil.example:8000").status_code == 421
    for base in (
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://[::1]:8000",
        "http://127.3.4.5",
        "http://LocalHost",
    ):
        assert ask(app, "GET", "/health", base=base).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "[::1].evil.example",
        "[::1].evil.example:8000",
        "[::1]evil",
        "[::1",
        "[[::1]]",
        "[localhost]",
        "127.0.0.1].evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1.evil.example:8000",
        "127.0.0.1:8000.evil.example",
        "127.0.0.1:8000:evil",
        "localhost.evil.example",
        "localhost:80@evil.example",
        "user@localhost",
        "localhost/evil.example",
        "localhost#evil.example",
        "localhost,evil.example",
        "localhost evil.example",
        "evil.example\tlocalhost",
        "xlocalhost",
        "localhost:port",
        "127.0.0.1\n",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "0.0.0.0",
        "128.0.0.1",
        "[::]",
        "[::2]",
        "\u0661\u0662\u0667.0.0.1",
        ":8000",
        "",
    ],
)
def test_a_host_that_only_looks_like_loopback_is_refused(model: Colour, host: str):
    async def status(*hosts: bytes) -> int:
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/health", "raw_path": b"/health", "query_string": b""}
        headers = [(b"host", name) for name in hosts]
        await make_app(model)({**scope, "headers": headers, "http_version": "1.1", "scheme": "http"}, receive, send)
        return sent[0]["status"]

    encoded = host.encode("utf-8")
    assert asyncio.run(status(encoded)) == 421
    assert asyncio.run(status(b"localhost", encoded)) == 421  # two contradict each other
    assert asyncio.run(status(b"localhost")) == 200


def test_a_page_of_another_site_cannot_send_images_to_a_service_without_a_token(model: Colour):
    def status(origin: str, **options: Any) -> int:
        app, files = make_app(model, **options), form(png((0, 0, 0)))
        base = "http://127.0.0.1:8000"
        right = {"Authorization": f"Bearer {TOKEN}"}
        return ask(app, "POST", "/v1/predict", base, files=files, headers={"Origin": origin, **right}).status_code

    for foreign in (
        "http://evil.example",
        "null",
        "",
        "127.0.0.1:8000",
        "://127.0.0.1:8000",
        "http://127.0.0.1:3000",
        "http://127.0.0.1",
        "http://localhost:8000",
        "http://127.0.0.1:8000.evil.example",
        "http://127.0.0.1:8000@evil.example",
        "http://127.0.0.1:8000/",
        "http://evil.example://127.0.0.1:8000",
        "http://user@127.0.0.1:8000",
        "file://127.0.0.1:8000",
        "chrome-extension://127.0.0.1:8000",
    ):
        assert status(foreign) == 403
        assert status(foreign, token=TOKEN) == 200  # which the page cannot know
    assert status("http://127.0.0.1:8000") == 200
    assert status("HTTP://127.0.0.1:8000") == 200


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(model: Colour):
    found = ask(make_app(model), "GET", "/")
    assert "Drop images here" in found.text
    assert "://" not in found.text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in found.headers["content-security-policy"]
    assert "needs-token=yes" in ask(make_app(model, token=TOKEN), "GET", "/").text


@pytest.mark.slow
def test_a_picture_dropped_on_the_page_is_answered_there(model: Colour, tmp_path: Path):
    (tmp_path / "cell.png").write_bytes(png((9, 250, 9)))
    (tmp_path / "bad.png").write_bytes(b"no image")
    with running(make_app(model)) as url, chromium() as browser:
        page = browser.new_page()
        page.goto(url)
        page.set_input_files("#files", [tmp_path / "cell.png", tmp_path / "bad.png"])
        page.locator(".result").nth(1).wait_for()
        assert page.inner_text(".result .what") == CLASSES[1]
        assert "Cannot read" in page.inner_text(".result .wrong")


@pytest.mark.parametrize(("method", "path", "status"), [
    ("GET", "/", 200), ("GET", "/openapi.json", 200), ("GET", "/health", 200), ("GET", "/ready", 200),
    ("GET", "/nowhere", 404), ("GET", "/v1/predict", 405), ("OPTIONS", "/v1/predict", 405),
    ("POST", "/v1/predict", 422),
    ("GET", "/docs", 404), ("GET", "/redoc", 404), ("GET", "/v1/../../etc/passwd", 404), ("GET", "/static/x", 404),
    ("DELETE", "/v1/predict", 405), ("PUT", "/", 405), ("GET", "/v2/predict", 404), ("TRACE", "/health", 405),
])  # fmt: skip
def test_every_answer_forbids_sniffing_framing_and_other_origins(model: Colour, method: str, path: str, status: int):
    answer = ask(make_app(model), method, path)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert "server" not in answer.headers


def test_the_token_is_compared_in_constant_time(model: Colour, monkeypatch: pytest.MonkeyPatch):
    compared: list[tuple[bytes, bytes]] = []
    monkeypatch.setattr(
        "cytolora.classifier.serve.guard.compare_digest", lambda one, other: (compared.append((one, other)), False)[1]
    )
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert ask(make_app(model, token=TOKEN), "POST", "/v1/predict", headers=right).status_code == 401
    assert compared == [(TOKEN.encode(), TOKEN.encode())]


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "https://192.0.2.1/a.png", "a\0b", "x" * 3000]
)
def test_the_name_of_a_file_is_text_and_opens_nothing(model: Colour, name: str, monkeypatch: pytest.MonkeyPatch):
    opened: list[str] = []
    app = make_app(model)
    monkeypatch.setattr("builtins.open", lambda path, *others, **more: opened.append(str(path)))
    answer = ask(app, "POST", "/v1/predict", files=[("images", (name, png((9, 200, 3)), "image/png"))])
    assert answer.status_code == 200
    assert len(answer.json()["predictions"][0]["name"]) <= 200
    assert opened == []
