"""Ten drawn images of odd sizes, for comparisons from the pixels on."""

import numpy as np
from PIL import Image

from cytolora.data.imaging.decode import Pixels

SIZES = (
    (211, 307), (768, 431), (95, 64), (224, 224), (640, 97), (431, 768), (333, 333), (1023, 517), (41, 57), (451, 300),
)  # fmt: skip
"""Width and height in pixels: square and not, smaller and larger than any encoder's input. On some of them the crop's
offset is half a pixel, which libraries round in two ways."""
_NOISE_LEVELS = 25
"""Largest change of a pixel, of 255: detail that a wrong filter or crop would move."""


def drawn_images(seed: int = 0) -> list[Pixels]:
    """Draws an image of every size, with detail at every scale: uint8 [height, width, 3]."""
    random, drawn = np.random.default_rng(seed), []
    for width, height in SIZES:
        coarse = Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
        noisy = smooth + random.integers(-_NOISE_LEVELS, _NOISE_LEVELS + 1, smooth.shape)
        drawn.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return drawn
