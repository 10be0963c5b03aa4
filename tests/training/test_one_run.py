"""What training asks of the maker of its batches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cytolora.models.classifier import Classifier
from cytolora.specs import Budget, TrainSpec
from cytolora.training.loop import fit


class _Mean(nn.Module):
    """The least tower that an image can go through."""

    feature_dim = 3

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


def test_every_batch_is_asked_for_with_its_epoch():
    asked: list[tuple[int, int]] = []

    def batch(indices: Sequence[int], epoch: int) -> Tensor:
        asked.append((epoch, len(indices)))
        return torch.rand(len(indices), 3, 4, 4)

    train = TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=4)
    fit(
        Classifier(_Mean(), 2),  # pyright: ignore[reportArgumentType]
        batch,
        torch.tensor([0, 1] * 5),
        train,
        learning_rate=1e-3,
        num_steps=7,
        order=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    assert asked == [(0, 4), (0, 4), (0, 2), (1, 4), (1, 4), (1, 2), (2, 4)]
