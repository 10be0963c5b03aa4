"""Prediction of images by an opened classifier, whatever computes it; needs no torch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import cached_property
from io import BytesIO, IOBase
from itertools import count, islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.classifier.bundle.manifest import BundleManifest
from cytolora.classifier.decision.decide import Prediction, decide
from cytolora.classifier.decision.ood import Features
from cytolora.classifier.inference.image_sources import Source, as_text, find_images
from cytolora.classifier.inference.predictions import Predictions
from cytolora.config.reading import STANDARD, VERSION_1, Decoding
from cytolora.config.run import FeaturePrecision, Preprocess
from cytolora.core.arguments import AnyPath, OneOrMany
from cytolora.core.findings import Finding, finding
from cytolora.data.imaging.content import has_content
from cytolora.data.imaging.decode import Pixels, decode, to_rgb
from cytolora.data.imaging.pixels import CANNOT_READ
from cytolora.data.imaging.room import one_image
from cytolora.errors import BundleError, ConfigError, CytoloraError, DataError
from cytolora.metrics.calibration import probabilities

ImageLike = AnyPath | bytes | Image.Image | NDArray[np.uint8]
"""A path, the bytes of an image file, a Pillow image, or RGB pixels [height, width, 3]."""
Images = OneOrMany[ImageLike]
"""One or many; a path may also be a folder, pattern or zip file of images, and pixels [images, height, width, 3]."""

BATCH_SIZE = 64

NOT_SEEN = (DataError, MemoryError)
"""Errors of one image: it becomes a prediction with an error, and the others go on."""

OnOutputs = Callable[[Sequence[int], NDArray[np.float32], NDArray[np.float32]], None]

Item = TypeVar("Item")
View = TypeVar("View")
"""A decoded and resized image, as the model takes it."""


class Predictor(ABC, Generic[View]):
    """A classifier with its classes, preprocessing and thresholds."""

    def __init__(self, contents: BundleManifest, name: str) -> None:
        self.contents = contents
        self.name = name
        """Where it was opened."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return self.contents.classes

    @property
    def preprocess(self) -> Preprocess:
        """From a decoded image to the encoder's input."""
        return self.contents.preprocess

    @property
    def decoding(self) -> Decoding:
        """Rules by which image files become pixels: those of the training images."""
        return self.contents.decoding or VERSION_1

    @cached_property
    def bank(self) -> Features | None:
        """Features of training images, for out-of-distribution detection; None where there are none."""
        return self.read_bank()

    @abstractmethod
    def read_bank(self) -> Features | None:
        """Reads ``bank``."""

    def anchors_file(self) -> bytes | None:
        """Returns the file of the anchors of transductive prediction; None where there is none."""
        return None

    @abstractmethod
    def view(self, image: ImageLike | Source) -> View:
        """Decodes and resizes one image; safe to call from several threads.

        Raises:
            DataError: If it cannot be read.
        """

    def picture(self, view: View) -> Pixels | None:
        """Returns a view as [size, size, 3], to see whether it shows anything; None where a view is no picture."""
        return None

    def _shows_something(self, view: View) -> bool:
        picture = self.picture(view)
        return picture is None or has_content(picture)

    @property
    def precision(self) -> FeaturePrecision:
        """Precision of a frozen encoder's features; adapters, and exports, compute in fp32."""
        return "fp32"

    def findings(self) -> tuple[Finding, ...]:
        """Says where features are computed otherwise than those that the head was fitted to."""
        fitted = self.contents.precision or "fp32"
        if self.precision == fitted:
            return ()
        text = f"Features are computed in {self.precision}, and the classifier was fitted to those in {fitted}."
        return (finding("N817", f"{text} Its thresholds and test scores are those of {fitted}."),)

    @abstractmethod
    def outputs(self, views: Sequence[View]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [images, classes] and features [images, feature_dim] of some views."""

    @property
    def encoder_key(self) -> Hashable:
        """Equal for predictors that can share one encoder (``shared_encoder.py``); by default no other's."""
        return id(self)

    def use_encoder_of(self, other: "Predictor[View]") -> None:
        """Takes the encoder of a predictor of equal ``encoder_key`` for its own, before anything is loaded."""
        raise TypeError(f"{type(self).__name__} shares no encoder.")

    def bytes_to_load(self) -> int:
        """Size of the files of weights that are loaded only when they are needed; 0 where all is loaded.

        Raises:
            WeightsError: If they are not on this machine.
        """
        return 0

    def encode(self, views: Sequence[View]) -> Sequence[Any]:
        """Returns, an entry a view, what the encoder makes of it; equal for all that share the encoder.

        By default the views themselves: encoder and head are computed at once by ``outputs``.
        """
        return views

    def outputs_of(self, encoded: Sequence[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns ``outputs`` from entries of ``encode``."""
        return self.outputs(encoded)

    def warm_up(self) -> None:
        """Loads everything that is loaded lazily, by predicting a blank image."""
        size = self.preprocess.size_px
        self.predict([np.zeros((size, size, 3), np.uint8)])

    @property
    def metrics(self) -> dict[str, Any]:
        """Metrics on the test images of ``fit``: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``intervals``, …"""
        return self.contents.metrics.get("test", {})

    def logits(self, images: Images) -> NDArray[np.float32]:
        """Returns logits before the temperature, float32 [images, classes]; images as for ``predict``.

        Raises:
            DataError: If an image cannot be read.
        """
        return self._all_outputs(images)[0]

    def features(self, images: Images) -> NDArray[np.float32]:
        """Returns the encoder's features, float32 [images, feature_dim]; images as for ``predict``.

        Raises:
            DataError: If an image cannot be read.
        """
        return self._all_outputs(images)[1]

    def predict_proba(self, images: Images) -> NDArray[np.float32]:
        """Returns class probabilities after the temperature, float32 [images, classes]; rows add up to 1.

        Raises:
            DataError: If an image cannot be read.
        """
        return probabilities(self.logits(images), self.contents.temperature).astype(np.float32)

    def _all_outputs(self, images: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batches = _batches(named_images(images), BATCH_SIZE)
        outputs = [self._finite(self.outputs([self.view(image) for _, image in batch])) for batch in batches]
        if not outputs:
            return np.empty((0, len(self.classes)), np.float32), np.empty((0, 0), np.float32)
        logits, features = zip(*outputs, strict=True)
        return np.concatenate(logits), np.concatenate(features)

    def predict(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """Predicts one image or many; a file that is no image gets a prediction with an error.

        Args:
            images: One or many of: a path to an image, a folder with images at any depth, a pattern or a zip file; the
                bytes of an image file; a Pillow image; RGB pixels, uint8 [height, width, 3]. An array
                [images, height, width, 3] is a batch.

        Raises:
            DataError: If a path does not exist, or there is no image in it.
            ConfigError: If something else is given.
        """
        return Predictions(tuple(self.stream(images, batch_size=batch_size)), self.classes)

    def stream(self, images: Images, *, batch_size: int = BATCH_SIZE) -> Iterator[Prediction]:
        """Like ``predict``, one batch after the other in constant memory; the order stays."""
        for batch in _batches(named_images(images), batch_size):
            yield from self.predict_views([name for name, _ in batch], [self._try_view(image) for _, image in batch])

    def predict_views(
        self, names: Sequence[str], views: Sequence[View | CytoloraError], on_outputs: OnOutputs | None = None
    ) -> list[Prediction]:
        """Predicts decoded images; an error among the views becomes a prediction with that error.

        Args:
            on_outputs: Told the indices, logits and features of the images that could be read.
        """
        good = [(index, view) for index, view in enumerate(views) if not isinstance(view, CytoloraError)]
        predictions = [_not_read(name, view) for name, view in zip(names, views, strict=True)]
        if good:
            seen = [view for _, view in good]
            outputs = self._finite(self.outputs(seen))
            if on_outputs is not None:
                on_outputs([index for index, _ in good], *outputs)
            decided = self._decided([names[index] for index, _ in good], seen, *outputs)
            for (index, _), prediction in zip(good, decided, strict=True):
                predictions[index] = prediction
        return predictions

    def predict_encoded(self, names: Sequence[str], views: Sequence[View], encoded: Sequence[Any]) -> list[Prediction]:
        """Predicts decoded images from what ``encode`` made of them, here or in a predictor with the same encoder."""
        return self._decided(names, views, *self._finite(self.outputs_of(encoded)))

    def _decided(
        self,
        names: Sequence[str],
        views: Sequence[View],
        logits: NDArray[np.float32],
        features: NDArray[np.float32],
    ) -> list[Prediction]:
        has_content = [self._shows_something(view) for view in views]
        return decide(self.contents.rules, names, logits, features, self.bank, has_content=has_content)

    def _finite(
        self, outputs: tuple[NDArray[np.float32], NDArray[np.float32]]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns the outputs; of NaN or an infinity some class would be the most probable all the same."""
        logits, _ = outputs
        wrong = int((~np.isfinite(logits)).any(axis=1).sum())
        if wrong:
            raise BundleError(
                f"{self.name} gives logits that are not finite for {wrong} of {len(logits)} images: its weights, or "
                "those of its backbone, are not what they were in training. Get the bundle again."
            )
        return outputs

    def _try_view(self, image: ImageLike | Source) -> View | DataError:
        try:
            with one_image():
                return self.view(image)
        except NOT_SEEN as error:
            return as_data_error(error)


def as_data_error(error: DataError | MemoryError) -> DataError:
    """Turns whatever went wrong with one image into a DataError."""
    return DataError("Too little memory to decode this image.") if isinstance(error, MemoryError) else error


def pixels_of(image: ImageLike | Source, decoding: Decoding = STANDARD) -> Pixels:
    """Returns an image as RGB pixels by the rules of a bundle, whatever it was given as.

    Raises:
        DataError: If it cannot be read.
        ConfigError: If it is no image at all: an array of another type or shape, say.
    """
    if isinstance(image, Source):
        return image.pixels(decoding)
    if isinstance(image, str | Path):
        return decode(Path(image), decoding=decoding)
    if isinstance(image, bytes):
        return decode(BytesIO(image), "the image", decoding=decoding)
    if isinstance(image, Image.Image):
        return to_rgb(image, decoding)
    array: Any = image
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        shape = getattr(array, "shape", type(array).__name__)
        kind = f"{array.dtype} {shape}" if isinstance(array, np.ndarray) else shape
        raise ConfigError(f"An image is a path, bytes, a Pillow image, or RGB uint8 [height, width, 3], got {kind}.")
    if 0 in array.shape:
        raise DataError(f"An image has at least one pixel; got {array.shape}.")
    return array


def named_images(images: Images) -> Iterator[tuple[str, ImageLike | Source]]:
    """Yields every image with its name, a path or its number; folders are opened, and paths checked in advance."""
    given: Any = [images] if _is_one(images) else images
    if isinstance(given, list | tuple):
        find_images(path for path in given if isinstance(path, AnyPath))
    number = count()
    for image in given:
        if not isinstance(image, AnyPath):
            yield str(next(number)), image
            continue
        for source in find_images(image):
            is_itself = source.member is None and source.file == Path(image)
            next(number)
            yield as_text(image) if is_itself else source.name, source


def _is_one(images: Any) -> bool:
    """Whether this is one image; an array is one unless it has an axis of images, or is a list of paths."""
    if isinstance(images, np.ndarray):
        return images.ndim not in (1, 4)
    return isinstance(images, AnyPath | bytes | Image.Image | IOBase) or not isinstance(images, Iterable)


def _not_read(name: str, view: object) -> Prediction:
    """Returns what is said of an image that cannot be read; of a view, its name."""
    if not isinstance(view, CytoloraError):
        return Prediction(name=name)
    return Prediction(name=name, error=" ".join(str(view).split()), error_code=getattr(view, "code", CANNOT_READ))


def _batches(images: Iterable[Item], size: int) -> Iterator[list[Item]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
