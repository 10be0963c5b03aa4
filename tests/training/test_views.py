"""Training views made elsewhere, or by others in advance, are those that one process makes one by one."""

import threading
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.imaging.views import training_view
from cytolora.training import loop, views
from cytolora.training.loop import _in_time

VIEW = Preprocess(size_px=24, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.2), interpolation="bicubic", resize="shortest")
IMAGES = [np.random.default_rng(seed).integers(0, 256, (30 + seed, 40 - seed, 3), dtype=np.uint8) for seed in range(5)]
CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(8))
def test_a_view_of_a_tensor_is_that_of_its_pixels(seed: int):
    pixels, augment = IMAGES[seed % 5], AugmentSpec()
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    found, expected = (training_view(image, VIEW, augment, seed=(seed,)) for image in (tensor, pixels))
    assert torch.equal(found, expected)


def test_resizing_in_floats_as_a_gpu_does_differs_little_even_on_noise():
    """Off the CPU torch resizes floats and rounds at the end; here that runs on the CPU."""
    tensor = torch.from_numpy(IMAGES[0]).permute(2, 0, 1)
    exact = training_view(tensor, VIEW, AugmentSpec(), seed=(3,))
    floats = training_view(tensor.to(torch.float32), VIEW, AugmentSpec(), seed=(3,)).clamp(0, 255).round()
    difference = (floats - exact).abs()
    assert difference.mean() < 0.5
    assert (difference > 1).float().mean() < 0.01  # where a bicubic overshoot is cut off half-way


def test_images_that_live_on_a_device_give_the_batches_of_the_disk(monkeypatch: pytest.MonkeyPatch):
    arguments = {"preprocess": VIEW, "augment": AugmentSpec(), "seed": 7, "device": CPU}
    plain = views.training_batches(IMAGES.__getitem__, 5, **arguments)
    kept = views.resident(IMAGES.__getitem__, 5, CPU)
    assert kept is not None
    living = views.training_batches(kept.__getitem__, 5, **arguments)  # pyright: ignore[reportArgumentType]
    assert torch.equal(living([4, 1], 3), plain([4, 1], 3))
    assert not torch.equal(living([4, 1], 3), plain([4, 1], 2))
    monkeypatch.setattr(views, "RESIDENT_BYTES", 100)
    assert views.resident(IMAGES.__getitem__, 5, CPU) is None


@pytest.mark.parametrize("ahead", [0, 1, 3, 20])
def test_batches_made_in_advance_come_in_order_and_each_once(ahead: int):
    asked: list[int] = []

    def batch(indices: Sequence[int], epoch: int) -> Tensor:
        asked.append(epoch)
        return torch.tensor([*indices, epoch])

    wanted = [(torch.tensor([place, place + 1]), place) for place in range(9)]
    found = list(_in_time(batch, wanted, ahead=ahead))
    assert [images.tolist() for _, images in found] == [[place, place + 1, place] for place in range(9)]
    assert [indices.tolist() for indices, _ in found] == [[place, place + 1] for place in range(9)]
    assert sorted(asked) == list(range(9))


def test_a_damaged_image_in_advance_ends_training_with_its_own_error():
    def batch(indices: Sequence[int], epoch: int) -> Tensor:
        if epoch == 2:
            raise OSError("image 2 is damaged")
        return torch.zeros(1)

    with pytest.raises(OSError, match="image 2 is damaged"):
        list(_in_time(batch, [(torch.tensor([0]), place) for place in range(5)], ahead=3))


def test_whoever_stops_early_leaves_no_thread_at_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(loop, "_NUM_THREADS", 2)
    before = set(threading.enumerate())
    endless = _in_time(lambda indices, epoch: torch.zeros(1), ((torch.tensor([0]), n) for n in range(10**6)), ahead=4)
    next(endless)
    del endless  # as a loop that is left does
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()
