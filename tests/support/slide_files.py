"""Small slides in the layouts that openslide reads."""

from pathlib import Path

import numpy as np
import pytest

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")


MPP = 0.5


def write_slide(path: Path, *, mpp: float | None = MPP, edge: int = 512) -> np.ndarray:
    """A pyramid of two levels in tiles, as scanners write it: every pixel says where it is."""
    down, across = np.mgrid[:edge, :edge]
    pixels = np.stack([across % 256, down % 256, (across // 256) * 16 + down // 256], axis=-1).astype(np.uint8)
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    options = {"photometric": "rgb", "tile": (128, 128), "metadata": None, **resolution}
    with tifffile.TiffWriter(path) as writer:
        writer.write(pixels, **options)
        writer.write(pixels[::2, ::2], subfiletype=1, **options)
    return pixels
