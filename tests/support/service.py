"""A stub model behind a running service, and requests to it."""

import asyncio
import io
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


uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed")


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
