"""Addresses of the service that take images: of the only model, of a model by its name, and of several at once."""

from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

from fastapi import Depends, FastAPI, File, HTTPException, Query, UploadFile
from pydantic import WithJsonSchema

from cytolora.classifier.serve.answers import FORMATS, Answers, AnswersByModel, EncodedImages
from cytolora.classifier.serve.microbatch import QueueFullError
from cytolora.classifier.serve.refusals import NO_TOKEN, REFUSALS, RETRY_SECONDS, problems, secured
from cytolora.classifier.serve.service import Image, Model, Service, by_encoder
from cytolora.classifier.serve.telemetry import note_images
from cytolora.errors import CytoloraError, unknown_name

_NAME_LENGTH = 200
_BYTES = "application/octet-stream"

ImageFile = Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary", "contentMediaType": _BYTES})]
"""A file in a form, named as tools of either OpenAPI 3.0 or 3.1 know it."""

_REFUSALS_OF_IMAGES = REFUSALS | problems(
    _400="No valid HTTP request, or no multipart form.",
    _401=NO_TOKEN,
    _422="No image of the request can be read.",
    _503="Too many images or connections, or stopping; ask again after Retry-After seconds.",
)

_NO_MODEL = problems(_404="No such model.")

_Chosen = Callable[..., Awaitable[Sequence[Model]]]
"""Reads off a request which models it asks; a dependency of FastAPI."""


def add_predict_routes(app: FastAPI, service: Service, token: str | None) -> None:
    """Adds /v1/models/NAME/predict for every model, /v1/models/predict for several, and /v1/predict for the only one.

    Each has a twin for JSON. Where there are several models /v1/predict is refused: which of them it meant would hang
    on the order of the words of a command.
    """
    models = list(service.models.values())
    for model in models:
        for prefix in (f"/v1/models/{model.name}", *(["/v1"] if len(models) == 1 else [])):
            _add_predict(app, service, token, prefix, _this(model), is_of_one=True)
    _add_predict(app, service, token, "/v1/models", _named(service), is_of_one=False)
    _refuse_others(app, service)


def _this(model: Model) -> _Chosen:
    async def chosen() -> Sequence[Model]:
        return [model]

    return chosen


def _named(service: Service) -> _Chosen:
    schema = {"type": "array", "items": {"type": "string", "enum": list(service.models)}}
    about = "Names of models, `?model=A&model=B`; all of them if none is named."

    async def chosen(
        model: Annotated[list[str] | None, Query(description=about), WithJsonSchema(schema)] = None,
    ) -> Sequence[Model]:
        return [_model(service, name) for name in dict.fromkeys(model or service.models)]

    return chosen


def _model(service: Service, name: str) -> Model:
    """Returns a model; an unknown name is answered with those that are known."""
    if name not in service.models:
        raise HTTPException(404, str(unknown_name("model", _as_sent(name), service.models)))
    return service.models[name]


def _add_predict(
    app: FastAPI, service: Service, token: str | None, prefix: str, chosen: _Chosen, *, is_of_one: bool
) -> None:
    options: dict[str, Any] = {
        "response_model": Answers if is_of_one else AnswersByModel,
        "dependencies": secured(token),
    }
    refusals = _REFUSALS_OF_IMAGES if is_of_one else _REFUSALS_OF_IMAGES | _NO_MODEL
    whose = "" if is_of_one else ", by several models at once"

    async def answer(models: Sequence[Model], images: Sequence[Image]) -> Answers | AnswersByModel:
        found = await _answers(service, models, images)
        return found[models[0].name] if is_of_one else AnswersByModel(models=found)

    @app.post(f"{prefix}/predict", summary=f"Predicts one or many images{whose}.", responses=refusals, **options)
    async def predict(
        models: Annotated[Sequence[Model], Depends(chosen)],
        images: Annotated[list[ImageFile], File(description=FORMATS, min_length=1)],
    ) -> Any:
        _check_number(service, models, len(images))
        return await answer(models, [(image.filename or "", await image.read()) for image in images])

    @app.post(
        f"{prefix}/predict/json",
        summary=f"Predicts one or many images that are written in base64{whose}, for programs that send JSON.",
        responses=refusals | problems(_400="No valid HTTP request."),
        **options,
    )
    async def predict_json(models: Annotated[Sequence[Model], Depends(chosen)], request: EncodedImages) -> Any:
        _check_number(service, models, len(request.images))
        return await answer(models, [(image.name, _decoded(image.data)) for image in request.images])


def _refuse_others(app: FastAPI, service: Service) -> None:
    """Answers for models that are not there, and for none where there are several, without reading the images."""

    @app.post("/v1/models/{name}/predict", include_in_schema=False)
    @app.post("/v1/models/{name}/predict/json", include_in_schema=False)
    async def unknown(name: str) -> None:
        _model(service, name)

    if len(service.models) > 1:

        @app.post("/v1/predict", include_in_schema=False)
        @app.post("/v1/predict/json", include_in_schema=False)
        async def unnamed() -> None:
            raise HTTPException(
                404,
                f"This service has {len(service.models)} models, and the address names none: post to "
                f"/v1/models/NAME/predict, or to /v1/models/predict for all. Known: {', '.join(service.models)}.",
            )


def _check_number(service: Service, models: Sequence[Model], number: int) -> None:
    limits, times = service.limits, len(by_encoder(models))
    if number > limits.max_images:
        raise HTTPException(413, f"{number} images in one request; at most {limits.max_images}.")
    if times > 1 and number * times > limits.max_queue:  # it would be told to come back for ever
        raise HTTPException(
            413, f"{number} images for {times} encoders; at most {limits.max_queue} may wait. Send fewer at once."
        )
    note_images(number)


async def _answers(service: Service, models: Sequence[Model], named: Sequence[Image]) -> dict[str, Answers]:
    """Answers of models for images with the names that they were sent with, which may be empty."""
    images = [(_as_sent(name or str(number)), content) for number, (name, content) in enumerate(named)]
    try:
        found = await service.predict(models, images)
    except QueueFullError:
        why = "Too many images are waiting."
        raise HTTPException(503, why, headers={"Retry-After": RETRY_SECONDS}) from None
    except CytoloraError as error:
        raise HTTPException(503, " ".join(str(error).split())) from error
    if all(answer.error for answers in found.values() for answer in answers):
        first = found[models[0].name]
        raise HTTPException(422, [{"name": answer.name, "error": answer.error} for answer in first])
    return {
        model.name: Answers(model=model.hash, classes=list(model.predictor.classes), predictions=found[model.name])
        for model in models
    }


def _decoded(data: str) -> bytes | None:
    """Decodes base64; None where it is none."""
    try:
        return b64decode(data, validate=True)
    except ValueError:
        return None


def _as_sent(text: str) -> str:
    """Returns a text of a request as an answer can hold it: brief, and without the halves of characters of JSON."""
    return text[:_NAME_LENGTH].encode("utf-8", "replace").decode()
