"""Images without content: one colour, or nearly one, or light that changes smoothly, whatever noise lies on it."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cytolora.data.imaging.pixels import FEW, Pixels

_MAX_DEVIATION = 4.0
"""Standard deviation of every channel of an image without content, in levels of 255."""
_MAX_SPREAD = 24
"""Its spread between the quantiles below: about that of noise of the deviation above."""
_QUANTILES = (FEW, 1 - FEW)
"""A few dead pixels are no content."""
_COARSE_PX = 64
"""Edges, at most, of the reduced image on which structure is looked for; noise of large images is averaged there."""
_MIN_EDGE_PX = 16
"""Of an image, below which a smooth one cannot be told from a cell."""
_WINDOW = 0.2
"""Edge of the window of a local mean, as a share of the image's: a cell has edges within it, uneven light has none."""
_MAX_STRUCTURE = 15.0
"""Spread, in levels of 255, of an image minus its local mean: ramps and vignettes have 2 to 14, cells 16 and more."""


def has_content(pixels: Pixels) -> bool:
    """Whether an image shows more than one colour, or light that changes smoothly, with a little noise.

    Of one colour: every channel has at most 24 levels of 255 between its quantiles 0.001 and 0.999, and between these
    a standard deviation of at most 4 levels. Smooth light: every channel minus its local mean spreads over at most
    15 levels between these quantiles, and what is finer than 1/64 of the image is noise by the first rule. docs/data.md
    gives the values measured on cells.
    """
    image = Image.fromarray(pixels)
    counts = np.array(image.histogram()).reshape(3, 256)
    if not any(_varies(channel) for channel in counts):
        return False
    if min(image.size) < _MIN_EDGE_PX:
        return True
    coarse = image.resize((min(_COARSE_PX, image.width), min(_COARSE_PX, image.height)), Image.Resampling.BOX)
    return _has_structure(coarse) or _has_detail(image, coarse)


def _has_structure(coarse: Image.Image) -> bool:
    """Whether a channel has; that of the widest range is looked at first, and of a cell alone."""
    likeliest = sorted(coarse.split(), key=lambda channel: int(np.ptp(np.asarray(channel))), reverse=True)
    return any(map(_is_structured, likeliest))


def _is_structured(channel: Image.Image) -> bool:
    values = np.asarray(channel, np.float64)
    return _spread(values - _local_mean(values)) > _MAX_STRUCTURE


def _spread(values: NDArray[np.float64]) -> float:
    """Returns what lies between the quantiles, interpolated as ``np.quantile`` does."""
    places = [(values.size - 1) * share for share in _QUANTILES]
    below = [int(place) for place in places]
    in_order = np.partition(values, sorted({*below, *(at + 1 for at in below)}), axis=None)
    low, high = (_between(in_order[at], in_order[at + 1], place - at) for at, place in zip(below, places, strict=True))
    return float(high - low)


def _between(low: float, high: float, share: float) -> float:
    return high - (high - low) * (1 - share) if share >= 0.5 else low + (high - low) * share


def _local_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means over windows of height x width, which a ramp equals; it is continued as a ramp at the edges."""
    height, width = values.shape
    return _means_along(height) @ values @ _means_along(width).T


@cache
def _means_along(length: int) -> NDArray[np.float64]:
    """The matrix that takes a column to its means over windows; the edges are reflected in value and place."""
    reach = max(1, round(length * _WINDOW / 2))
    columns = np.pad(np.eye(length), [(reach, reach), (0, 0)], mode="reflect", reflect_type="odd")
    return np.stack([columns[at : at + 2 * reach + 1].mean(axis=0) for at in range(length)])


def _has_detail(image: Image.Image, coarse: Image.Image) -> bool:
    """Whether a smooth image has a fine pattern: what its reduced form does not show is more than noise."""
    smooth = coarse.resize(image.size, Image.Resampling.BICUBIC)
    detail = np.asarray(image, np.int16) - np.asarray(smooth, np.int16) + 255
    return any(_varies(np.bincount(detail[..., channel].ravel(), minlength=511)) for channel in range(3))


def _varies(counts: np.ndarray) -> bool:
    number = counts.sum()
    low, high = np.searchsorted(counts.cumsum(), [share * number for share in _QUANTILES])
    if high - low > _MAX_SPREAD:
        return True
    levels = np.clip(np.arange(counts.size), low, high)
    mean = (counts * levels).sum() / number
    return bool((counts * (levels - mean) ** 2).sum() / number > _MAX_DEVIATION**2)
