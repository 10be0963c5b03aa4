"""HTTP server of a labelling project: the page and its requests, on loopback and with a token only."""

import json
import logging
import shlex
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_urlsafe
from threading import Event, Thread
from typing import Annotated, Any, Literal

import numpy as np
from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from cytolora.classifier.serve.guard import Guard, JsonProblems
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.problems import Faults, invalid_request
from cytolora.core.arguments import AnyPath
from cytolora.errors import CytoloraError
from cytolora.labelling.adapt import METHOD
from cytolora.labelling.encoders import WITH_LORA, EncoderName
from cytolora.labelling.points import pack_points
from cytolora.labelling.session import Labelling
from cytolora.labelling.turns import UnderWayError
from cytolora.labelling.votes import MAX_CLASS, MAX_READER

_log = logging.getLogger(__name__)

_GATHER_SECONDS = 1.0
"""From a label to the refit, which takes all labels that came meanwhile."""
_FIRST_SECONDS = 5.0
"""For the first cells to be asked for: what loads in the background waits for them, at most so long."""
_STOP_SECONDS = 5.0
"""For the refit that runs when the server stops."""
_NUM_DECODERS = 4
"""Pictures read at once; labels do not wait for more of them."""
_MAX_QUEUE = 240
LIMITS = Limits(max_connections=200, max_connections_per_client=200)
"""Of requests and connections; a lasso around 100,000 cells fits into a body."""


def new_token() -> str:
    """Returns a secret for the address of the page: 24 random bytes."""
    return token_urlsafe(24)


def _plain(value: Any) -> Any:
    """Makes numbers and arrays of NumPy those of JSON."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no value of JSON")


class _Json(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, default=_plain, allow_nan=False, separators=(",", ":")).encode()


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    reader: str = Field(min_length=1, max_length=MAX_READER)
    client_id: str = Field(min_length=8, max_length=64)
    """Made by the page: a request that comes again is one entry."""


class _Label(_Request):
    cells: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    value: str = Field(max_length=MAX_CLASS)
    how: Literal["key", "row", "lasso"] = "key"


class _Adjudication(_Request):
    cell: int = Field(ge=0)
    value: str = Field(max_length=MAX_CLASS)


_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Mixture(BaseModel):
    model_config = ConfigDict(extra="forbid")
    doubt: _Share
    diversity: _Share
    mistakes: _Share
    rare: _Share
    test: _Share


_Reader = Annotated[str, Query(min_length=1, max_length=MAX_READER)]
_Cell = Annotated[int, Path(ge=0)]


class _Encoder(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: EncoderName


class Background:
    """Features, refits and LoRA beside the requests, a thread each."""

    def __init__(self, project: Labelling) -> None:
        self._project = project
        self._labelled, self._stopped, self._asked = Event(), Event(), Event()
        self._refits = Thread(target=self._refit, name="cytolora-refit", daemon=True)
        self._problems: dict[str, str | None] = {}
        """By what was done the last time, why it failed: each has a place of its own, and takes away its own alone."""
        self.lora_problem: str | None = None
        """Why LoRA was not trained the last time."""

    @property
    def problem(self) -> str | None:
        """Why the features, the preparation or the last refit failed; None where none of them did."""
        return " ".join(text for text in tuple(self._problems.values()) if text is not None) or None

    def start(self) -> None:
        """Starts both threads; features that are in the cache are there at once."""
        Thread(target=self._compute, name="cytolora-features", daemon=True).start()
        self._refits.start()

    def asked(self) -> None:
        """Lets it begin: the page has its first cells."""
        self._asked.set()

    def labelled(self) -> None:
        """Has the classifier fitted again soon."""
        self._labelled.set()

    def train_lora(self) -> None:
        """Starts the training of LoRA.

        Raises:
            UnderWayError: If it runs.
            ConfigError: If it cannot be trained now.
        """
        train = self._project.begin_lora()
        self.lora_problem = None
        Thread(target=self._train_lora, args=(train,), name="cytolora-lora", daemon=True).start()

    def _train_lora(self, train: Callable[[], bool]) -> None:
        self.lora_problem = self._try("training of LoRA", train)
        self.labelled()

    def stop(self) -> None:
        """Ends the refits and closes the project."""
        self._stopped.set()
        self._labelled.set()
        self._asked.set()
        self._refits.join(_STOP_SECONDS)
        self._project.close()

    def _compute(self) -> None:
        self._asked.wait(_FIRST_SECONDS)
        self._problems["features"] = self._try("features", self._project.start_features)
        self.labelled()

    def _refit(self) -> None:
        self._asked.wait(_FIRST_SECONDS)
        self._problems["preparation"] = self._try("classifier", self._project.prepare)
        while self._labelled.wait() and not self._stopped.wait(_GATHER_SECONDS):
            self._labelled.clear()
            self._problems["refit"] = self._try("classifier", self._project.refit)

    def _try(self, what: str, work: Any) -> str | None:
        try:
            work()
        except CytoloraError as error:
            return " ".join(str(error).split())
        except Exception:  # a thread that dies would leave a page that waits for ever
            if self._stopped.is_set():
                return None  # of a project that was closed meanwhile
            _log.exception("The %s failed", what)
            return f"The {what} failed; the terminal shows why. Labels are stored all the same."
        return None


def page(reader: str) -> str:
    """Returns the page as one HTML document that loads nothing from elsewhere."""
    from cytolora.display.page_templates import page_templates

    environment = page_templates("cytolora.labelling", folder="page", lstrip_blocks=False)
    return environment.get_template("label.html.j2").render(reader=reader)


def make_app(project: Labelling, folder: AnyPath, token: str, *, reader: str = "reader 1") -> FastAPI:
    """Builds the server of an open project, which it closes when it stops.

    Args:
        folder: Of the project, for the command that the page shows at the end.
        token: Asked for by everything: in the address by the page (``/?token=TOKEN``), as ``Authorization: Bearer
            TOKEN`` by the rest.
        reader: Name that the page starts with.
    """
    background = Background(project)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        background.start()
        yield
        await to_thread.run_sync(background.stop)

    app = FastAPI(title="cytolora label", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    _add_reading(app, project, background, reader)
    _add_writing(app, project, background)
    _add_encoders(app, project, background)
    _add_finish(app, project, folder)
    app.add_exception_handler(RequestValidationError, invalid_request)
    app.add_exception_handler(CytoloraError, _refused)
    app.add_exception_handler(OSError, _not_written)
    app.add_middleware(Faults)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=LIMITS.max_body_bytes)
    app.add_middleware(JsonProblems)
    app.add_middleware(Guard, token=token, loopback_only=True, is_private=True)  # added last: asked first
    return app


async def _refused(_: Request, error: Exception) -> Response:
    return JSONResponse({"detail": " ".join(str(error).split())}, 409 if isinstance(error, UnderWayError) else 422)


async def _not_written(_: Request, error: Exception) -> Response:
    """Answers where a disk is full or gone; nothing was acknowledged."""
    assert isinstance(error, OSError)
    why = f"Nothing was stored: {error.strerror or error}. Make room on the disk, then send it again."
    return JSONResponse({"detail": why}, 507)


def _add_reading(app: FastAPI, project: Labelling, background: Background, first_reader: str) -> None:
    decoders = CapacityLimiter(_NUM_DECODERS)

    @app.get("/", response_class=HTMLResponse)
    def the_page() -> str:
        return page(first_reader)

    @app.get("/v1/overview")
    def overview(reader: _Reader) -> Response:
        if project.is_lora_new:
            background.labelled()
        problems = {"problem": background.problem, "lora_problem": background.lora_problem}
        return _Json({**project.overview(reader), **problems})

    @app.get("/v1/queue")
    def queue(
        reader: _Reader,
        kind: Literal["next", "test", "mistakes", "second"] = "next",
        n: Annotated[int, Query(ge=1, le=_MAX_QUEUE)] = 24,
    ) -> Response:
        answer = _Json(project.queue(reader, n, kind=kind))
        background.asked()
        return answer

    @app.get("/v1/cells/{cell}")
    def one_cell(cell: _Cell, reader: _Reader) -> Response:
        return _Json({**project.cell(reader, cell), "own": project.label_of(reader, cell)})

    @app.get("/v1/cells/{cell}/picture")
    async def picture(cell: _Cell, size: Annotated[int, Query(ge=16, le=1024)] = 512) -> Response:
        content, kind = await to_thread.run_sync(project.picture, cell, size, limiter=decoders)
        return Response(content, media_type=kind)

    @app.get("/v1/points")
    def points(reader: _Reader) -> Response:
        return Response(pack_points(project.points(reader)), media_type="application/octet-stream")

    @app.get("/v1/forecast")
    def forecast() -> Response:
        return _Json(project.forecast())

    @app.get("/v1/disagreements")
    def disagreements() -> Response:
        return _Json({"cells": project.disagreements(), "agreement": project.agreement()})


def _add_writing(app: FastAPI, project: Labelling, background: Background) -> None:
    def after(answer: dict[str, Any]) -> Response:
        background.asked()
        background.labelled()
        return _Json(answer)

    @app.post("/v1/labels")
    def label(request: _Label) -> Response:
        return after(
            project.label(request.reader, request.cells, request.value, client_id=request.client_id, how=request.how)
        )

    @app.post("/v1/undo")
    def undo(request: _Request) -> Response:
        return after(project.undo(request.reader, client_id=request.client_id))

    @app.post("/v1/redo")
    def redo(request: _Request) -> Response:
        return after(project.redo(request.reader, client_id=request.client_id))

    @app.post("/v1/adjudications")
    def adjudicate(request: _Adjudication) -> Response:
        return after(project.adjudicate(request.reader, request.cell, request.value, client_id=request.client_id))

    @app.put("/v1/mixture")
    def mixture(request: _Mixture) -> Response:
        project.set_mixture(request.model_dump())
        return _Json({})


def _add_encoders(app: FastAPI, project: Labelling, background: Background) -> None:
    @app.post("/v1/lora", status_code=202)
    def train_lora() -> Response:
        background.train_lora()
        return _Json({}, 202)

    @app.delete("/v1/lora")
    def stop_lora() -> Response:
        project.stop_lora()
        return _Json({})

    @app.put("/v1/encoder")
    def encoder(request: _Encoder) -> Response:
        project.choose_encoder(request.name)
        background.labelled()
        return _Json({})


def _add_finish(app: FastAPI, project: Labelling, folder: AnyPath) -> None:
    @app.post("/v1/finish")
    def finish() -> Response:
        labels, lack = str(project.write_labels()), project.lacking()
        return _Json({"labels": labels, "lacking": lack, "command": "" if lack else _fit_command(project, folder)})


def _fit_command(project: Labelling, folder: AnyPath) -> str:
    method = ["--method", METHOD] if project.encoder == WITH_LORA else []
    return shlex.join(["cytolora", "fit", str(folder), *method, "--out", f"{folder}-bundle"])
