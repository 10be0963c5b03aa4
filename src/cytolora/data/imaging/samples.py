"""Samples of more than 8 bits to 8 bits: bit depth, sign, value range."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cytolora.config.reading import Decoding
from cytolora.data.imaging.pixels import FEW, boxes

_MIN_BITS, _MAX_BITS = 8, 16
MIN_USED_SHARE = 0.25
"""Share of the value range below which an image counts as nearly black."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueRange:
    """From which values to which: 0 becomes black, ``top`` white."""

    top: int
    highest: int
    """The highest value in the image, but for a few hot pixels."""
    depth_top: int
    """The highest value that the bit depth allows."""

    @property
    def used_share(self) -> float:
        """Highest value by the one that becomes white."""
        return self.highest / self.top


def value_range(values: NDArray[np.integer], bits: int, declared: int | None, decoding: Decoding) -> ValueRange:
    """Decides which value becomes white.

    Args:
        bits: Of a sample, as the file says.
        declared: MaxSampleValue of the file; it counts where it is the highest of a bit depth (4,095 for 12) and no
            sample is above it: some programs write the highest of each image there, which would stretch every one
            differently.

    Raises:
        OSError: If a sample is negative, or more than a few hot ones are above the range.
    """
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0:
        raise OSError(f"signed samples down to {lowest:,}, where black is is not said; save it with unsigned samples")
    if highest > 2**_MAX_BITS - 1:
        raise OSError(
            f"{bits}-bit pixels have no fixed range, and values up to {highest:,} are more than 16 bits hold; save it "
            "with 8 bits per channel"
        )
    most = _highest_but(values, int(FEW * values.size), highest)
    depth_top = 2 ** (min(bits, _MAX_BITS) - (values.dtype.kind == "i" and bits <= _MAX_BITS)) - 1
    if declared is not None and highest <= declared < depth_top and (declared + 1).bit_count() == 1 and declared >= 255:
        depth_top = declared
    top = depth_top
    if decoding.value_range == "used":
        top = min(depth_top, bits_top(most))
    elif isinstance(decoding.value_range, int):
        top = min(depth_top, decoding.value_range)
    if most > top:
        raise OSError(
            f"values up to {most:,}, above the value range of 0 to {top:,}; read all images with one --value-range"
        )
    return ValueRange(top=top, highest=most, depth_top=depth_top)


def bits_top(highest: int) -> int:
    """Returns the highest value of the fewest bits, at least 8, that hold a value: 4,095 for 3,000."""
    return 2 ** max(_MIN_BITS, highest.bit_length()) - 1


def eight_bits(values: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    """Scales 0 to ``top`` to 0 to 255, rounded to the nearest; what is above becomes white."""
    if top == 255:
        return np.minimum(values, top).astype(np.uint8)
    table = ((np.arange(top + 1, dtype=np.int64) * 255 + top // 2) // top).astype(np.uint8)
    return table[np.minimum(values, top)]


def _highest_but(values: NDArray[np.integer], few: int, highest: int) -> int:
    """Returns the highest of height x width x samples from 0 to 65,535 but for a few; sorting would copy them all."""
    if not few:
        return highest
    counts = np.zeros(highest + 1, np.int64)
    for left, top, right, bottom in boxes(*values.shape[:2]):
        counts += np.bincount(values[top:bottom, left:right].ravel().astype(np.intp), minlength=highest + 1)
    return int(np.searchsorted(counts.cumsum(), values.size - few))
