"""Pixels to tensors: the backbone's own preprocessing, and augmentation for training."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from cytolora.specs import AugmentSpec, Preprocess

_INTERPOLATION = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}


def evaluation_view(pixels: np.ndarray, preprocess: Preprocess) -> Tensor:
    """Resizes as the checkpoint's own library does (Pillow's filters) and crops the centre: uint8 [3, size, size]."""
    size = preprocess.size_px
    shape = [size, size] if preprocess.resize == "squash" else [size]
    image: Any = Image.fromarray(pixels)  # torchvision's annotations know tensors only
    resized = tvf.resize(image, shape, interpolation=_INTERPOLATION[preprocess.interpolation])
    return tvf.pil_to_tensor(tvf.center_crop(resized, [size, size]))


def training_view(pixels: np.ndarray, preprocess: Preprocess, augment: AugmentSpec | None) -> Tensor:
    """Crops and flips at random, from torch's global random state: uint8 [3, size, size]."""
    if augment is None:
        return evaluation_view(pixels, preprocess)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)  # cached pixels are read-only, which torch has no word for
    top, left, height, width = v2.RandomResizedCrop(1, scale=(augment.min_scale, 1.0)).make_params([image]).values()
    size = [preprocess.size_px, preprocess.size_px]
    mode = _INTERPOLATION[preprocess.interpolation]
    view = tvf.resized_crop(image, top, left, height, width, size, interpolation=mode, antialias=True)
    return tvf.horizontal_flip(view) if torch.rand(()) < augment.flip else view


def to_batch(views: Sequence[Tensor], preprocess: Preprocess) -> Tensor:
    """Stacks uint8 views and normalises them: float32 [images, 3, size, size]."""
    batch = torch.stack(list(views)).to(torch.float32).div_(255)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocess.mean, preprocess.std))
    return batch.sub_(mean).div_(std)
