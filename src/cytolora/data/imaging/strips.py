"""Images too long and narrow to be scaled: a strip of one pixel's height would fill the memory."""

from cytolora.config.run import Preprocess
from cytolora.data.imaging.decode import Pixels
from cytolora.errors import DataError

_MAX_EDGE = 2**16
"""Of an image after scaling, before its centre is cut out, pixels."""


def check_shape(pixels: Pixels, preprocess: Preprocess) -> None:
    """Raises a DataError if scaling the shorter edge to the encoder's input would blow the longer one up."""
    height, width, _ = pixels.shape
    longest = preprocess.shorter_px * max(height, width) / min(height, width)
    if preprocess.resize == "shortest" and longest > _MAX_EDGE:
        raise DataError(f"An image of {width} x {height} pixels is too long and narrow to be looked at.")
