"""Images without content: one colour, or nearly one, whatever noise a camera or JPEG adds."""

import numpy as np
from PIL import Image

from cytolora.data.imaging.pixels import Pixels

_MAX_DEVIATION = 4.0
"""Standard deviation of every channel of an image without content, in levels of 255."""
_MAX_SPREAD = 24
"""Its spread between the quantiles below: about that of noise of the deviation above."""
_QUANTILES = (0.001, 0.999)
"""A few dead pixels are no content."""
_LEVELS = np.arange(256)


def has_content(pixels: Pixels) -> bool:
    """Whether an image shows more than one colour with a little noise.

    Every channel of an image without content has at most 24 levels of 255 between its quantiles 0.001 and 0.999, and
    between these a standard deviation of at most 4 levels. docs/data.md gives the values measured on cells.
    """
    counts = np.array(Image.fromarray(pixels).histogram()).reshape(3, 256)
    return any(_varies(channel) for channel in counts)


def _varies(counts: np.ndarray) -> bool:
    number = counts.sum()
    low, high = np.searchsorted(counts.cumsum(), [share * number for share in _QUANTILES])
    if high - low > _MAX_SPREAD:
        return True
    levels = np.clip(_LEVELS, low, high)
    mean = (counts * levels).sum() / number
    return bool((counts * (levels - mean) ** 2).sum() / number > _MAX_DEVIATION**2)
