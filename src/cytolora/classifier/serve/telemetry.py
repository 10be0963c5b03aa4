"""Telemetry of the service: metrics for Prometheus, an id for every request, and a row of each for the log.

Neither metrics nor log hold names, contents or results of single images.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import Any
from uuid import uuid4

from anyio import CancelScope
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import ClientDisconnect

from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.serve.guard import App, Receive, Scope, Send
from cytolora.classifier.serve.problems import Faults

METRICS_TYPE = CONTENT_TYPE_PLAIN_0_0_4
"""Media type of ``Metrics.text``."""
_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
"""Of an id that a caller may give; any other text could forge lines of a log."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
_LEFT = 499
"""Noted for a client that has gone before its answer; nginx' number, HTTP has none."""
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What a service has done since it started."""

    def __init__(self, classes: Mapping[str, Sequence[str]]) -> None:
        """Takes the classes of every model, by its name."""
        self.registry = CollectorRegistry()
        self.requests = self._counter("cytolora_requests", "Requests answered.", "path", "status")
        self.seconds = Histogram(
            "cytolora_request_seconds",
            "From a request's head to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.images = self._counter("cytolora_images", "Images predicted, or unreadable.", "model", "outcome")
        self.predicted = self._counter("cytolora_predicted", "Images by predicted class.", "model", "class")
        self.referred = self._counter("cytolora_referred", "Images that a person should decide.", "model")
        self.unfamiliar = self._counter("cytolora_unfamiliar", "Images unlike those of the training.", "model")
        self.batches = Histogram(
            "cytolora_batch_images", "Images of a forward pass.", buckets=_BATCHES, registry=self.registry
        )
        self.pending = Gauge("cytolora_pending_images", "Images waiting for an answer.", registry=self.registry)
        self.encoders = Gauge(
            "cytolora_encoders", "Encoders in memory, which models may share.", registry=self.registry
        )
        self.about = Info("cytolora_model", "The models that answer.", ["model"], registry=self.registry)
        ProcessCollector(registry=self.registry)
        self.num_unlogged: Callable[[], int] = lambda: 0
        """Returns how many rows the log of requests has dropped."""
        self.registry.register(_Unlogged(self))
        for model, labels in classes.items():
            self.referred.labels(model)
            self.unfamiliar.labels(model)
            for outcome in ("predicted", "unreadable"):
                self.images.labels(model, outcome)
            for label in labels:
                self.predicted.labels(model, label)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, registry=self.registry)

    def count(self, model: str, found: Prediction) -> None:
        """Counts one image that a model was asked about."""
        self.images.labels(model, "unreadable" if found.error else "predicted").inc()
        if found.predicted is not None:
            self.predicted.labels(model, found.predicted).inc()
        self.referred.labels(model).inc(bool(found.is_referred))
        self.unfamiliar.labels(model).inc(bool(found.is_out_of_distribution))

    def text(self) -> bytes:
        """Returns all of them in Prometheus' text format."""
        return generate_latest(self.registry)


class _Unlogged(Collector):
    """The count that the log keeps, read when it is asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "cytolora_request_log_dropped", "Lines that the request log lacks.", self._metrics.num_unlogged()
        )


@dataclass(slots=True)
class _Request:
    """What is learnt of a request while it is answered."""

    status: int = 0
    """Of the answer; 0 before one has begun."""
    num_images: int = 0
    is_whole: bool = False
    """Whether all of its body has come."""
    is_left: bool = False
    """Whether its client had gone before an answer had begun."""

    def note_received(self, message: Any) -> None:
        """Notes what the server gave."""
        if message["type"] == "http.request":
            self.is_whole = not message.get("more_body", False)
        elif not self.status:
            self.is_left = True


async def _look(receive: Receive) -> None:
    """Takes what the server has to say now, and waits for nothing: a client that has gone is told of that way alone."""
    with CancelScope() as at_once:
        at_once.cancel()
        await receive()


_REQUEST: ContextVar[_Request | None] = ContextVar("request", default=None)


def note_images(number: int) -> None:
    """Notes how many images the request has that is being answered."""
    if (request := _REQUEST.get()) is not None:
        request.num_images = number


class Telemetry:
    """Gives every request an id, and counts and logs its answer."""

    def __init__(
        self,
        app: App,
        *,
        metrics: Metrics,
        log: Callable[[dict[str, Any]], None],
        root_path: str,
        paths: Collection[str],
    ) -> None:
        """Takes what ``make_app`` was given, and the addresses that are counted one by one."""
        self._app, self._metrics, self._log, self._root_path = Faults(app), metrics, log, root_path
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request, name, started = _Request(), _id(scope), perf_counter()
        token = _REQUEST.set(request)

        async def receive_noted() -> Any:
            message = await receive()
            request.note_received(message)
            return message

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                if request.is_whole and not request.status:
                    await _look(receive_noted)
                request.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), (b"x-request-id", name)]}
            await send(message)

        try:
            await self._app(scope, receive_noted, send_with_id)
        except Exception as error:
            request.is_left &= isinstance(error, ClientDisconnect)  # a fault is one, whoever still waits
            raise  # for the server's own log
        finally:
            _REQUEST.reset(token)
            self._note(scope, request, name.decode(), perf_counter() - started)

    def _note(self, scope: Scope, request: _Request, name: str, seconds: float) -> None:
        path = scope["path"].removeprefix(self._root_path)
        path = path if path in self._paths else "other"  # whoever asks for many would fill the memory
        status = request.status if request.status and not request.is_left else _LEFT
        self._metrics.requests.labels(path, str(status)).inc()
        self._metrics.seconds.labels(path).observe(seconds)
        client = scope.get("client")
        self._log(
            {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "id": name,
                "client": client[0] if client else None,
                "method": scope["method"] if scope["method"] in _METHODS else "other",
                "path": path,
                "status": status,
                "seconds": round(seconds, 4),
                "images": request.num_images,
            }
        )


def _id(scope: Scope) -> bytes:
    """Returns the id that the caller or a proxy gave, else a new one."""
    given = [value for key, value in scope["headers"] if key == b"x-request-id"]
    return given[0] if len(given) == 1 and _ID.fullmatch(given[0]) else uuid4().hex.encode()
