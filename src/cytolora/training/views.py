"""Training batches: images cropped and flipped on the CPU, or on a GPU that holds the images of a small run."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.imaging.decode import Pixels
from cytolora.data.imaging.views import to_batch, training_view
from cytolora.training.loop import Images, TrainingBatch

RESIDENT_BYTES = 2**31
"""Size of the decoded images of a run that a GPU holds, at most: 2 GiB, all images of any few-shot run of the paper."""


def training_batches(
    native: Callable[[int], Pixels],
    num_images: int,
    preprocess: Preprocess,
    augment: AugmentSpec,
    *,
    seed: int,
    device: torch.device,
) -> TrainingBatch:
    """Returns what makes the batches of a run, on ``device`` where its images fit there.

    Crops and flips are those of the CPU, whatever the device. The resizing of a GPU rounds at another place than the
    CPU's: on noise pixels differ by 0.2 levels of 255 on average (tests/training/test_views.py).

    Args:
        native: Returns the decoded image at an index of the training list.
    """
    on_device = None if device.type == "cpu" else resident(native, num_images, device)

    def batch(indices: Sequence[int], epoch: int) -> Images:
        images = [native(index) if on_device is None else on_device[index] for index in indices]
        seeds = [(seed, epoch, index) for index in indices]
        views = [
            training_view(image, preprocess, augment, seed=of_image)
            for image, of_image in zip(images, seeds, strict=True)
        ]
        return to_batch(views, preprocess, device)

    return batch


def resident(
    native: Callable[[int], Pixels], num_images: int, device: torch.device
) -> list[UInt8[Tensor, "3 _ _"]] | None:
    """Moves decoded images to a device; None if they would take more than ``RESIDENT_BYTES``."""
    if sum(native(index).nbytes for index in range(num_images)) > RESIDENT_BYTES:
        return None
    return [torch.from_numpy(np.array(native(index))).permute(2, 0, 1).to(device) for index in range(num_images)]
