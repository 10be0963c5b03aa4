"""HTTP service of a classifier: images in, predictions out, bounded in size, with a clean shutdown."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from importlib.resources import files
from io import BytesIO
from typing import Annotated, Any, Literal

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, FastAPI, File, HTTPException, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.inference.predictor import NOT_SEEN, Predictor, as_data_error
from cytolora.classifier.serve.guard import Guard, JsonProblems
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.microbatch import MicroBatcher, QueueFullError
from cytolora.classifier.serve.problems import invalid_request
from cytolora.classifier.serve.request_log import RequestLog
from cytolora.classifier.serve.telemetry import METRICS_TYPE, Metrics, Telemetry, note_images
from cytolora.core.files import sha256_text
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.imaging.room import one_image
from cytolora.errors import CytoloraError

_RETRY_SECONDS = "1"
_NAME_LENGTH = 200
_FORMATS = "Image files: PNG, JPEG, BMP, TIFF or WebP; what is one is told by its content."
_BYTES = "application/octet-stream"
_NO_BASE64 = "data is no base64 of a file (RFC 4648, 4: A-Z a-z 0-9 + / =), on one line, without blanks and 'data:'."
_HINT = " Run `cytolora"
"""Where an error turns to somebody at the command line."""


class Answer(BaseModel):
    """What is said of one image."""

    name: str = Field(description="The file's name as it was sent, else its number in the request, from 0.")
    error: str | None = Field(description="Why the image cannot be read; everything else is then null.")
    predicted: str | None
    probabilities: dict[str, float] | None = Field(description="By class, calibrated; together 1.")
    positive: bool | None = Field(description="At the operating point; null where the model has none.")
    prediction_set: list[str] | None = Field(description="Conformal: classes not ruled out; null where none is set.")
    referred: bool | None = Field(description="A person should decide.")
    unfamiliar: bool | None = Field(description="Unlike the images that the model was trained on.")


class Answers(BaseModel):
    """The answers to one request, in the order of its images."""

    model: str = Field(description="Hash of the model's description: equal for equal models.")
    use: Literal["research"] = "research"
    classes: list[str]
    predictions: list[Answer]


class EncodedImage(BaseModel):
    """One image file as text."""

    name: str = Field(default="", description="Comes back with the answer.")
    data: str = Field(description=f"Base64 of the file (RFC 4648, 4), on one line. {_FORMATS}")


class EncodedImages(BaseModel):
    """The images of one request, in JSON."""

    images: list[EncodedImage] = Field(min_length=1)


class Status(BaseModel):
    """Whether the service works."""

    status: Literal["ok", "ready"]
    pending: int = Field(description="Images waiting for an answer.")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: Any


ImageFile = Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary", "contentMediaType": _BYTES})]
"""A file in a form, named as tools of either OpenAPI 3.0 or 3.1 know it."""


def _problems(**descriptions: str) -> dict[int | str, dict[str, Any]]:
    return {int(name[1:]): {"model": Problem, "description": why} for name, why in descriptions.items()}


_REFUSALS = _problems(
    _400="No valid HTTP request.",
    _403="A page of another site asks, and no token is asked for.",
    _408="The request did not come whole in time.",
    _413="The request is too large.",
    _421="Meant for another host.",
    _503="Stopping, or too many connections; ask again after Retry-After seconds.",
)
"""Of every path: the guard and the limits of connections know no paths."""


def _in_json(refusals: dict[int | str, dict[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """Says so of a path whose own answers are none; FastAPI would take its media type for refusals too."""
    schema = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Problem.__name__}"}}}
    return {code: {"description": one["description"], "content": schema} for code, one in refusals.items()}


_NO_TOKEN = "No token, or a wrong one."
_REFUSALS_OF_IMAGES = _REFUSALS | _problems(
    _400="No valid HTTP request, or no multipart form.",
    _401=_NO_TOKEN,
    _422="No image of the request can be read.",
    _503="Too many images or connections, or stopping; ask again after Retry-After seconds.",
)


class _Metrics(Response):
    media_type = METRICS_TYPE


class Service:
    """The model and its queue."""

    def __init__(self, predictor: Predictor[Any], limits: Limits) -> None:
        self.predictor, self.limits = predictor, limits
        self.model_id = sha256_text(to_text(predictor.contents))[:16]
        about = {"model": self.model_id, "backbone": predictor.contents.backbone.spec.name}
        self.metrics = Metrics(tuple(predictor.classes), **about, cytolora=version("cytolora"))
        self.pending = 0
        self.metrics.pending.set_function(lambda: self.pending)
        self._decoders = CapacityLimiter(limits.num_decoders)
        self._batcher: MicroBatcher[Any, Prediction] = MicroBatcher(
            self._answer,
            max_batch=limits.max_batch,
            max_wait_seconds=limits.max_wait_seconds,
            max_queue=limits.max_queue,
        )

    @property
    def is_ready(self) -> bool:
        """Whether it takes images."""
        return self._batcher.is_alive

    def stop(self) -> None:
        """Answers what was taken, then returns."""
        self._batcher.stop()

    async def predict(self, images: Sequence[tuple[str, bytes | None]]) -> list[Answer]:
        """Answers for named images, in their order; None is what could not be decoded.

        Raises:
            QueueFullError: If too many are waiting.
        """
        with self._places(len(images)):
            return list(await asyncio.gather(*(self._one(name, content) for name, content in images)))

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        if self.pending + count > self.limits.max_queue:
            raise QueueFullError
        self.pending += count
        try:
            yield
        finally:
            self.pending -= count

    async def _one(self, name: str, content: bytes | None) -> Answer:
        if content is None:
            return self._as_answer(name, Prediction(name=name, error=_NO_BASE64))
        try:
            view = await to_thread.run_sync(self._view, content, limiter=self._decoders)
        except NOT_SEEN as error:
            why = " ".join(str(as_data_error(error)).split()).partition(_HINT)[0]
            return self._as_answer(name, Prediction(name=name, error=why))
        return self._as_answer(name, await asyncio.wrap_future(self._batcher.submit(view)))

    def _pixels(self, content: bytes) -> Pixels:
        return decode(BytesIO(content), "the file", decoding=self.predictor.decoding, max_pixels=self.limits.max_pixels)

    def _view(self, content: bytes) -> Any:
        with one_image():
            return self.predictor.view(self._pixels(content))

    def _answer(self, views: Sequence[Any]) -> list[Prediction]:
        self.metrics.batches.observe(len(views))
        return self.predictor.predict_views([""] * len(views), views)

    def _as_answer(self, name: str, found: Prediction) -> Answer:
        shares = found.probabilities
        self.metrics.count(found)
        return Answer(
            name=name,
            error=found.error or None,
            predicted=found.predicted,
            probabilities=None if shares is None else dict(zip(self.predictor.classes, shares, strict=True)),
            positive=found.positive,
            prediction_set=None if found.prediction_set is None else list(found.prediction_set),
            referred=found.is_referred,
            unfamiliar=found.is_out_of_distribution,
        )


def make_app(
    predictor: Predictor[Any],
    limits: Limits | None = None,
    *,
    token: str | None = None,
    loopback_only: bool = True,
    root_path: str = "",
    log: Callable[[dict[str, Any]], None] = lambda request: None,
) -> FastAPI:
    """Builds the service.

    Args:
        log: Told every request that was answered, on the event loop: it may not wait (request_log.py).
        token: Asked for by everything below /v1, and by /metrics.
        loopback_only: Answers to requests for localhost only.
        root_path: Prefix that a proxy adds (``clean_root_path``); requests come with it or without.
    """
    service = Service(predictor, limits or Limits())
    if isinstance(log, RequestLog):
        service.metrics.num_unlogged = lambda: log.num_dropped

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(service.stop)
        if isinstance(log, RequestLog):
            await to_thread.run_sync(log.flush)

    app = FastAPI(
        title="cytolora",
        summary="Predictions of a trained model; for research use only.",
        lifespan=lifespan,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
    )
    _add_routes(app, service, token)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=service.limits.max_body_bytes)
    app.add_middleware(JsonProblems)
    app.add_middleware(Guard, token=token, loopback_only=loopback_only, root_path=root_path)
    app.add_middleware(Telemetry, metrics=service.metrics, log=log, root_path=root_path)  # added last: asked first
    return app


def _add_routes(app: FastAPI, service: Service, token: str | None) -> None:
    page = (files("cytolora.classifier.serve") / "templates" / "serve.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def drop_page() -> str:
        return page.replace("needs-token=no", f"needs-token={'no' if token is None else 'yes'}")

    @app.get("/health", summary="The process runs.", responses=_REFUSALS)
    async def health() -> Status:
        return Status(status="ok", pending=service.pending)

    @app.get("/ready", summary="The model is loaded and takes images.", responses=_REFUSALS)
    async def ready() -> Status:
        if not service.is_ready:
            raise HTTPException(503, "stopping", headers={"Retry-After": _RETRY_SECONDS})
        return Status(status="ready", pending=service.pending)

    @app.get(
        "/metrics",
        summary="Counts and durations for Prometheus.",
        response_class=_Metrics,
        responses=_in_json(_REFUSALS | _problems(_401=_NO_TOKEN)),
        dependencies=_secured(token),
    )
    async def metrics() -> Response:
        return _Metrics(service.metrics.text())

    _add_predict(app, service, token)


def _secured(token: str | None) -> list[Any]:
    """Says in the schema that a path needs the token; Guard looks at it."""
    return [] if token is None else [Depends(HTTPBearer(auto_error=False))]


def _add_predict(app: FastAPI, service: Service, token: str | None) -> None:
    @app.post(
        "/v1/predict",
        summary="Predicts one or many images.",
        responses=_REFUSALS_OF_IMAGES,
        dependencies=_secured(token),
    )
    async def predict(images: Annotated[list[ImageFile], File(description=_FORMATS, min_length=1)]) -> Answers:
        _check_number(service, len(images))
        return await _answers(service, [(image.filename or "", await image.read()) for image in images])

    @app.post(
        "/v1/predict/json",
        summary="Predicts one or many images that are written in base64, for programs that send JSON.",
        responses=_REFUSALS_OF_IMAGES | _problems(_400="No valid HTTP request."),
        dependencies=_secured(token),
    )
    async def predict_json(request: EncodedImages) -> Answers:
        _check_number(service, len(request.images))
        return await _answers(service, [(image.name, _decoded(image.data)) for image in request.images])


def _check_number(service: Service, number: int) -> None:
    if number > service.limits.max_images:
        raise HTTPException(413, f"{number} images in one request; at most {service.limits.max_images}.")
    note_images(number)


def _decoded(data: str) -> bytes | None:
    """Decodes base64; None where it is none."""
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return None


def _as_sent(name: str, number: int) -> str:
    """Returns the name of an image, else its number; JSON can escape half a character, which no answer can hold."""
    return (name or str(number))[:_NAME_LENGTH].encode("utf-8", "replace").decode()


async def _answers(service: Service, named: Sequence[tuple[str, bytes | None]]) -> Answers:
    """Answers for images with the names that they were sent with, which may be empty."""
    images = [(_as_sent(name, number), content) for number, (name, content) in enumerate(named)]
    try:
        found = await service.predict(images)
    except QueueFullError:
        why = "Too many images are waiting."
        raise HTTPException(503, why, headers={"Retry-After": _RETRY_SECONDS}) from None
    except CytoloraError as error:
        raise HTTPException(503, " ".join(str(error).split())) from error
    if all(answer.error for answer in found):
        raise HTTPException(422, [{"name": answer.name, "error": answer.error} for answer in found])
    return Answers(model=service.model_id, classes=list(service.predictor.classes), predictions=found)
