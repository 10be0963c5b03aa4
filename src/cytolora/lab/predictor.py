"""What every opened model does with images, whatever computes it; needs no torch."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.data.decode import Pixels, decode
from cytolora.errors import CytoloraError, DataError
from cytolora.lab.bundle_contents import Contents
from cytolora.lab.decisions import Prediction, decide
from cytolora.lab.unfamiliar import Features
from cytolora.specs import Preprocess

ImageLike = str | Path | bytes | Image.Image | NDArray[np.uint8]
"""A path, the bytes of an image file, a Pillow image, or RGB pixels [height, width, 3]."""

BATCH_SIZE = 64

NOT_SEEN = (DataError, MemoryError)
"""What one image may do: it is then one answer with an error, and the others go on."""

View = TypeVar("View")
"""A decoded and resized image, as the model takes it."""


class Predictor(ABC, Generic[View]):
    """A classifier with its classes, preprocessing and thresholds."""

    def __init__(self, contents: Contents, name: str) -> None:
        self.contents = contents
        self.name = name
        """Where it was opened."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes, in the order of the logits."""
        return self.contents.classes

    @property
    def preprocess(self) -> Preprocess:
        """From a decoded image to the tower's input."""
        return self.contents.preprocess

    @cached_property
    def bank(self) -> Features | None:
        """Features of training images, to tell unfamiliar images by; None where there are none."""
        return self.read_bank()

    @abstractmethod
    def read_bank(self) -> Features | None:
        """Reads ``bank``."""

    @abstractmethod
    def view(self, image: ImageLike) -> View:
        """Decodes and resizes one image; safe to call from several threads.

        Raises:
            DataError: If it cannot be read.
        """

    @abstractmethod
    def outputs(self, views: Sequence[View]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Returns logits [images, classes] and features [images, feature_dim] of some views."""

    def warm_up(self) -> None:
        """Loads what is loaded late, by looking at a blank image: the first real one then waits for nothing."""
        size = self.preprocess.size_px
        self.predict([np.zeros((size, size, 3), np.uint8)])

    def logits(self, images: Iterable[ImageLike]) -> NDArray[np.float32]:
        """Returns logits before the temperature, float32 [images, classes].

        Raises:
            DataError: If an image cannot be read.
        """
        batches = [self.outputs([self.view(image) for image in batch])[0] for batch in _batches(images, BATCH_SIZE)]
        return np.concatenate([np.empty((0, len(self.classes)), np.float32), *batches])

    def predict(self, images: Iterable[ImageLike], *, batch_size: int = BATCH_SIZE) -> list[Prediction]:
        """Says of each image what it shows; one that cannot be read gets a prediction with an error."""
        return list(self.stream(images, batch_size=batch_size))

    def stream(self, images: Iterable[ImageLike], *, batch_size: int = BATCH_SIZE) -> Iterator[Prediction]:
        """Like ``predict``, one batch after the other in constant memory; the order stays."""
        start = 0
        for batch in _batches(images, batch_size):
            names = [_name(image, start + place) for place, image in enumerate(batch)]
            views = [self._try_view(image) for image in batch]
            start += len(batch)
            yield from self.predict_views(names, views)

    def predict_views(self, names: Sequence[str], views: Sequence[View | CytoloraError]) -> list[Prediction]:
        """Says of each view what it shows; an error in its place becomes a prediction with that error."""
        good = [(place, view) for place, view in enumerate(views) if not isinstance(view, CytoloraError)]
        found = [Prediction(name=name, error=_line(view)) for name, view in zip(names, views, strict=True)]
        if good:
            logits, features = self.outputs([view for _, view in good])
            said = decide(self.contents, [names[place] for place, _ in good], logits, features, self.bank)
            for (place, _), prediction in zip(good, said, strict=True):
                found[place] = prediction
        return found

    def _try_view(self, image: ImageLike) -> View | DataError:
        try:
            return self.view(image)
        except NOT_SEEN as error:
            return as_data_error(error)


def as_data_error(error: DataError | MemoryError) -> DataError:
    """Says of one image that it cannot be looked at, whatever it was that went wrong."""
    return DataError("Too little memory to look at this image.") if isinstance(error, MemoryError) else error


def pixels_of(image: ImageLike) -> Pixels:
    """Returns an image as RGB pixels, whatever it was given as.

    Raises:
        DataError: If it cannot be read.
    """
    if isinstance(image, str | Path):
        return decode(Path(image))
    if isinstance(image, bytes):
        return decode(BytesIO(image), "the image")
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    array: Any = image
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        shape = getattr(array, "shape", type(array).__name__)
        raise DataError(f"An image is a path, a Pillow image or uint8 [height, width, 3]; got {shape}.")
    if 0 in array.shape:
        raise DataError(f"An image has at least one pixel; got {array.shape}.")
    return array


def _name(image: ImageLike, number: int) -> str:
    return str(image) if isinstance(image, str | Path) else str(number)


def _line(view: object) -> str:
    return " ".join(str(view).split()) if isinstance(view, CytoloraError) else ""


def _batches(images: Iterable[ImageLike], size: int) -> Iterator[list[ImageLike]]:
    rest = iter(images)
    while batch := list(islice(rest, size)):
        yield batch
