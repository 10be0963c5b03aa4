"""A stub model behind a running service, and requests to it."""

import asyncio
import io
import socket
import threading
import time
from collections import Counter
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


def written(log: Any) -> None:
    """Waits until a request log has written what it was given."""
    assert log.flush()


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


def statuses_of_the_schema(
    app: Any, max_examples: int, *, token: str | None = None
) -> Counter[tuple[str, str, str, int]]:
    """Asks what Schemathesis makes of the schema, by its rules and against them; every answer is held to the schema.

    Returns:
        Answers by path, mode, who asked ("token" or "nobody") and status. With a token each request goes once without
        it, which /v1/ has to refuse, and once with it.
    """
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings

    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"Host": "127.0.0.1"})
    positive, negative = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    seen: Counter[tuple[str, str, str, int]] = Counter()
    quietly = (*settings().suppress_health_check, HealthCheck.filter_too_much, HealthCheck.data_too_large)
    headers_by_asker: dict[str, dict[str, str]] = {"nobody": {}}
    if token is not None:
        headers_by_asker["token"] = {"Authorization": f"Bearer {token}"}

    def try_all(operation: Any, mode: Any) -> None:
        is_same_code = operation.path.startswith("/v1/models/")  # as /v1/predict, but for the models that it asks
        num_examples = max(5, max_examples // 6) if is_same_code else max_examples

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=num_examples, suppress_health_check=quietly)
        def holds(case: Any) -> None:
            for asker, headers in headers_by_asker.items():
                answer = case.call(headers={"Host": "127.0.0.1", **headers})
                seen[case.path, mode.value, asker, answer.status_code] += 1
                case.validate_response(answer, checks=_checks(answer.status_code))

        holds()

    for operation in (result.ok() for result in schema.get_all_operations()):
        for mode in (positive, negative) if operation.body.items else (positive,):  # nothing is wrong without a body
            try_all(operation, mode)
    return seen


def _checks(status: int) -> list[Any]:
    """Checks of an answer; that a request by the rules is taken is none, for bytes that are no image keep them too."""
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as of_schema

    always = [checks.not_a_server_error, of_schema.status_code_conformance, of_schema.content_type_conformance]
    rejects = [] if status == 401 else [of_schema.negative_data_rejection]
    return [*always, of_schema.response_headers_conformance, of_schema.response_schema_conformance, *rejects]


def assert_both_modes_are_reached(met: Counter[tuple[str, str, str, int]], token: str | None) -> None:
    """Fails unless predictions were given and refused, by the schema and against it, and nobody was taken unasked."""
    asker = "nobody" if token is None else "token"

    def share(mode: str, *statuses: int, asker: str = asker) -> float:
        of_mode = {key: count for key, count in met.items() if key[:3] == ("/v1/predict", mode, asker)}
        return sum(count for key, count in of_mode.items() if key[3] in statuses) / sum(of_mode.values())

    assert share("positive", 200) > 0.1, met  # about half of the files that it makes are images
    assert share("positive", 200, 422, 413) == 1, met
    assert share("positive", 422) > 0.1, met
    assert share("negative", 400, 413, 422) > 0.3, met
    if token is None:
        assert share("negative", 400, 413, 422) == 1, met
    else:  # there its rules ask for a token: some requests break that one alone, and the right token mends it
        assert share("negative", 200, 400, 401, 413, 422) == 1, met
        assert share("positive", 401, asker="nobody") == share("negative", 401, asker="nobody") == 1, met
    for path in ("/health", "/ready"):
        assert {key[3] for key in met if key[0] == path} == {200}, met
