"""Models of the service, and the queue of their images: one thread computes, a forward pass an encoder and batch."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from io import BytesIO
from typing import Any

from anyio import CapacityLimiter, to_thread

from cytolora.classifier.bundle.manifest import to_text
from cytolora.classifier.decision.decide import Prediction
from cytolora.classifier.inference.predictor import NOT_SEEN, Predictor, as_data_error
from cytolora.classifier.inference.shared_encoder import share_encoders
from cytolora.classifier.serve.answers import Answer, as_answer
from cytolora.classifier.serve.limits import Limits
from cytolora.classifier.serve.microbatch import MicroBatcher, QueueFullError
from cytolora.classifier.serve.telemetry import Metrics
from cytolora.core.files import sha256_text
from cytolora.data.imaging.decode import Pixels, decode
from cytolora.data.imaging.room import one_image
from cytolora.errors import CytoloraError

_NO_BASE64 = "data is no base64 of a file (RFC 4648, 4: A-Z a-z 0-9 + / =), on one line, without blanks and 'data:'."
_HINT = " Run `cytolora"
"""Where an error turns to somebody at the command line."""

Image = tuple[str, bytes | None]
"""Name and file; None is what could not be decoded as base64."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """A model under the name that it is asked by."""

    name: str
    predictor: Predictor[Any]
    hash: str
    """Of its description."""
    encoder: int
    """Number of its encoder; equal for models that share one."""


@dataclass(frozen=True, slots=True)
class _Question:
    """An image for models that share an encoder."""

    view: Any
    models: tuple[Model, ...]


_Found = Mapping[str, Prediction | CytoloraError]
"""By the model's name, what it says of an image, or why it cannot compute."""


class Service:
    """The models and their queue."""

    def __init__(self, predictors: Mapping[str, Predictor[Any]], limits: Limits) -> None:
        """Takes predictors by name, of which nothing is loaded yet; those with equal encoders share one."""
        self.limits = limits
        encoders = share_encoders(list(predictors.values()))
        self.models = {
            name: Model(
                name=name, predictor=predictor, hash=sha256_text(to_text(predictor.contents))[:16], encoder=encoder
            )
            for (name, predictor), encoder in zip(predictors.items(), encoders, strict=True)
        }
        self.metrics = Metrics({name: tuple(one.predictor.classes) for name, one in self.models.items()})
        for one in self.models.values():
            about = {"hash": one.hash, "backbone": one.predictor.contents.backbone.spec.name}
            self.metrics.about.labels(one.name).info({**about, "cytolora": version("cytolora")})
        self.metrics.encoders.set(1 + max(encoders))
        self.pending = 0
        self.metrics.pending.set_function(lambda: self.pending)
        self._decoders = CapacityLimiter(limits.num_decoders)
        self._batcher: MicroBatcher[_Question, _Found] = MicroBatcher(
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

    async def predict(self, models: Sequence[Model], images: Sequence[Image]) -> dict[str, list[Answer]]:
        """Answers of models for images, by the model's name, in the order of the images.

        Raises:
            QueueFullError: If too many are waiting.
            CytoloraError: If a model cannot compute.
        """
        groups = by_encoder(models)
        with self._places(len(images) * len(groups)):
            asked = [self._one(group, content) for group in groups for _, content in images]
            found = iter(await asyncio.gather(*asked))
        by_group = [[next(found) for _ in images] for _ in groups]
        return {
            model.name: [
                self._as_answer(model, name, one[model.name]) for (name, _), one in zip(images, rows, strict=True)
            ]
            for group, rows in zip(groups, by_group, strict=True)
            for model in group
        }

    @contextmanager
    def _places(self, count: int) -> Iterator[None]:
        if self.pending + count > self.limits.max_queue:
            raise QueueFullError
        self.pending += count
        try:
            yield
        finally:
            self.pending -= count

    async def _one(self, models: tuple[Model, ...], content: bytes | None) -> _Found:
        """Asks models that share an encoder, and so read images alike."""
        if content is None:
            return dict.fromkeys((one.name for one in models), Prediction(name="", error=_NO_BASE64))
        try:
            view = await to_thread.run_sync(self._view, models[0].predictor, content, limiter=self._decoders)
        except NOT_SEEN as error:
            why = " ".join(str(as_data_error(error)).split()).partition(_HINT)[0]
            return dict.fromkeys((one.name for one in models), Prediction(name="", error=why))
        return await asyncio.wrap_future(self._batcher.submit(_Question(view, models)))

    def _view(self, predictor: Predictor[Any], content: bytes) -> Any:
        with one_image():
            return predictor.view(self._pixels(predictor, content))

    def _pixels(self, predictor: Predictor[Any], content: bytes) -> Pixels:
        return decode(BytesIO(content), "the file", decoding=predictor.decoding, max_pixels=self.limits.max_pixels)

    def _answer(self, questions: Sequence[_Question]) -> list[_Found]:
        """Computes a batch: the questions to one encoder together, in one forward pass."""
        answers: list[_Found] = [{}] * len(questions)
        numbers = [question.models[0].encoder for question in questions]
        for encoder in dict.fromkeys(numbers):
            rows = [row for row, number in enumerate(numbers) if number == encoder]
            for row, found in zip(rows, self._forward([questions[row] for row in rows]), strict=True):
                answers[row] = found
        return answers

    def _forward(self, questions: Sequence[_Question]) -> list[_Found]:
        """Computes one forward pass and the heads that are asked; what fails for one model is none of another's."""
        views = [question.view for question in questions]
        asked = dict.fromkeys(model for question in questions for model in question.models)
        self.metrics.batches.observe(len(views))
        try:
            encoded = next(iter(asked)).predictor.encode(views)
        except CytoloraError as error:
            return [dict.fromkeys((model.name for model in question.models), error) for question in questions]
        answers: list[dict[str, Prediction | CytoloraError]] = [{} for _ in questions]
        for model in asked:
            rows = [row for row, question in enumerate(questions) if model in question.models]
            of_rows = ([""] * len(rows), [views[row] for row in rows], [encoded[row] for row in rows])
            try:
                found: Sequence[Prediction | CytoloraError] = model.predictor.predict_encoded(*of_rows)
            except CytoloraError as error:
                found = [error] * len(rows)
            for row, one in zip(rows, found, strict=True):
                answers[row][model.name] = one
        return list(answers)

    def _as_answer(self, model: Model, name: str, found: Prediction | CytoloraError) -> Answer:
        if isinstance(found, CytoloraError):
            raise found
        self.metrics.count(model.name, found)
        return as_answer(name, found, model.predictor.classes)


def by_encoder(models: Sequence[Model]) -> list[tuple[Model, ...]]:
    """Groups models that share an encoder, in the order of the first of each."""
    numbers = dict.fromkeys(model.encoder for model in models)
    return [tuple(model for model in models if model.encoder == number) for number in numbers]
