"""The training loop: order of batches, schedule, and what stays the same."""

import math
from collections import Counter
from itertools import chain, pairwise

import pytest
import torch

from cytolora.config.run import Budget, TrainSpec
from cytolora.training.loop import batches, rate_at

TRAIN = TrainSpec(budget=Budget(amount=1, unit="epochs"))


def test_every_epoch_sees_every_image_once_in_another_order():
    order = torch.Generator().manual_seed(0)
    seen = [batch.tolist() for batch in batches(70, 32, 6, order)]
    assert [len(batch) for batch in seen] == [32, 32, 6, 32, 32, 6]
    first, second = list(chain(*seen[:3])), list(chain(*seen[3:]))
    assert Counter(first) == Counter(second) == Counter(range(70))
    assert first != second


def test_training_stops_in_the_middle_of_an_epoch_when_the_budget_is_spent():
    assert len(list(batches(70, 32, 4, torch.Generator().manual_seed(0)))) == 4


def test_the_rate_rises_over_50_steps_and_falls_along_a_cosine_to_1e_6():
    """The schedule of the paper's public code: linear warm-up, then cosine to 1e-6 over the rest."""
    rates = [rate_at(step, 850, 1e-3, TRAIN) for step in range(850)]
    assert rates[0] == pytest.approx(1e-3 / 50)
    assert rates[49] == rates[50] == pytest.approx(1e-3)
    assert rates[450] == pytest.approx(1e-6 + (1e-3 - 1e-6) / 2)
    assert rates[-1] == pytest.approx(1e-6, rel=0.05)
    assert all(a >= b for a, b in pairwise(rates[49:]))


def test_the_cosine_is_torchs_own():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=800, eta_min=1e-6)
    for step in range(50, 850):
        assert math.isclose(rate_at(step, 850, 1e-3, TRAIN), cosine.get_last_lr()[0], rel_tol=1e-9, abs_tol=1e-12)
        optimiser.step()
        cosine.step()


def test_a_budget_shorter_than_the_warm_up_only_rises():
    rates = [rate_at(step, 2, 1e-3, TRAIN) for step in range(2)]
    assert rates == pytest.approx([2e-5, 4e-5])
