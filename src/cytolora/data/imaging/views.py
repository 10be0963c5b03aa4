"""Pixels to tensors: the backbone's own preprocessing, and augmentation for training."""

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.core.files import canonical_json, sha256_text
from cytolora.data.imaging.cache import PixelCache
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.strips import check_shape
from cytolora.data.manifest import Sample

_INTERPOLATION = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}
_PROPORTIONS = (3 / 4, 4 / 3)
"""Width by height of a training crop: torchvision's default, which the paper's public code leaves as it is."""
_MAX_TRIES = 10


def evaluation_view(pixels: Pixels, preprocess: Preprocess) -> Tensor:
    """Resizes as the checkpoint's own library does (Pillow's filters) and crops the centre: uint8 [3, size, size].

    The crop's offset is torchvision's, which rounds; transformers floors it (docs/models.md).
    """
    size = preprocess.size_px
    return tvf.pil_to_tensor(tvf.center_crop(_resized(pixels, preprocess), [size, size]))


def uncropped_view(pixels: Pixels, preprocess: Preprocess) -> Tensor:
    """Resizes as ``evaluation_view`` does, and crops nothing: uint8 [3, height, width]."""
    return tvf.pil_to_tensor(_resized(pixels, preprocess))


def _resized(pixels: Pixels, preprocess: Preprocess) -> Any:
    check_shape(pixels, preprocess)
    size = preprocess.size_px
    shape = [size, size] if preprocess.resize == "squash" else [preprocess.shorter_px]
    image: Any = Image.fromarray(pixels)  # torchvision's annotations know tensors only
    return tvf.resize(image, shape, interpolation=_INTERPOLATION[preprocess.interpolation])


def kept_evaluation_view(cache: PixelCache, sample: Sample, preprocess: Preprocess) -> Tensor:
    """Returns ``evaluation_view`` of the whole image, made once for all runs of a store."""
    recipe = ["evaluation", preprocess.size_px, preprocess.interpolation, preprocess.resize]
    name = sha256_text(canonical_json(recipe if preprocess.resize_px is None else [*recipe, preprocess.resize_px]))

    def make(pixels: Pixels) -> Pixels:
        return evaluation_view(pixels, preprocess).permute(1, 2, 0).contiguous().numpy()

    return torch.from_numpy(cache.view(sample, name[:16], make).copy()).permute(2, 0, 1)


def training_view(
    pixels: Pixels | Tensor, preprocess: Preprocess, augment: AugmentSpec, *, seed: Sequence[int]
) -> Tensor:
    """Crops and flips at random: uint8 [3, size, size].

    One image at a time: each has a size and a crop of its own, and resizing, three quarters of the time (measured by
    benchmarks/augmentation.py), has no whole-batch form that filters as well. What can be done to a batch is done to
    it in ``to_batch``.

    Args:
        pixels: Decoded [height, width, 3], or a tensor [3, height, width] on the device where the view is made.
        seed: Decides everything (run, epoch, place in the training list): views may be made in any order.
    """
    random = np.random.default_rng(list(seed))
    tall, wide = pixels.shape[-2:] if isinstance(pixels, Tensor) else pixels.shape[:2]
    box = _crop(tall, wide, augment.min_scale, random)
    is_flipped = random.random() < augment.flip
    view = tvf.resize(
        _cut(pixels, *box),
        [preprocess.size_px, preprocess.size_px],
        interpolation=_INTERPOLATION[augment.interpolation or preprocess.interpolation],
        antialias=True,
    )
    return tvf.horizontal_flip(view) if is_flipped else view


def _cut(pixels: Pixels | Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    if isinstance(pixels, Tensor):
        return pixels[:, top : top + height, left : left + width]
    crop = np.array(pixels[top : top + height, left : left + width])  # of a mapped image, only this is read
    return torch.from_numpy(crop).permute(2, 0, 1)


def _crop(height: int, width: int, min_scale: float, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Draws top, left, height and width: share of the area and logarithm of the proportions uniform.

    What does not fit the image is drawn again, ten times, as torchvision's RandomResizedCrop does; then the whole
    image is taken, cut in its middle to the proportions allowed.
    """
    for _ in range(_MAX_TRIES):
        area = height * width * random.uniform(min_scale, 1.0)
        proportion = exp(random.uniform(log(_PROPORTIONS[0]), log(_PROPORTIONS[1])))
        down, across = round(sqrt(area / proportion)), round(sqrt(area * proportion))
        if 0 < down <= height and 0 < across <= width:
            return int(random.integers(height - down + 1)), int(random.integers(width - across + 1)), down, across
    across = min(width, max(1, round(height * _PROPORTIONS[1])))
    down = min(height, max(1, round(width / _PROPORTIONS[0])))
    return (height - down) // 2, (width - across) // 2, down, across


def to_batch(views: Sequence[Tensor], preprocess: Preprocess, device: torch.device | None = None) -> Tensor:
    """Stacks uint8 views and normalises them: float32 [images, 3, size, size].

    Args:
        device: Where to; bytes travel, not floats. The views' own if None.
    """
    batch = torch.stack(list(views)).to(device).to(torch.float32).div_(255)
    mean, std = (
        torch.tensor(values, device=batch.device).view(3, 1, 1) for values in (preprocess.mean, preprocess.std)
    )
    return batch.sub_(mean).div_(std)
