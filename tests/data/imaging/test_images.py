"""Training views: a pure function of image, settings and seed, and the crop of the paper's public code."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from cytolora.config.run import AugmentSpec, Preprocess
from cytolora.data.imaging.views import _crop, training_view

PREPROCESS = Preprocess(size_px=32, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
AUGMENT = AugmentSpec()


@pytest.fixture(scope="module")
def cell() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    pixels.flags.writeable = False
    return pixels


def test_views_may_be_made_in_any_order_and_leave_the_global_random_states_alone(cell: np.ndarray):
    seeds = [(1, epoch, place) for epoch in range(3) for place in range(4)]
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())
    forward = {seed: training_view(cell, PREPROCESS, AUGMENT, seed=seed) for seed in seeds}
    assert (torch.get_rng_state() == torch_state).all()
    assert repr(np.random.get_state()) == numpy_state
    torch.rand(5)
    backward = {seed: training_view(cell, PREPROCESS, AUGMENT, seed=seed) for seed in reversed(seeds)}
    assert all((forward[seed] == backward[seed]).all() for seed in seeds)


def test_every_run_epoch_and_place_sees_another_view(cell: np.ndarray):
    seeds = [(run, epoch, place) for run in (1, 2) for epoch in range(4) for place in range(4)]
    views = {training_view(cell, PREPROCESS, AUGMENT, seed=seed).numpy().tobytes() for seed in seeds}
    assert len(views) == len(seeds)


def test_a_view_is_torchvisions_own_resized_crop(cell: np.ndarray):
    augment = AugmentSpec(flip=0.0)
    view = training_view(cell, PREPROCESS, augment, seed=(1, 2, 3))
    top, left, height, width = _crop(60, 80, augment.min_scale, np.random.default_rng([1, 2, 3]))
    image = torch.from_numpy(cell.copy()).permute(2, 0, 1)
    bicubic = v2.InterpolationMode.BICUBIC
    expected = v2.functional.resized_crop(image, top, left, height, width, [32, 32], interpolation=bicubic)
    assert (view == expected).all()


def test_a_crop_is_resized_as_its_augmentation_says_whatever_the_backbones_own(cell: np.ndarray):
    bilinear, asked = replace(PREPROCESS, interpolation="bilinear"), AugmentSpec(interpolation="bicubic")
    views = [training_view(cell, *given, seed=(1,)) for given in ((PREPROCESS, AUGMENT), (bilinear, asked))]
    assert (views[0] == views[1]).all()
    assert (training_view(cell, bilinear, AugmentSpec(), seed=(1,)) != views[0]).any()


def test_flips_are_as_frequent_as_asked_for():
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:, 4:] = 255
    always, never = AugmentSpec(flip=1.0), AugmentSpec(flip=0.0)
    assert training_view(halves, PREPROCESS, always, seed=[0])[0, 0, 0] == 255
    assert training_view(halves, PREPROCESS, never, seed=[0])[0, 0, 0] == 0
    views = [training_view(halves, PREPROCESS, AUGMENT, seed=[number]) for number in range(400)]
    assert 160 < sum(int(view[0, 0, 0]) == 255 for view in views) < 240


@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(0.01, 1.0), st.integers(0, 2**32))
def test_every_crop_lies_in_the_image(height: int, width: int, min_scale: float, seed: int):
    top, left, down, across = _crop(height, width, min_scale, np.random.default_rng(seed))
    assert min(down, across) >= 1
    assert min(top, left) >= 0
    assert top + down <= height
    assert left + across <= width


def test_crops_have_the_area_and_proportions_of_torchvisions_random_resized_crop():
    """Means over 3,000 draws of either, within four standard errors."""
    image, crop = torch.zeros(3, 60, 80, dtype=torch.uint8), v2.RandomResizedCrop(1, scale=(0.7, 1.0))
    torch.manual_seed(0)
    theirs = np.array([list(crop.make_params([image]).values()) for _ in range(3000)], float)
    random = np.random.default_rng(0)
    ours = np.array([_crop(60, 80, 0.7, random) for _ in range(3000)], float)
    for ours_column, theirs_column in zip(ours.T, theirs.T, strict=True):
        error = np.hypot(ours_column.std(), theirs_column.std()) / np.sqrt(3000)
        assert abs(ours_column.mean() - theirs_column.mean()) < 4 * error
        assert ours_column.std() == pytest.approx(theirs_column.std(), rel=0.1)
