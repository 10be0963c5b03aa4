"""A stub model behind a running service, and requests to it."""

import asyncio
import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cytolora.classifier.inference.predictor import Predictor, pixels_of

httpx = pytest.importorskip("httpx", reason="httpx is not installed")


pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("fastapi", reason="FastAPI is not installed")
from cytolora.classifier.serve.limits import Limits  # noqa: E402
from cytolora.classifier.serve.server import make_server  # noqa: E402

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
def running(app: Any, limits: Limits | None = None) -> Iterator[str]:
    """The service on a free port of loopback, in a thread of this process."""
    server, listener = make_server(app, limits or Limits()), socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"{LOCAL}:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def statuses_of_the_schema(app: Any, max_examples: int, *, token: str | None = None) -> set[tuple[str, str, int]]:
    """Asks what Schemathesis makes of the schema, by its rules and against them; returns path, mode and status.

    No generator finds an image by itself, so some of the lists of files that follow the schema get one. With a token
    each request goes once without it, which /v1/ has to refuse, and once with it.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    seen: set[tuple[str, str, int]] = set()
    quietly = (*settings().suppress_health_check, HealthCheck.filter_too_much, HealthCheck.data_too_large)
    pictures = st.sampled_from([None, None, png((0, 0, 0)), png((9, 200, 3), (1, 7)), png((255, 255, 255), (30, 20))])

    def try_all(operation: Any, mode: Any, takes_images: bool) -> None:
        @given(case=operation.as_strategy(generation_mode=mode), picture=pictures)
        @settings(max_examples=max_examples, suppress_health_check=quietly)
        def holds(case: Any, picture: bytes | None) -> None:
            if takes_images and mode is positive and picture is not None:
                case.body["images"] = [picture, *case.body["images"][1:]]
            for right in [{}] if token is None else [{}, {"Authorization": f"Bearer {token}"}]:
                status = case.call(headers={"Host": "127.0.0.1", **right}).status_code
                seen.add((case.path, mode.value, status))
                assert status < 500
                is_asked = token is not None and case.path.startswith("/v1/")
                if is_asked and not right:
                    assert status == 401
                elif not is_asked or mode is positive:  # against the schema may be: without the token
                    assert status != 401

        holds()

    for operation in (result.ok() for result in schema.get_all_operations()):
        takes_images = bool(operation.body.items)
        for mode in (positive, negative) if takes_images else (positive,):  # nothing is wrong without a body
            try_all(operation, mode, takes_images)
    return seen
