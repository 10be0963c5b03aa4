"""Images without content: one colour, or nearly one, whatever noise a camera or JPEG adds."""

import numpy as np
from PIL import Image

from cytolora.data.imaging.pixels import Pixels

_MAX_DEVIATION = 4.0
"""Standard deviation of every channel of an image without content, in levels of 255."""
_MAX_SPREAD = 20
"""Its spread between the quantiles below; noise of the deviation above stays a little above or below it."""
_QUANTILES = (0.005, 0.995)
_LEVELS = np.arange(256)


def has_content(pixels: Pixels) -> bool:
    """Whether an image shows more than one colour with a little noise.

    Every channel of an image without content has a standard deviation of at most 4 levels of 255, and at most 20
    levels between its quantiles 0.005 and 0.995. docs/data.md gives the values measured on cells.
    """
    counts = np.array(Image.fromarray(pixels).histogram()).reshape(3, 256)
    return any(_varies(channel) for channel in counts)


def _varies(counts: np.ndarray) -> bool:
    number = counts.sum()
    mean = (counts * _LEVELS).sum() / number
    if (counts * (_LEVELS - mean) ** 2).sum() / number > _MAX_DEVIATION**2:
        return True
    low, high = np.searchsorted(counts.cumsum(), [share * number for share in _QUANTILES])
    return bool(high - low > _MAX_SPREAD)
