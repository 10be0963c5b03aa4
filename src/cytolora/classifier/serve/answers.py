"""Requests and answers of the service in JSON, as its schema describes them."""

from typing import Any, Literal

from pydantic import BaseModel, Field

from cytolora.classifier.decision.decide import Prediction

FORMATS = "Image files: PNG, JPEG, BMP, TIFF or WebP; what is one is told by its content."


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


class AnswersByModel(BaseModel):
    """The answers of several models to one request, by the models' names."""

    models: dict[str, Answers]


class ServedModel(BaseModel):
    """A model of the service."""

    name: str = Field(description="In its addresses.")
    model: str = Field(description="Hash of the model's description: equal for equal models.")
    classes: list[str]
    backbone: str
    method: str
    encoder: int = Field(description="Equal for models that share one encoder in memory, and its forward passes.")


class ServedModels(BaseModel):
    """The models of the service, in the order in which they were named."""

    models: list[ServedModel]


class EncodedImage(BaseModel):
    """One image file as text."""

    name: str = Field(default="", description="Comes back with the answer.")
    data: str = Field(description=f"Base64 of the file (RFC 4648, 4), on one line. {FORMATS}")


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


def as_answer(name: str, found: Prediction, classes: tuple[str, ...]) -> Answer:
    """Writes what was found for an image; ``classes`` are in the order of the probabilities."""
    shares = found.probabilities
    return Answer(
        name=name,
        error=found.error or None,
        predicted=found.predicted,
        probabilities=None if shares is None else dict(zip(classes, shares, strict=True)),
        positive=found.positive,
        prediction_set=None if found.prediction_set is None else list(found.prediction_set),
        referred=found.is_referred,
        unfamiliar=found.is_out_of_distribution,
    )
