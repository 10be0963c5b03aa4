"""What training asks of the maker of its batches."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cytolora.config.run import Budget, TrainSpec
from cytolora.models.encoder_with_head import EncoderWithHead
from cytolora.training.group import ALONE
from cytolora.training.loop import add_gradients, fit, images_at_once
from cytolora.training.passes import passes


class _Mean(nn.Module):
    """The least encoder that an image can go through."""

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
        EncoderWithHead(_Mean(), 2),  # pyright: ignore[reportArgumentType]
        batch,
        torch.tensor([0, 1] * 5),
        train,
        learning_rate=1e-3,
        num_steps=7,
        order=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    assert asked == [(0, 4), (0, 4), (0, 2), (1, 4), (1, 4), (1, 2), (2, 4)]


class _Small(nn.Module):
    """An encoder that trains, and writes down how many images go through it at once."""

    feature_dim = 8

    def __init__(self, norm: type[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 8), norm(8), nn.GELU())
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return self.layers(images.mean(dim=(2, 3)))


def _fitted(encoder: _Small, batch_size: int) -> EncoderWithHead:
    torch.manual_seed(0)
    for layer in encoder.layers.children():
        getattr(layer, "reset_parameters", lambda: None)()
    classifier, images = EncoderWithHead(encoder, 2), torch.rand(40, 3, 4, 4)  # pyright: ignore[reportArgumentType]
    fit(
        classifier,
        lambda indices, epoch: images[indices],
        torch.tensor([0, 1] * 20),
        TrainSpec(budget=Budget(amount=1, unit="epochs"), batch_size=batch_size, warmup_steps=0),
        learning_rate=1e-2,
        num_steps=6,
        order=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
    )
    return classifier


def test_large_batches_go_through_the_encoder_in_passes_and_train_what_whole_ones_train(
    monkeypatch: pytest.MonkeyPatch,
):
    parts = _Small(nn.LayerNorm)
    in_parts = _fitted(parts, 40).state_dict()
    assert set(parts.seen) <= {13, 14}
    monkeypatch.setattr("cytolora.training.loop._AT_ONCE", 1000)
    whole = _Small(nn.LayerNorm)
    expected = _fitted(whole, 40).state_dict()
    assert set(whole.seen) == {40}
    for name, tensor in expected.items():
        torch.testing.assert_close(in_parts[name], tensor, rtol=1e-4, atol=1e-5)


def test_passes_add_up_to_the_gradients_and_the_loss_of_the_whole_batch():
    torch.manual_seed(0)
    classifier = EncoderWithHead(_Small(nn.LayerNorm), 2)  # pyright: ignore
    images, labels = torch.rand(40, 3, 4, 4), torch.tensor([0, 1] * 20)
    divided = passes(40, images_at_once(classifier, torch.device("cpu")), ALONE, None)
    loss = add_gradients(classifier, images, labels, divided)
    found = {
        name: parameter.grad.clone() for name, parameter in classifier.named_parameters() if parameter.grad is not None
    }
    classifier.zero_grad()
    whole = F.cross_entropy(classifier(images), labels)
    whole.backward()
    assert loss.item() == pytest.approx(whole.item(), abs=1e-6)
    for name, parameter in classifier.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_a_norm_over_the_batch_sees_all_of_it():
    encoder = _Small(nn.BatchNorm1d)
    _fitted(encoder, 40)
    assert set(encoder.seen) == {40}
