"""HTTP service of a classifier: images in, predictions out, bounded in size, with a clean shutdown."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from cytolora.classifier.inference.predictor import Predictor
from cytolora.classifier.serve.answers import ServedModel, ServedModels, Status
from cytolora.classifier.serve.guard import Guard, JsonProblems
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.predict_routes import add_predict_routes
from cytolora.classifier.serve.problems import invalid_request
from cytolora.classifier.serve.refusals import NO_TOKEN, REFUSALS, RETRY_SECONDS, in_json, problems, secured
from cytolora.classifier.serve.request_log import RequestLog
from cytolora.classifier.serve.service import Model, Service
from cytolora.classifier.serve.telemetry import METRICS_TYPE, Telemetry

_ALONE = "model"
"""Name of a model that is given without one."""


class _Metrics(Response):
    media_type = METRICS_TYPE


def make_app(
    models: Predictor[Any] | Mapping[str, Predictor[Any]],
    limits: Limits | None = None,
    *,
    token: str | None = None,
    loopback_only: bool = True,
    root_path: str = "",
    log: Callable[[dict[str, Any]], None] = lambda request: None,
) -> FastAPI:
    """Builds the service.

    Args:
        models: By the names that stand in their addresses (``names.py``), at least one; one alone is ``model``. Nothing
            of them is loaded yet: those with equal frozen encoders share one.
        log: Told every request that was answered, on the event loop: it may not wait (request_log.py).
        token: Asked for by everything below /v1, and by /metrics.
        loopback_only: Answers to requests for localhost only.
        root_path: Prefix that a proxy adds (``clean_root_path``); requests come with it or without.
    """
    service = Service({_ALONE: models} if isinstance(models, Predictor) else models, limits or Limits())
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
        version=version("cytolora"),
        summary="Predictions of trained models; for research use only.",
        lifespan=lifespan,
        docs_url=None,  # those pages load scripts from elsewhere
        redoc_url=None,
    )
    _add_routes(app, service, token)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=service.limits.max_body_bytes)
    app.add_middleware(JsonProblems)
    app.add_middleware(Guard, token=token, loopback_only=loopback_only, root_path=root_path)
    told = {"metrics": service.metrics, "log": log, "root_path": root_path, "paths": _paths(app)}
    app.add_middleware(Telemetry, **told)  # added last: asked first
    return app


def _paths(app: FastAPI) -> frozenset[str]:
    """Returns the addresses of an app but those that stand for any number of others."""
    return frozenset(path for route in app.routes if "{" not in (path := getattr(route, "path", "{")))


def _add_routes(app: FastAPI, service: Service, token: str | None) -> None:
    page = (files("cytolora.classifier.serve") / "templates" / "serve.html").read_text(encoding="utf-8")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def drop_page() -> str:
        names = " ".join(service.models) if len(service.models) > 1 else ""
        asks = f"needs-token={'no' if token is None else 'yes'}"
        return page.replace("needs-token=no", asks).replace('data-models=""', f'data-models="{names}"')

    @app.get("/health", summary="The process runs.", responses=REFUSALS)
    async def health() -> Status:
        return Status(status="ok", pending=service.pending)

    @app.get("/ready", summary="The model is loaded and takes images.", responses=REFUSALS)
    async def ready() -> Status:
        if not service.is_ready:
            raise HTTPException(503, "stopping", headers={"Retry-After": RETRY_SECONDS})
        return Status(status="ready", pending=service.pending)

    @app.get(
        "/metrics",
        summary="Counts and durations for Prometheus.",
        response_class=_Metrics,
        responses=in_json(REFUSALS | problems(_401=NO_TOKEN)),
        dependencies=secured(token),
    )
    async def metrics() -> Response:
        return _Metrics(service.metrics.text())

    @app.get(
        "/v1/models",
        summary="The models, by whose names they are asked.",
        responses=REFUSALS | problems(_401=NO_TOKEN),
        dependencies=secured(token),
    )
    async def served_models() -> ServedModels:
        return ServedModels(models=[_described(model) for model in service.models.values()])

    add_predict_routes(app, service, token)


def _described(model: Model) -> ServedModel:
    contents = model.predictor.contents
    return ServedModel(
        name=model.name,
        model=model.hash,
        classes=list(contents.classes),
        backbone=contents.backbone.spec.name,
        method=contents.method,
        encoder=model.encoder,
    )
