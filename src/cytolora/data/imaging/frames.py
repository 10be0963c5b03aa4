"""Choice among the frames of a file: by number, the middle one, the sharpest, or the maximum over all."""

from collections.abc import Callable

import numpy as np

from cytolora.config.reading import Frame
from cytolora.data.imaging.pixels import Pixels


def choose(count: int, read: Callable[[int], Pixels], frame: Frame) -> Pixels:
    """Reads the frame that was chosen; no more than two frames are held at once.

    Args:
        read: Gives the pixels of a frame, from 0.

    Raises:
        OSError: If there is no such frame, or frames of different sizes have no maximum.
    """
    match frame:
        case int():
            if frame >= count:
                raise OSError(f"{count} frames, and frame {frame} was chosen; they are counted from 0")
            return read(frame)
        case "middle":
            return read(count // 2)
        case "sharpest":
            return read(max(range(count), key=lambda number: sharpness(read(number))))
        case "max":
            return _maximum(count, read)


def sharpness(pixels: Pixels) -> float:
    """Variance of the Laplacian of the mean of the channels (Pech-Pacheco et al. 2000, doi:10.1109/ICPR.2000.903548).

    Of 2 x 2 means, so that the noise of a blurred frame counts less than the edges of a sharp one.
    """
    gray = pixels.mean(axis=2)
    height, width = (edge - edge % 2 for edge in gray.shape)
    if min(height, width) >= 6:
        gray = gray[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    padded = np.pad(gray, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return float((around - 4 * gray).var())


def _maximum(count: int, read: Callable[[int], Pixels]) -> Pixels:
    highest = read(0)
    for number in range(1, count):
        pixels = read(number)
        if pixels.shape != highest.shape:
            raise OSError("frames of different sizes have no maximum; choose one with --frame N")
        highest = np.maximum(highest, pixels)
    return highest
